//! The page: what runs recorded and what their models make of items and users, as HTML that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::chart::{self, Series, number, percent};
use super::figures::{self, Table};
use super::inside::{Inside, Map, User};
use super::record::{Epoch, Record};
use crate::evaluate::Protocol;
use crate::kernels::MAX_INTENTIONS;
use crate::settings::section;

/// Colours in style.css; more intentions or runs than these have hues of their own.
const COLOURS: usize = 8;
/// Items named for an intention.
const NAMED: usize = 4;

/// Charts of losses and speed, and of which figures in validation.
type OfEpoch = fn(&Epoch) -> Option<f64>;
/// At which epoch which figure, where it is a number.
type Points = Vec<(f64, Option<f64>)>;
const LOSSES: [(&str, OfEpoch); 3] = [
    ("Loss seq2item, per example", |epoch| epoch.loss_s2i),
    ("Loss seq2seq, per selected pair", |epoch| epoch.loss_s2s),
    ("Loss in all, per example", |epoch| epoch.loss_total),
];
const SPEED: (&str, OfEpoch) = ("Training examples a second", |epoch| epoch.examples_per_second);
const VALIDATED: [&str; 3] = ["ndcg@10", "recall@10", "mrr"];
const PROTOCOLS: [(Protocol, &str, &str); 2] = [
    (Protocol::Sampled, "sampled", "the truth against 100 popular items that the user never met"),
    (Protocol::Full, "full", "the truth against the whole catalogue"),
];

/// A run and what its model makes of items and users, where that could be seen.
pub struct Reported {
    pub record: Record,
    pub inside: Option<Inside>,
}

/// The whole page.
pub fn page(runs: &[Reported]) -> String {
    let records: Vec<&Record> = runs.iter().map(|run| &run.record).collect();
    let title = match &records[..] {
        [record] => format!("Run {}", record.name()),
        records => format!("{} runs", records.len()),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · prismrec" }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(colours())) }
            }
            body {
                header { (heading(&title, &records)) }
                @if let [record] = &records[..] { (tiles(record)) }
                (curves(&records))
                h2 { "Figures" }
                p.soft { "Validation picks the epoch by NDCG@10; the test figures are those of that epoch. Ties count against the truth." }
                div.grid.tables { @for figures in figures::tables(&records) { (table(&records, &figures)) } }
                (settings(&records))
                @for run in runs { (inside(run, runs.len() > 1)) }
                footer { "Made by prismrec " (env!("CARGO_PKG_VERSION")) ". The page is complete: it loads nothing." }
            }
        }
    };
    page.into_string()
}

/// A class for every run's and every intention's colour.
fn colours() -> String {
    let colour = |n: usize| {
        if n < COLOURS { format!("var(--c{n})") } else { format!("hsl({} 50% 52%)", (n * 137 + 20) % 360) }
    };
    (0..MAX_INTENTIONS).map(|n| format!(".r{n},.i{n}{{--c:{}}}\n", colour(n))).collect()
}

/// The number of a run's colour.
fn colour(run: usize) -> usize {
    run % MAX_INTENTIONS
}

fn heading(title: &str, records: &[&Record]) -> Markup {
    let first = &records[0];
    let differs = records.iter().any(|record| record.start.counts != first.start.counts);
    let seeds = records.iter().any(|record| record.settings.data_seed != first.settings.data_seed);
    html! {
        h1 { (title) }
        ul.runs {
            @for (n, record) in records.iter().enumerate() {
                @let counts = record.start.counts;
                li {
                    @if records.len() > 1 { span class={ "swatch r" (colour(n)) } {} }
                    @if records.len() > 1 { b { (record.name()) } " " }
                    span.soft {
                        @if record.settings.data.is_empty() { "generated data" } @else { (record.settings.data.to_string()) }
                        ": " (thousands(counts.users)) " users, " (thousands(counts.items)) " items, "
                        (thousands(counts.interactions)) " interactions; " (thousands(record.start.parameters)) " parameters; "
                        "engine " (record.start.engine) ", " (record.start.adapter)
                        @if record.test.is_none() { "; not tested yet" }
                    }
                }
            }
        }
        @if differs {
            p { b { "These runs are of different data: their figures do not compare." } }
        } @else if seeds {
            p { b { "These runs have different data seeds: the sampled protocol draws other items to rank against." } }
        }
    }
}

/// A single run's main figures.
fn tiles(record: &Record) -> Markup {
    let figure = |protocol, name| record.test.as_ref().and_then(|test| test.figures.figure(protocol, name));
    let tiles = [
        ("best epoch in validation", record.best().map(|best| number(best.epoch as f64))),
        ("test NDCG@10, sampled", figure(Protocol::Sampled, "ndcg@10").map(|value| format!("{value:.4}"))),
        ("test Recall@10, sampled", figure(Protocol::Sampled, "recall@10").map(|value| format!("{value:.4}"))),
        ("test NDCG@10, full", figure(Protocol::Full, "ndcg@10").map(|value| format!("{value:.4}"))),
        ("test Recall@10, full", figure(Protocol::Full, "recall@10").map(|value| format!("{value:.4}"))),
        ("training time", Some(figures::duration(record.seconds()))),
    ];
    html! {
        div.grid.tiles {
            @for (what, value) in tiles {
                div.card.tile { b { (value.as_deref().unwrap_or("–")) } span { (what) } }
            }
        }
    }
}

/// Learning curves, all runs in each.
fn curves(records: &[&Record]) -> Markup {
    let series = |points: &dyn Fn(&Record) -> Points, mark: bool| -> Vec<Series> {
        let line = |(n, record): (usize, &&Record)| {
            let points = points(record).into_iter().filter_map(|(at, value)| Some((at, value?))).collect::<Vec<_>>();
            let marked = record.best().filter(|_| mark).map(|best| record.epochs_at(best.step));
            Series { name: record.name(), colour: colour(n), points, marked, dashed: false }
        };
        // A run without a seq2seq loss has zeros there.
        let shown = |line: &Series| line.points.iter().any(|point| point.1 != 0.0);
        records.iter().enumerate().map(line).filter(shown).collect()
    };
    let of_epoch = |value: OfEpoch| {
        let first =
            |record: &Record| record.epochs.iter().map(|epoch| (record.epochs_at(epoch.step), value(epoch))).collect();
        let refit = |record: &Record| {
            record.refit.iter().map(|epoch| (record.refit_epochs_at(epoch.step), value(epoch))).collect()
        };
        let refit = series(&refit, false).into_iter();
        let refit = refit.map(|line| Series { name: format!("{}, refit", line.name), dashed: true, ..line });
        series(&first, false).into_iter().chain(refit).collect::<Vec<_>>()
    };
    let validated = |protocol, name: &str| {
        let points = |record: &Record| {
            let point = |v: &super::record::Validation| (record.epochs_at(v.step), v.valid.figure(protocol, name));
            record.validations.iter().map(point).collect()
        };
        series(&points, true)
    };
    html! {
        h2 { "Learning curves" }
        @for (protocol, name, against) in PROTOCOLS {
            h3 { "Validation, protocol " (name) ": " span.soft { (against) } }
            div.grid {
                @for figure in VALIDATED {
                    @let lines = validated(protocol, figure);
                    @if !lines.is_empty() { (chart::lines(&format!("{}, {name}", figures::spelled(figure)), &lines)) }
                }
            }
        }
        p.soft { "A ring marks the epoch that validation picked." }
        h3 { "Training" }
        @if records.iter().any(|record| !record.refit.is_empty()) {
            p.soft { "A dashed line is the refit: trained anew, on training and validation items." }
        }
        div.grid {
            @for (title, value) in LOSSES.into_iter().chain([SPEED]) {
                @let lines = of_epoch(value);
                @if !lines.is_empty() { (chart::lines(title, &lines)) }
            }
        }
    }
}

/// Figures, a column for every run.
fn table(records: &[&Record], table: &Table) -> Markup {
    html! {
        div.card.scroll {
            table {
                thead { (columns(&table.name, records)) }
                tbody {
                    @for row in &table.rows {
                        tr {
                            th { (row.name) }
                            @for (n, cell) in row.cells.iter().enumerate() {
                                td class=[(records.len() > 1 && row.best.contains(&n)).then_some("top")] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn columns(name: &str, records: &[&Record]) -> Markup {
    html! {
        tr {
            th { (name) }
            @for (n, record) in records.iter().enumerate() {
                th { @if records.len() > 1 { span class={ "swatch r" (colour(n)) } {} } (record.name()) }
            }
        }
    }
}

/// All settings; those in which runs differ first.
fn settings(records: &[&Record]) -> Markup {
    let of: Vec<Value> = records.iter().map(|record| serde_json::json!(record.settings)).collect();
    let names: Vec<String> = of[0].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let differs = |name: &str| of.iter().any(|settings| settings[name] != of[0][name]);
    let row = |name: &str| {
        html! {
            tr.differs {
                th { (name) }
                @for settings in &of { td.text { (spelled(&settings[name])) } }
            }
        }
    };
    let (different, same): (Vec<_>, Vec<_>) = names.iter().partition(|name| differs(name));
    html! {
        h2 { "Settings" }
        @if records.len() > 1 {
            @if different.is_empty() {
                p { "The runs have the same settings." }
            } @else {
                p.soft { "These differ between the runs:" }
                div.scroll { table { thead { (columns("", records)) } tbody { @for name in &different { (row(name)) } } } }
            }
        }
        details {
            summary { @if records.len() > 1 { "All others (" (same.len()) "), the same in every run" } @else { "All " (same.len()) } }
            div.scroll {
                table {
                    tbody {
                        @let mut last = None;
                        @for name in &same {
                            @let group = section(name);
                            @if group != last {
                                tr.group { th colspan="2" { (group.unwrap_or_default()) } }
                                @let () = last = group;
                            }
                            tr { th { (name) } td.text { (spelled(&of[0][name.as_str()])) } }
                        }
                    }
                }
            }
        }
    }
}

/// A setting's value as people write it.
fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "–".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "–".into(),
        Value::Array(values) => values.iter().map(spelled).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What a run's best model makes of items and users.
fn inside(run: &Reported, several: bool) -> Markup {
    let name = run.record.name();
    html! {
        h2 { "Items and intentions" @if several { ": " (name) } }
        @match &run.inside {
            None => p { "Nothing is validated yet, so there is no best model to look into." },
            Some(inside) => {
                (map(&inside.map, inside))
                @match &inside.users {
                    None => p { "The data that it was trained on are not at hand: example users take them (" code { "--data" } ")." },
                    Some(users) => (strips(users, inside)),
                }
            }
        }
    }
}

fn map(map: &Map, inside: &Inside) -> Markup {
    let [first, second] = map.kept;
    let of = |k: usize| map.items.iter().filter(move |item| item.intention == k);
    html! {
        p {
            @if map.users > 0 {
                @if map.items.len() == map.catalogue { "All " (thousands(map.catalogue)) " items." } @else {
                    "The " (thousands(map.items.len())) " most frequent of " (thousands(map.catalogue)) " items."
                }
                " The colour is \
                 the intention k with the greatest mean of p" sub { "k|i" } " (eq. 8) over the item's tokens in the \
                 histories of " (thousands(map.users)) " users."
            } @else {
                (thousands(map.items.len())) " of " (thousands(map.catalogue)) " items, drawn evenly. The colour is the \
                 intention k with the greatest p" sub { "k|i" } " (eq. 8) of the item alone, without a history: the data \
                 were not at hand."
            }
            " The place is the item's vector in the plane of the first two principal components, which keeps "
            b { (percent(first + second)) } " of the variance (" (percent(first)) " across, " (percent(second)) " up): items \
             that lie apart here differ, items that lie together may still differ otherwise. Best epoch: " (inside.epoch) "."
        }
        div.grid.wide {
            figure { (chart::map(map)) }
            div.card {
                @let (met, unmet): (Vec<usize>, Vec<usize>) = (0..inside.intentions).partition(|&k| of(k).count() > 0);
                @for k in met {
                    @let mut surest: Vec<_> = of(k).take(50).collect();
                    @let () = surest.sort_by(|a, b| b.share.total_cmp(&a.share));
                    p {
                        span class={ "swatch i" (k) } {}
                        b { "intention " (k + 1) } ", " (thousands(of(k).count())) " items"
                        span.soft {
                            ", such as "
                            (surest.iter().take(NAMED).map(|item| item.name.as_str()).collect::<Vec<_>>().join("; "))
                        }
                    }
                }
                @if !unmet.is_empty() {
                    p.soft {
                        "No item's most probable one: intention "
                        (unmet.iter().map(|k| (k + 1).to_string()).collect::<Vec<_>>().join(", "))
                    }
                }
            }
        }
    }
}

fn strips(users: &[User], inside: &Inside) -> Markup {
    html! {
        h3 { "Example users" }
        p.soft {
            "A column is an item that the user met, oldest on the left, up to the test item; its parts are p" sub { "k|i" }
            " of the intentions. The model sees the last items only, and at most 40 of them are shown. The users are drawn \
             evenly from those with a history of some length."
        }
        p.key {
            @for k in 0..inside.intentions { span { span class={ "swatch i" (k) } {} "intention " (k + 1) } " " }
        }
        div.grid.wide {
            @for user in users {
                figure {
                    figcaption {
                        "user " (user.name) @if user.before > 0 { ", after " (user.before) " earlier items" }
                    }
                    (chart::strip(user))
                    details {
                        summary { (user.tokens.len()) " items" }
                        ol start=(user.before + 1) {
                            @for token in &user.tokens {
                                @let k = token.intention();
                                li {
                                    span class={ "swatch i" (k) } {} (token.name)
                                    span.soft { " " (k + 1) ", " (percent(token.shares[k])) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !inside.titled { p.soft { "Items are named by their ids: " code { "--items FILE" } " gives them titles." } }
    }
}

/// 1234567 as 1,234,567.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
