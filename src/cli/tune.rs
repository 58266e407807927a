//! `prismrec tune`

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::download::with_data;
use super::terminal::{Terminal, stop_on_interrupt};
use super::{MoreData, given_file, print, show};
use crate::error::{Error, Result};
use crate::experiments::tune::{Definition, Left, Space, Status, Study, Told, TrialResult, work};
use crate::settings::{Given, Settings};
use crate::train::{Dataset, News, Observer};

/// What may differ between the processes of a study.
const OF_THE_MACHINE: &[&str] = &["data", "engine", "adapter", "threads", "split", "checked"];
/// Trials in the table at the end.
const SHOWN: usize = 10;

/// Search for settings: random trials, of which hopeless ones are stopped early
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec tune beauty.txt --study studies/beauty --trials 100          the paper's grid
  prismrec tune beauty.txt --study studies/beauty --dim 64 --lr 1e-3    flags are not drawn
  prismrec tune beauty.txt --study studies/full --choose-by full --space space.toml
  prismrec tune --study studies/beauty --trials 200                     goes on, with more trials
  prismrec train --config studies/beauty/best.toml                      trains the best one, and tests it

Trials are judged by NDCG@10 in validation under one protocol (--choose-by); nothing is tested. A trial goes on after 3, 9,
27 ... validations (--first-rung, --reduction) only if it is among the best third of those that came there. A space is a
TOML file with a list of values for every setting that is drawn: dim = [32, 64]. Without one it is the paper's grid: dim,
blocks, lambda, intentions, dropout, l2; and lr, item-deviation.

The same command, given again or at the same time, in other processes and on other machines that share the folder, goes on
with the study: each trial is one process's at a time, and one that was interrupted or killed is gone on with. The folder
holds trials.jsonl (a line a trial), best.toml, and a run's folder for every trial.")]
pub(super) struct TuneArgs {
    /// Folder of the study, new or to be gone on with
    #[arg(long, value_name = "DIR")]
    study: PathBuf,
    /// Trials in all, those that are done included
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    trials: u64,
    /// TOML file of what is drawn: a list of values for each setting [default: the paper's grid]
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// Decides what the trials draw [default: 1]
    #[arg(long, value_name = "SEED")]
    study_seed: Option<u64>,
    /// Validations after which a trial is first compared with others [default: 3]
    #[arg(long, value_name = "N")]
    first_rung: Option<u64>,
    /// One trial in so many goes on at a rung; the next comes after so many times the validations [default: 3]
    #[arg(long, value_name = "N")]
    reduction: Option<u64>,
    /// Leave the checkpoints of trials that are done
    #[arg(long)]
    keep_checkpoints: bool,
    /// Settings of datasets/NAME.toml, and its data (see prismrec download) where none are given; those of the space are drawn all the same
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    recipe: Option<String>,
    /// TOML file of settings; flags win, and those of the space are drawn all the same
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    more: MoreData,
}

pub(super) fn run(mut arguments: TuneArgs) -> Result<()> {
    arguments.given = arguments.more.with(arguments.given);
    let (study, here) = open(&arguments)?;
    let TuneArgs { study: folder, trials, keep_checkpoints, .. } = arguments;
    // What computes nothing at all here is no fault of the trials.
    crate::engine::open(&here.engine_request()?)?;
    let data = Dataset::open(&here)?;
    let stop = stop_on_interrupt()?;
    let mut bar = Bar(Terminal::stopped_by(stop.clone()));
    let ended = work(&study, &data, &here, trials, keep_checkpoints, &mut bar, &mut |told| match told {
        Told::Begun { trial, drawn } => {
            let drawn: Vec<_> = drawn.iter().map(|(name, value)| format!("{name} {value}")).collect();
            print(&format!("trial {trial} (0 to {}): {}", trials - 1, drawn.join(", ")));
        }
        Told::Ended(result) => print(&format!("trial {}: {}", result.trial, outcome(result))),
    });
    bar.0.clear();
    match ended {
        Ok(Left { elsewhere }) => {
            if elsewhere > 0 {
                print(&format!("{elsewhere} trials are under way in other processes"));
            }
            show(&study)
        }
        Err(Error::Interrupted) if stop.load(Ordering::Relaxed) => {
            print(&format!("stopped; go on with: prismrec tune --study {}", folder.display()));
            Err(Error::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// The study, new or old, and settings that say where its trials are computed.
fn open(arguments: &TuneArgs) -> Result<(Study, Settings)> {
    let TuneArgs { study: folder, space, study_seed, first_rung, reduction, recipe, config, given, .. } = arguments;
    let space = space.as_deref().map(Space::read).transpose()?;
    let file = given_file(recipe.as_deref(), config.as_deref())?;
    if !Study::exists(folder) {
        let settings = Settings::new(with_data(given.clone(), recipe.as_deref(), None)?, file)?;
        let space = space.map_or_else(Space::paper, Ok)?.without(&given.names());
        let definition = Definition {
            study_seed: study_seed.unwrap_or(1),
            first_rung: first_rung.unwrap_or(3),
            reduction: reduction.unwrap_or(3),
            space,
            settings: settings.clone(),
        };
        let study = Study::create(folder, &definition)?;
        if study.definition != definition {
            return Err(Error::Setting(format!("{} was begun otherwise at the same moment", folder.display())));
        }
        return Ok((study, settings));
    }
    let study = Study::open(folder)?;
    let begun = &study.definition;
    let wanted = begun.settings.clone().with(&given.clone().or(file))?;
    let mut other = begun.settings.differing(&wanted);
    // A flag that the study draws says that it is not to be drawn.
    other.extend(begun.space.names().filter(|name| given.names().iter().any(|given| given == name)).map(str::to_owned));
    other
        .extend(space.filter(|space| space.clone().without(&given.names()) != begun.space).map(|_| "space".to_owned()));
    for (name, wanted, begun) in [
        ("study-seed", study_seed, begun.study_seed),
        ("first-rung", first_rung, begun.first_rung),
        ("reduction", reduction, begun.reduction),
    ] {
        other.extend(wanted.filter(|wanted| *wanted != begun).map(|_| name.to_owned()));
    }
    if other.is_empty() {
        return Ok((study, wanted));
    }
    Err(Error::Setting(format!(
        "the study in {} was begun with another {}; leave that out, or begin another study (these may differ: {})",
        folder.display(),
        other.join(", "),
        OF_THE_MACHINE.join(", ")
    )))
}

fn outcome(result: &TrialResult) -> String {
    let TrialResult { status, score, protocol, epoch, validations, seconds, .. } = result;
    let ended = match status {
        Status::Finished => "finished".to_owned(),
        Status::Stopped { rung } => format!("stopped at validation {rung}"),
        Status::Failed { reason } => return format!("failed: {reason}"),
    };
    format!(
        "{ended}; NDCG@10 {score:.4} in validation, {} protocol, epoch {epoch}, {validations} validations, {seconds:.0} s",
        show::protocol(*protocol)
    )
}

/// The best trials as a table.
fn show(study: &Study) -> Result<()> {
    let results = study.results()?;
    let Some(best) = results.first() else { return Ok(()) };
    let protocol = show::protocol(best.protocol);
    let columns: Vec<&String> = best.drawn.keys().collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| results.iter().map(|r| r.drawn[*column].to_string().len()).max().unwrap_or(0).max(column.len()))
        .collect();
    let row = |cells: Vec<String>| -> String {
        cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect()
    };
    print(&format!("\n{} trials are done; the best by NDCG@10 in validation, {protocol} protocol:", results.len()));
    let head = row(columns.iter().map(ToString::to_string).collect());
    print(&format!("{:>6}  {:>7}  {:>5}  {:<8}{head}", "trial", "NDCG@10", "epoch", "ended"));
    for result in results.iter().take(SHOWN) {
        let ended = match result.status {
            Status::Finished => "finished",
            Status::Stopped { .. } => "stopped",
            Status::Failed { .. } => "failed",
        };
        let cells = row(columns.iter().map(|column| result.drawn[*column].to_string()).collect());
        print(&format!("{:>6}  {:>7.4}  {:>5}  {ended:<8}{cells}", result.trial, result.score, result.epoch));
    }
    if best.validations > 0 {
        print(&format!("train the best with: prismrec train --config {}", study.best_settings().display()));
    }
    Ok(())
}

/// Shows steps and evaluations of a trial, and leaves its lines to `metrics.jsonl`.
struct Bar(Terminal);

impl Observer for Bar {
    fn tell(&mut self, news: News<'_>) {
        if matches!(news, News::Step(_) | News::Evaluating { .. }) {
            self.0.tell(news);
        }
    }

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
