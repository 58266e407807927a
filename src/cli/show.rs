//! Figures and facts as lines of text. Every number says its protocol and data.

use crate::data::clean::Dropped;
use crate::data::read::{Counts, Source};
use crate::data::split::Part;
use crate::data::titles::Titles;
use crate::engine::Description;
use crate::evaluate::{Evaluation, Protocol};
use crate::kernels::Work;
use crate::model::Prior;
use crate::profile::Profile;
use crate::train::{Epoch, Figures, Losses, Phase, Start, Test};

/// What computes.
pub(super) fn engine(description: &Description, bytes: usize) -> String {
    let Description { engine, adapter, driver, threads, limits } = description;
    let mut line = format!("engine {engine}: {adapter}");
    if !driver.is_empty() {
        line += &format!(", driver {driver}");
    }
    if *threads > 0 {
        line += &format!(", {threads} thread{}", if *threads == 1 { "" } else { "s" });
    }
    format!("{line}, {limits}; {:.1} MiB of buffers", bytes as f64 / 1_048_576.0)
}

/// The data set's size.
pub(super) fn heading(name: &str, counts: Counts) -> String {
    let Counts { users, items, interactions } = counts;
    let [users, items, interactions] = [users, items, interactions].map(thousands);
    format!("{name}: {users} users, {items} items, {interactions} interactions")
}

/// An item's title and categories behind its id.
pub(super) fn title(titles: Option<&Titles>, item: u32) -> String {
    let Some(titles) = titles else { return String::new() };
    let title = titles.title(item).map_or_else(String::new, |title| format!("  {title}"));
    match titles.categories(item) {
        [] => title,
        categories => format!("{title}  ({})", categories.join(", ")),
    }
}

/// How data were read, and what was left out.
pub(super) fn reading(source: Option<&Source>, dropped: &Dropped) -> Vec<String> {
    let Some(Source { layout, files, low_rated, warnings, time }) = source else { return Vec::new() };
    let of = if *files > 1 { format!(" {files} files, the first") } else { String::new() };
    let mut lines = vec![format!("read in {:.1} s:{of} {layout}", time.as_secs_f64())];
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    let Dropped { repeats, old, rare, users, items } = *dropped;
    let parts = [
        (*low_rated, "interactions of lower ratings"),
        (repeats, "repeats"),
        (old, "interactions before the last of their users"),
        (rare, "interactions of rare users and items"),
        (users, "users"),
        (items, "items"),
    ];
    let told: Vec<_> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", thousands(*n))).collect();
    if !told.is_empty() {
        lines.push(format!("left out: {}", told.join(", ")));
    }
    lines
}

pub(super) fn start(start: &Start) -> Vec<String> {
    let Start { data, counts, kept_out, validation_users, examples, parameters, bytes, engine: on, step, .. } = start;
    let mut lines = vec![engine(on, *bytes), heading(data, *counts)];
    lines.extend(reading(start.source.as_ref(), &start.dropped));
    if *kept_out > 0 {
        let kept_out = thousands(*kept_out);
        lines.push(if start.by_time {
            format!(
                "split by time; {kept_out} users without items on both sides of --test-from are kept out of the test"
            )
        } else {
            format!("{kept_out} users with fewer than 3 items are kept out of evaluation")
        });
    }
    lines.push(format!(
        "{} examples, {} parameters; validation on {} users",
        thousands(*examples),
        thousands(*parameters),
        thousands(*validation_users)
    ));
    if *step > 0 {
        lines.push(format!("going on after step {step}"));
    }
    lines
}

/// Loss parts, per example and per pair.
pub(super) fn losses(losses: &Losses) -> String {
    let Losses { seq2item, seq2seq, seq2seq_all, .. } = losses;
    // One that is solved is off 0 by rounding, to either side.
    let seq2seq = if *seq2seq < 0.0 { 0.0 } else { *seq2seq };
    let seq2seq = if *seq2seq_all == 0.0 { String::new() } else { format!(" s2s {seq2seq:.3}") };
    format!("loss s2i {seq2item:.3}{seq2seq}")
}

pub(super) fn epoch(epoch: &Epoch) -> String {
    let Epoch { phase, epoch, seconds, examples_per_second, losses: means, valid, stale, .. } = epoch;
    let name = if *phase == Phase::Choose { "epoch" } else { "refit epoch" };
    let mut line = format!("{name} {epoch}: {}, {seconds:.1} s, {examples_per_second:.0} examples/s", losses(means));
    if let Some(valid) = valid {
        line += &format!("; {}", validation(valid));
        if *stale == 0 {
            line += " (best)";
        }
    }
    line
}

/// A validation in one line.
pub(super) fn validation(figures: &Figures) -> String {
    let figure = |evaluation: &Evaluation, name: &str| evaluation.metrics.get(name).copied().unwrap_or(f64::NAN);
    let Figures { sampled, full } = figures;
    format!(
        "validation on {} users{}: sampled NDCG@10 {:.4} Recall@10 {:.4}, full NDCG@10 {:.4} Recall@10 {:.4}",
        thousands(sampled.users),
        prior(sampled.prior),
        figure(sampled, "ndcg@10"),
        figure(sampled, "recall@10"),
        figure(full, "ndcg@10"),
        figure(full, "recall@10")
    )
}

pub(super) fn test(test: &Test, data: &str) -> String {
    let Test { refit, epoch, figures: Figures { sampled, full } } = test;
    let what = if *refit {
        format!("refit test: trained anew on training and validation items for {epoch} epochs")
    } else {
        format!("test of epoch {epoch}, the best in validation")
    };
    format!("{what}, on {}\n{}\n{}", heading(data, sampled.counts), evaluation(sampled), evaluation(full))
}

/// One protocol's figures.
pub(super) fn evaluation(evaluation: &Evaluation) -> String {
    let Evaluation { protocol, part, users, competitors, prior, metrics, .. } = evaluation;
    let (part, against) = (self::part(*part), against(*protocol, *competitors, *prior));
    let figures: Vec<_> = metrics.iter().map(|(name, value)| format!("{} {value:.4}", spelled(name))).collect();
    let protocol = self::protocol(*protocol);
    format!("  {part}, {} users, {protocol}, {against}:\n    {}", thousands(*users), figures.join("  "))
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Sampled { "sampled" } else { "full" }
}

pub(super) fn part(part: Part) -> &'static str {
    if part == Part::Test { "test" } else { "validation" }
}

/// What a protocol ranks the truth against.
pub(super) fn against(protocol: Protocol, competitors: u32, prior: Prior) -> String {
    let against = match protocol {
        Protocol::Sampled => format!("against {competitors} popular items they never met"),
        Protocol::Full => format!("against the whole catalogue ({competitors} items or more)"),
    };
    against + &self::prior(prior)
}

/// What scores took from occurrences, after a comma; nothing where that is nothing.
fn prior(prior: Prior) -> String {
    let terms = [("popularity", prior.popularity), ("cold bonus", prior.cold_bonus)];
    terms.iter().filter(|(_, value)| *value != 0.0).map(|(name, value)| format!(", {name} {value}")).collect()
}

/// `recall@10` as people write it.
pub(super) fn spelled(name: &str) -> String {
    match name.split_once('@') {
        Some(("recall", k)) => format!("Recall@{k}"),
        Some((name, k)) => format!("{}@{k}", name.to_uppercase()),
        None => name.to_uppercase(),
    }
}

fn plural(number: u64) -> &'static str {
    if number == 1 { "" } else { "s" }
}

/// 1234567 as 1,234,567.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// What each kernel took, as a table.
pub(super) fn profile(profile: &Profile) -> Vec<String> {
    let Profile { path, steps, warm, ceilings, kernels } = profile;
    if *steps == 0 {
        return vec![format!(
            "no profile, and no trace in {}: only steps after a run's first one are measured; take more of them",
            path.display()
        )];
    }
    let cold = if *warm { "" } else { " (too few to warm up first: the run has no more)" };
    let total: f64 = kernels.iter().map(|kernel| kernel.time.as_secs_f64()).sum();
    let (least, work) = kernels.iter().fold((0.0, Work::default()), |(least, work), kernel| {
        let Work { flops, bytes } = kernel.work;
        (least + kernel.least, Work { flops: work.flops + flops, bytes: work.bytes + bytes })
    });
    let calls: u64 = kernels.iter().map(|kernel| kernel.calls).sum();
    let line = |name: &str, calls: u64, seconds: f64, work: &Work, least: f64| {
        format!(
            "{name:<32} {calls:>7} {:>10.3} {:>6.1}% {:>9.1} {:>9.1} {:>7.0}%",
            1e3 * seconds,
            100.0 * seconds / total,
            work.flops / seconds / 1e9,
            work.bytes / seconds / 1e9,
            100.0 * least / seconds
        )
    };
    let mut lines = vec![
        format!("profile of {steps} training step{}{cold}, trace in {}", plural(*steps), path.display()),
        format!(
            "ceilings, as measured: {:.1} GFLOP/s, {:.1} GB/s; of ceiling: the least time under them, of that taken",
            ceilings.flops / 1e9,
            ceilings.bytes / 1e9
        ),
        format!(
            "{:<32} {:>7} {:>10} {:>7} {:>9} {:>9} {:>8}",
            "kernel", "calls", "ms", "share", "GFLOP/s", "GB/s", "of ceil."
        ),
    ];
    lines.extend(kernels.iter().map(|k| line(k.kernel, k.calls, k.time.as_secs_f64(), &k.work, k.least)));
    lines.push(line("all", calls, total, &work, least));
    lines
}
