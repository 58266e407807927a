//! The command line.

use std::error::Error as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod adapters;
mod data;
mod download;
mod evaluate;
mod export;
mod intentions;
mod manual;
mod page;
mod plot;
mod recommend;
mod report;
mod reproduce;
mod shaders;
mod show;
mod similar;
mod terminal;
mod train;
mod tune;

use crate::engine::EngineChoice;
use crate::error::{Error, Result};
use crate::kernels::activations::Activations;
use crate::settings::{Files, Given, MinRating, Settings};

/// Sequential recommenders that separate a user's intentions, on hand-written WGSL kernels.
#[derive(Parser)]
#[command(name = "prismrec", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Begin with: prismrec train    (generates its data; takes about a minute)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Data(Box<data::DataArgs>),
    Download(download::DownloadArgs),
    Evaluate(evaluate::EvaluateArgs),
    Tune(Box<tune::TuneArgs>),
    Reproduce(Box<reproduce::ReproduceArgs>),
    Recommend(Box<recommend::RecommendArgs>),
    Similar(similar::SimilarArgs),
    Intentions(Box<intentions::IntentionsArgs>),
    Export(Box<export::ExportArgs>),
    Report(page::ReportArgs),
    Adapters(adapters::AdaptersArgs),
    Shaders(shaders::ShadersArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

/// Parses, runs, and prints what went wrong: exit code 1 for an error, 2 for a wrong command line, 130 for an interrupted
/// run.
pub fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,wgpu_hal=error")),
        )
        .with_writer(io::stderr)
        .with_target(false)
        .init();
    let result = match Cli::parse().command {
        Command::Train(arguments) => train::run(*arguments),
        Command::Data(arguments) => data::run(*arguments),
        Command::Download(arguments) => download::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Tune(arguments) => tune::run(*arguments),
        Command::Reproduce(arguments) => reproduce::run(*arguments),
        Command::Recommend(arguments) => recommend::run(*arguments),
        Command::Similar(arguments) => similar::run(arguments),
        Command::Intentions(arguments) => intentions::run(*arguments),
        Command::Export(arguments) => export::run(*arguments),
        Command::Report(arguments) => page::run(arguments),
        Command::Adapters(arguments) => adapters::run(arguments),
        Command::Shaders(arguments) => shaders::run(arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error and what it was caused by.
fn complain(error: &Error) {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("  caused by: {error}\n");
        cause = error.source();
    }
    // Nothing is left to do where even that cannot be written.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints to standard output; a reader that has left is no error.
fn print(text: &str) {
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// A checkpoint's file: `path`, or the best of the run in the folder `path`.
fn checkpoint_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("best.safetensors") } else { path.to_owned() }
}

/// Settings of a recipe or of a file, where either is given.
fn given_file(recipe: Option<&str>, config: Option<&Path>) -> Result<Given> {
    match (recipe, config) {
        (Some(name), _) => Ok(crate::experiments::recipes::recipe(name)?.settings),
        (None, Some(path)) => Given::read(path),
        (None, None) => Ok(Given::default()),
    }
}

/// A whole number from 1 on.
fn positive(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a whole number from 1 on".into())
}

/// Data beyond the first file.
#[derive(clap::Args, Clone)]
struct MoreData {
    /// Further files of data, taken with DATA as one
    #[arg(value_name = "MORE", requires = "data")]
    more: Vec<String>,
    /// All of the data by a flag, as commands have it that take something else first
    #[arg(long = "data", id = "data_flag", value_name = "FILE", conflicts_with = "data", hide = true)]
    flag: Vec<String>,
}

impl MoreData {
    /// `given` with these files as well.
    fn with(&self, given: Given) -> Given {
        let more = self.more.iter().chain(&self.flag).cloned();
        let Files(files) = given.data.unwrap_or_default();
        let data = Files(files.into_iter().chain(more).collect());
        Given { data: Some(data).filter(|data| !data.is_empty()), ..given }
    }
}

/// The data that users' histories are taken from.
#[derive(clap::Args, Clone)]
struct HistoryArgs {
    /// File of users' interactions, read as for training; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<String>,
    /// The column of users, by name or number [default: as in training]
    #[arg(long, value_name = "COLUMN")]
    user_column: Option<String>,
    /// The column of items
    #[arg(long, value_name = "COLUMN")]
    item_column: Option<String>,
    /// The column of times
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,
    /// The column of ratings
    #[arg(long, value_name = "COLUMN")]
    rating_column: Option<String>,
    /// Leave out interactions that are rated lower
    #[arg(long, value_name = "RATING", allow_negative_numbers = true)]
    min_rating: Option<MinRating>,
}

impl HistoryArgs {
    fn given(&self) -> Given {
        let HistoryArgs { data, user_column, item_column, time_column, rating_column, min_rating } = self.clone();
        let data = Some(Files(data)).filter(|data| !data.is_empty());
        Given { data, user_column, item_column, time_column, rating_column, min_rating, ..Given::default() }
    }

    /// A checkpoint's settings with these data.
    fn over(&self, settings: Settings) -> Result<Settings> {
        settings.with(&self.given())
    }

    /// Refuses what is given of data, where `others` takes none.
    fn refuse(&self, others: &str) -> Result<()> {
        match self.given().names().first() {
            Some(name) => Err(Error::Setting(format!("--{name} is for users of data: {others} take none"))),
            None => Ok(()),
        }
    }
}

/// What scores take from items' occurrences, where it is not to be what it was in training.
#[derive(clap::Args, Clone, Copy)]
struct ScoreArgs {
    /// How many times ln(1 + n) an item's logit gets, for n occurrences in training [default: as in training]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    popularity: Option<f64>,
    /// What the logit gets of an item that never occurs in training [default: as in training]
    #[arg(long, value_name = "LOGIT", allow_negative_numbers = true)]
    cold_bonus: Option<f64>,
}

impl ScoreArgs {
    /// A checkpoint's settings with these.
    fn over(self, settings: Settings) -> Result<Settings> {
        let ScoreArgs { popularity, cold_bonus } = self;
        settings.with(&Given { popularity, cold_bonus, ..Given::default() })
    }
}

/// What computes, where it is not to be what trained.
#[derive(clap::Args, Clone)]
struct EngineArgs {
    /// What computes [default: as in training]
    #[arg(long)]
    engine: Option<EngineChoice>,
    /// Part of the name of the GPU adapter to take
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Threads of the CPU engine; 0 for all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How GPUs store activations [default: as in training, f32 where an engine is given]
    #[arg(long)]
    activations: Option<Activations>,
}

impl EngineArgs {
    /// A checkpoint's settings with this engine.
    fn over(self, settings: Settings) -> Result<Settings> {
        settings.with(&self.given())
    }

    fn given(self) -> Given {
        let EngineArgs { engine, adapter, threads, activations } = self;
        // The adapter that was asked for in training says nothing of another engine, nor does what it stored.
        let adapter = adapter.or_else(|| engine.map(|_| String::new()));
        let activations = activations.or_else(|| engine.map(|_| Activations::F32));
        Given { engine, adapter, threads, activations, ..Given::default() }
    }
}
