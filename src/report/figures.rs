//! The table of figures: what to show of runs, and which of them is the best in each row.

use super::page::thousands;
use super::record::{Both, Figures, Record};
use crate::evaluate::Protocol;

/// Figures of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub name: String,
    pub rows: Vec<Row>,
}

/// One figure of all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    /// One a run.
    pub cells: Vec<String>,
    /// The runs with the highest figure; none where more is not better.
    pub best: Vec<usize>,
}

/// What a run has of one kind.
type Part = fn(&Record) -> Option<&Both>;

/// All figures of some runs.
pub fn tables(records: &[&Record]) -> Vec<Table> {
    let mut tables = Vec::new();
    let users = |of: fn(&Record) -> Option<usize>| {
        let counts: Vec<usize> = records.iter().filter_map(|record| of(record)).collect();
        match (counts.iter().min(), counts.iter().max()) {
            (Some(least), Some(most)) if least == most => format!(", {} users", thousands(*least)),
            (Some(least), Some(most)) => format!(", {} to {} users", thousands(*least), thousands(*most)),
            _ => String::new(),
        }
    };
    let tested = users(|record| Some(record.test.as_ref()?.users));
    let refitted = users(|record| Some(record.refit_test.as_ref()?.users));
    let parts: [(String, Part); 3] = [
        (format!("Test{tested}"), |record| Some(&record.test.as_ref()?.figures)),
        (format!("Test of the refit{refitted}"), |record| Some(&record.refit_test.as_ref()?.figures)),
        ("Validation, best epoch".into(), |record| Some(&record.best()?.valid)),
    ];
    for (part, of) in parts {
        for (protocol, name) in [(Protocol::Sampled, "sampled"), (Protocol::Full, "full")] {
            let figures: Vec<_> = records.iter().map(|record| of(record).map(|both| both.of(protocol))).collect();
            let Some(some) = figures.iter().flatten().next() else { continue };
            let row = |metric: &String| {
                let value =
                    |figures: &Option<&Figures>| figures.and_then(|figures| figures.get(metric).copied().flatten());
                let values: Vec<Option<f64>> = figures.iter().map(value).collect();
                let cells =
                    values.iter().map(|value| value.map_or("–".into(), |value| format!("{value:.4}"))).collect();
                Row { name: spelled(metric), cells, best: best(&values) }
            };
            tables.push(Table { name: format!("{part}, {name}"), rows: some.keys().map(row).collect() });
        }
    }
    let mut rows = Vec::new();
    let mut fact = |name: &str, of: &dyn Fn(&Record) -> Option<String>| {
        let cells: Vec<_> = records.iter().map(|record| of(record)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".into())).collect();
            rows.push(Row { name: name.into(), cells, best: Vec::new() });
        }
    };
    fact("best epoch", &|record| Some(record.best()?.epoch.to_string()));
    fact("epochs", &|record| Some(record.epochs.last()?.epoch.to_string()));
    fact("steps", &|record| Some(thousands(record.epochs.last()?.step as usize)));
    fact("training time", &|record| Some(duration(record.seconds())));
    fact("examples a second", &|record| Some(thousands(record.examples_per_second()?.round() as usize)));
    fact("peak memory", &|record| Some(format!("{:.1} MiB", record.peak_memory()? as f64 / 1_048_576.0)));
    fact("parameters", &|record| Some(thousands(record.start.parameters)));
    fact("engine", &|record| Some(engine(record)));
    fact("NMI with planted categories (chance)", &|record| {
        record.recovery.map(|recovery| format!("{:.3} ({:.3})", recovery.nmi, recovery.nmi_shuffled))
    });
    tables.push(Table { name: "Course".into(), rows });
    tables
}

fn engine(record: &Record) -> String {
    match record.start.threads {
        0 => record.start.engine.clone(),
        threads => format!("{}, {threads} threads", record.start.engine),
    }
}

/// Where the highest values are.
fn best(values: &[Option<f64>]) -> Vec<usize> {
    let highest = values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    (0..values.len()).filter(|&n| values[n] == Some(highest)).collect()
}

/// `recall@10` as people write it.
pub fn spelled(name: &str) -> String {
    match name.split_once('@') {
        Some(("recall", k)) => format!("Recall@{k}"),
        Some((name, k)) => format!("{}@{k}", name.to_uppercase()),
        None => name.to_uppercase(),
    }
}

/// Seconds in the units that people would take.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_may_be_the_best() {
        assert_eq!(best(&[Some(0.5), None, Some(0.75), Some(0.75)]), [2, 3]);
        assert!(best(&[None, None]).is_empty());
    }

    #[test]
    fn durations_are_in_fitting_units() {
        assert_eq!([12.34, 61.0, 7260.0].map(duration), ["12.3 s", "1 min 1 s", "2 h 1 min"]);
    }
}
