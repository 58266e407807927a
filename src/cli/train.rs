//! `prismrec train`

use std::path::{Path, PathBuf};

use super::download::with_data;
use super::terminal::{Terminal, stop_on_interrupt};
use super::{MoreData, given_file, print};
use crate::checkpoint::{Checkpoint, Resume};
use crate::engine;
use crate::error::{Error, Result};
use crate::memory;
use crate::profile::Profiler;
use crate::run::Run;
use crate::settings::{Given, Settings};
use crate::tensorboard::EventFile;
use crate::train::{Dataset, Ended, Phase, Ready};

/// What a run that is gone on with may do otherwise: everything that does not belong to what it has done so far.
const MAY_CHANGE: &[&str] = &[
    "data",
    "epochs",
    "steps",
    "patience",
    "refit",
    "engine",
    "adapter",
    "threads",
    "activations",
    "split",
    "checked",
];

/// Train a model
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec train                                            on generated data; about a minute
  prismrec train beauty.txt --run runs/beauty --threads 4   on a file of \"user item\" lines, oldest first
  prismrec train ratings.csv.gz                             on a table with a header, in order of its timestamps
  prismrec train ratings.csv --min-rating 4 --user-core 5   on users with five good ratings
  prismrec train clicks.parquet --user-column visitor --item-column page --time-column seconds
  prismrec train ratings.csv --valid-from 80% --test-from 90%   trained before, tested after a moment
  prismrec train beauty.txt --engine gpu --dim 128          on the best GPU adapter
  prismrec train beauty.txt --config beauty.toml --lr 5e-4  settings from a file; flags win
  prismrec train --recipe beauty                            a recipe's data, fetched once, and its settings
  prismrec train --resume runs/beauty                       goes on where Ctrl-C stopped it

A run's folder holds settings.toml (a file for --config), metrics.jsonl, best.safetensors and last.safetensors.")]
pub(super) struct TrainArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    more: MoreData,
    /// Folder of the run, new or empty [default: runs/DATA-1, runs/DATA-2 ...]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    run: Option<PathBuf>,
    /// Go on with the run in this folder: ends with the bits that not stopping would have given
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    resume: Option<PathBuf>,
    /// TOML file of settings: the names of the flags, without dashes in front; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Settings of datasets/NAME.toml, and its data (see prismrec download) where no DATA is given
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "resume"])]
    recipe: Option<String>,
    /// A local copy of the recipe's data
    #[arg(long, value_name = "PATH", requires = "recipe", conflicts_with_all = ["data", "data_flag"])]
    file: Option<PathBuf>,
    /// Time the kernels of 50 steps after the first 10, or of what there is after the first: prints a table, and writes a
    /// trace that Perfetto and chrome://tracing open
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Also write figures and losses to an event file in the run's folder, for TensorBoard
    #[arg(long)]
    tensorboard: bool,
}

pub(super) fn run(arguments: TrainArgs) -> Result<()> {
    let TrainArgs { given, more, run, resume, config, recipe, file, profile, tensorboard } = arguments;
    let given = more.with(given);
    let profiler = profile.map(Profiler::new).transpose()?;
    match resume {
        Some(folder) => go_on(&given, &folder, profiler, tensorboard),
        None => {
            let settings = given_file(recipe.as_deref(), config.as_deref())?;
            let given = with_data(given, recipe.as_deref(), file.as_deref())?;
            begin(Settings::new(given, settings)?, run.as_deref(), profiler, tensorboard)
        }
    }
}

fn begin(settings: Settings, folder: Option<&Path>, profiler: Option<Profiler>, tensorboard: bool) -> Result<()> {
    let engine = engine::open(&settings.engine_request()?)?;
    let data = Dataset::open(&settings)?;
    let ready = Ready::new(&settings, &data, engine)?;
    let run = Run::create(folder, &settings)?;
    let events = tensorboard.then(|| EventFile::create(run.folder(), None)).transpose()?;
    follow(watched(ready, profiler, events), &run, None)
}

fn go_on(given: &Given, folder: &Path, profiler: Option<Profiler>, tensorboard: bool) -> Result<()> {
    if let Some(name) = given.names().iter().find(|name| !MAY_CHANGE.contains(&name.as_str())) {
        return Err(Error::Setting(format!(
            "--{name} cannot be given with --resume: the run keeps the {name} that it began with (these may change: {})",
            MAY_CHANGE.join(", ")
        )));
    }
    let run = Run::open(folder)?;
    let (checkpoint, resume) = Checkpoint::load_resumable(&run.last())?;
    let settings = checkpoint.settings.clone().with(given)?;
    let engine = engine::open(&settings.engine_request()?)?;
    let data = Dataset::open_for(&settings, &checkpoint.items)?;
    data.check(&checkpoint.data)?;
    let ready = Ready::new(&settings, &data, engine)?;
    run.write_settings(&settings)?;
    // A refit counts its steps anew: the steps after its own are the first training's.
    let after = (resume.progress.phase == Phase::Choose).then_some(resume.progress.step);
    let events = tensorboard || EventFile::any_in(folder);
    let events = events.then(|| EventFile::create(folder, after)).transpose()?;
    follow(watched(ready, profiler, events), &run, Some((checkpoint, resume)))
}

fn watched(ready: Ready<'_>, profiler: Option<Profiler>, events: Option<EventFile>) -> Ready<'_> {
    let ready = match profiler {
        Some(profiler) => ready.profile(profiler),
        None => ready,
    };
    match events {
        Some(events) => ready.events(events),
        None => ready,
    }
}

/// Trains, shows it, and saves and stops at the first Ctrl-C.
fn follow(ready: Ready<'_>, run: &Run, resume: Option<(Checkpoint, Resume)>) -> Result<()> {
    let mut terminal = Terminal::stopped_by(stop_on_interrupt()?);
    let ended = ready.train(run, resume, &mut terminal);
    terminal.clear();
    let folder = run.folder().display();
    match ended? {
        Ended::Stopped { step } => {
            print(&format!("stopped after step {step}; everything is saved in {folder}"));
            print(&format!("go on with: prismrec train --resume {folder}"));
            Err(Error::Interrupted)
        }
        Ended::Finished { .. } => {
            if let Some(peak) = memory::peak() {
                print(&format!("peak memory {:.1} MiB", peak as f64 / 1_048_576.0));
            }
            print(&format!("saved in {folder}; try: prismrec evaluate {folder}"));
            Ok(())
        }
    }
}
