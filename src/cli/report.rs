//! Tables of figures, for people and for Markdown. Each says its protocol.

use super::show::{self, against, part, thousands};
use crate::evaluate::{Beyond, Bucket, Difference, Evaluation, Interval};
use indexmap::IndexMap;

/// A table under a line that says what it is of.
pub(super) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: String, head: &[&str]) -> Table {
        Table { title, head: head.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The first column to the left, the others to the right.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&Vec<String>> = std::iter::once(&self.head).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = format!("  {}:", self.title);
        for line in lines {
            text += &format!("\n    {:<1$}", line[0], widths[0]);
            line.iter().zip(&widths).skip(1).for_each(|(cell, width)| text += &format!("  {cell:>width$}"));
        }
        text
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = (0..self.head.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}\n\n{}{}{rows}", self.title, line(&self.head), line(&rule))
    }
}

fn protocol(of: &Evaluation) -> String {
    format!("{} protocol, {}", show::protocol(of.protocol), against(of.protocol, of.competitors, of.prior))
}

fn between([low, high]: Interval) -> String {
    format!("{low:.4} to {high:.4}")
}

/// An evaluation's figures, with their intervals where these are known.
pub(super) fn evaluation(of: &Evaluation, intervals: Option<&IndexMap<String, Interval>>) -> Table {
    let Evaluation { users, metrics, .. } = of;
    let title = format!("{}, {} users, {}", part(of.part), thousands(*users), protocol(of));
    let head = ["figure", "value", "95% interval"];
    let mut table = Table::new(title, &head[..if intervals.is_some() { 3 } else { 2 }]);
    for (name, value) in metrics {
        let interval = intervals.and_then(|intervals| intervals.get(name)).map(|&interval| between(interval));
        table.row([show::spelled(name), format!("{value:.4}")].into_iter().chain(interval));
    }
    table
}

/// What lists are like, and recall by popularity.
pub(super) fn beyond(of: &Beyond) -> [Table; 2] {
    let Beyond { users, k, counts, history_excluded, .. } = of;
    let without = if *history_excluded { "without" } else { "with" };
    let lists = format!(
        "{}, lists of {k} for {} users, from the whole catalogue ({} items) {without} items of the history",
        part(of.part),
        thousands(*users),
        thousands(counts.items)
    );
    let mut table = Table::new(lists, &["figure", "value"]);
    let maybe = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    table.row([format!("Coverage@{k}"), format!("{:.4}", of.coverage)]);
    table.row([format!("Gini@{k}"), format!("{:.4}", of.gini)]);
    table.row([format!("Novelty@{k} (bits)"), format!("{:.4}", of.novelty)]);
    table.row([format!("Mean popularity@{k}"), format!("{:.1}", of.popularity)]);
    table.row(["Mean popularity of the truth".to_owned(), format!("{:.1}", of.popularity_of_truth)]);
    table.row([format!("Diversity@{k} (vectors)"), maybe(of.diversity)]);
    if of.category_diversity.is_some() {
        table.row([format!("Diversity@{k} (categories)"), maybe(of.category_diversity)]);
    }
    let title = format!("{}, Recall@{k} by popularity in training, full protocol", part(of.part));
    let recall = format!("Recall@{k}");
    let mut buckets = Table::new(title, &["items", "number", "interactions each", "users", &recall]);
    for Bucket { name, items, interactions: [least, most], users, recall } in &of.recall {
        let [items, users] = [*items, *users].map(thousands);
        buckets.row([(*name).to_owned(), items, format!("{least} to {most}"), users, maybe(*recall)]);
    }
    [table, buckets]
}

/// Two runs' figures.
pub(super) fn differences(of: &Evaluation, names: [&str; 2], differences: &IndexMap<String, Difference>) -> Table {
    let [first, second] = names;
    let title = format!("{}, {} users, {}: {first} less {second}", part(of.part), thousands(of.users), protocol(of));
    let mut table = Table::new(title, &["figure", first, second, "difference", "95% interval", "p"]);
    for (name, difference) in differences {
        let Difference { first, second, difference, interval, p } = *difference;
        table.row([
            show::spelled(name),
            format!("{first:.4}"),
            format!("{second:.4}"),
            format!("{difference:+.4}"),
            format!("{:+.4} to {:+.4}", interval[0], interval[1]),
            format!("{p:.4}"),
        ]);
    }
    table
}
