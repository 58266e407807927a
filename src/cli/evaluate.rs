//! `prismrec evaluate`

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;

use super::report::{self, Table};
use super::terminal::Terminal;
use super::{EngineArgs, ScoreArgs, checkpoint_file, print, show};
use crate::checkpoint::Checkpoint;
use crate::data::split::{Part, Training};
use crate::data::titles::Titles;
use crate::engine;
use crate::error::{Error, Result};
use crate::evaluate::{
    Difference, Evaluation, Evaluator, Interval, Items, Protocol, Rank, Resampling, differences, intervals,
};
use crate::model::{ITEM_TABLE, Model};
use crate::settings::{Files, Settings};
use crate::train::{Dataset, News, Observer};

/// Repeat a checkpoint's figures
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec evaluate runs/beauty-1 beauty.txt
  prismrec evaluate runs/beauty-1/last.safetensors beauty.txt --protocol full --part validation
  prismrec evaluate runs/beauty-1 beauty.txt --beyond                coverage, diversity, novelty ..., and intervals
  prismrec evaluate runs/beauty-1 beauty.txt --against runs/beauty-2 --markdown
  prismrec evaluate runs/generated-1                                 (on the data that it generated)")]
pub(super) struct EvaluateArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    /// Files of interactions, read as for training [default: those that it was trained on]
    data: Vec<String>,
    /// What the truth is ranked against [default: both]
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Which held-out item to evaluate with
    #[arg(long, default_value = "test", value_parser = part)]
    part: Part,
    /// Also what lists of the whole catalogue are like (coverage, Gini, novelty, popularity, diversity), recall by popularity,
    /// and intervals of all figures
    #[arg(long)]
    beyond: bool,
    /// Compare with another run or checkpoint on the same users: differences, their intervals and p
    #[arg(long, value_name = "RUN")]
    against: Option<PathBuf>,
    /// Length of the lists [default: 10]
    #[arg(long, value_name = "N", requires = "beyond", value_parser = clap::value_parser!(u64).range(1..=1000))]
    top: Option<u64>,
    /// File of the items' categories, for diversity [default: as in training]
    #[arg(long, value_name = "FILE", requires = "beyond")]
    items: Option<PathBuf>,
    /// Resamples of the bootstrap
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000))]
    resamples: u32,
    /// Print one JSON object a protocol, one of lists, one a comparison
    #[arg(long)]
    json: bool,
    /// Print tables in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    scores: ScoreArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

fn part(text: &str) -> std::result::Result<Part, String> {
    match text {
        "validation" => Ok(Part::Validation),
        "test" => Ok(Part::Test),
        _ => Err("expected validation or test".into()),
    }
}

/// An evaluation and how sure it is.
#[derive(Serialize)]
struct Sure<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    resamples: u32,
    intervals: &'a IndexMap<String, Interval>,
}

/// A comparison of two runs.
#[derive(Serialize)]
struct Compared<'a> {
    protocol: Protocol,
    part: Part,
    users: usize,
    competitors: u32,
    first: String,
    second: String,
    resamples: u32,
    differences: &'a IndexMap<String, Difference>,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Text,
    Json,
    Markdown,
}

/// A protocol's evaluation of the first run.
struct Done {
    evaluation: Evaluation,
    ranks: Vec<Rank>,
}

pub(super) fn run(arguments: EvaluateArgs) -> Result<()> {
    let EvaluateArgs {
        checkpoint,
        data,
        protocol,
        part,
        beyond,
        against,
        top,
        items,
        resamples,
        json,
        markdown,
        scores,
        engine,
    } = arguments;
    let form = match (json, markdown) {
        (true, _) => Form::Json,
        (_, true) => Form::Markdown,
        _ => Form::Text,
    };
    let (given, file) = (checkpoint.clone(), checkpoint_file(&checkpoint));
    let mut checkpoint = Checkpoint::load(&file)?;
    checkpoint.settings = scores.over(checkpoint.settings)?;
    let mut settings = engine.over(checkpoint.settings.clone())?;
    if !data.is_empty() {
        settings.data = Files(data);
    }
    let mut other = against.as_deref().map(|path| other(path, &checkpoint, &settings, scores)).transpose()?;
    let data = Dataset::open_for(&settings, &checkpoint.items)?;
    for checkpoint in [&mut checkpoint].into_iter().chain(other.as_mut().map(|other| &mut other.checkpoint)) {
        let training = if checkpoint.refit { Training::WithValidation } else { Training::Apart };
        checkpoint.occurrences.get_or_insert_with(|| data.split.trained_on(training, 0.0, 0).occurrences());
    }
    let mut model = model(&checkpoint, &settings)?;
    let mut terminal = Terminal::new();
    let how = Resampling { resamples, seed: settings.data_seed };
    if form == Form::Text {
        print(&show::engine(&model.describe(), model.allocated_bytes()));
        print(&format!("{}, epoch {}", file.display(), checkpoint.epoch));
        if data.record() != checkpoint.data {
            print(&format!("{}: not the data that it was trained on", data.name));
        }
        if checkpoint.refit && part == Part::Validation {
            print("trained on validation items too: these figures say nothing of items it has not seen");
        }
        print(&show::heading(&data.name, data.split.counts()));
    }
    let mut done = Vec::new();
    for protocol in protocol.map_or(vec![Protocol::Sampled, Protocol::Full], |protocol| vec![protocol]) {
        let evaluator = data.evaluator(&settings, part, protocol)?;
        let ranks = ranks(&evaluator, &mut model, (part, protocol), &mut terminal)?;
        let evaluation = evaluator.summary(&ranks);
        let intervals = beyond.then(|| intervals(&ranks, protocol, how));
        match (form, &intervals) {
            (Form::Text, None) => print(&show::evaluation(&evaluation)),
            (Form::Json, None) => print(&serde_json::json!(evaluation).to_string()),
            (Form::Json, Some(intervals)) => {
                print(&serde_json::json!(Sure { evaluation: &evaluation, resamples, intervals }).to_string());
            }
            (_, intervals) => tell(form, &report::evaluation(&evaluation, intervals.as_ref())),
        }
        done.push(Done { evaluation, ranks });
    }
    if beyond {
        let k = top.map_or(10, |top| top as usize);
        let evaluator = data.evaluator(&settings, part, Protocol::Full)?;
        let titles = Titles::given_or(items.as_deref(), &settings.items, &checkpoint.items)?;
        // Those of the file may be behind.
        let parameters = model.parameters()?;
        let vectors = &parameters[ITEM_TABLE].data;
        let known = done.iter().find(|done| done.evaluation.protocol == Protocol::Full);
        let full = match known {
            Some(done) => done.ranks.clone(),
            None => ranks(&evaluator, &mut model, (part, Protocol::Full), &mut terminal)?,
        };
        let users = evaluator.users();
        let lists = evaluator.lists(&mut model, k, &mut |done| {
            terminal.tell(News::Evaluating { part, protocol: Protocol::Full, done, users });
            true
        })?;
        terminal.clear();
        let items = Items { vectors, dim: settings.dim, titles: titles.as_ref() };
        let figures = evaluator.beyond(&lists, k, &full, items);
        match form {
            Form::Json => print(&serde_json::json!({ "protocol": "full", "beyond": figures }).to_string()),
            form => report::beyond(&figures).iter().for_each(|table| tell(form, table)),
        }
    }
    let (Some(other), Some(against)) = (other, against) else { return Ok(()) };
    let Other { checkpoint: other, settings: other_settings } = other;
    let names = [&given, &against].map(|path| path.display().to_string());
    // Two at a time would take twice the memory.
    drop(model);
    let mut model = self::model(&other, &other_settings)?;
    for Done { evaluation, ranks: first } in &done {
        let protocol = evaluation.protocol;
        let evaluator = data.evaluator(&other_settings, part, protocol)?;
        let second = ranks(&evaluator, &mut model, (part, protocol), &mut terminal)?;
        let differences = differences(first, &second, protocol, how);
        let [first, second] = names.clone();
        if form == Form::Json {
            let Evaluation { users, competitors, .. } = *evaluation;
            let differences = &differences;
            let compared = Compared { protocol, part, users, competitors, first, second, resamples, differences };
            print(&serde_json::json!(compared).to_string());
        } else {
            tell(form, &report::differences(evaluation, [&first, &second], &differences));
        }
    }
    Ok(())
}

fn tell(form: Form, table: &Table) {
    print(&if form == Form::Markdown { table.markdown() } else { table.text() });
}

fn model(checkpoint: &Checkpoint, settings: &Settings) -> Result<Model> {
    checkpoint.model(engine::open(&settings.engine_request()?)?, settings.hyper())
}

fn ranks(
    evaluator: &Evaluator,
    model: &mut Model,
    (part, protocol): (Part, Protocol),
    terminal: &mut Terminal,
) -> Result<Vec<Rank>> {
    let users = evaluator.users();
    let ranks = evaluator.ranks(model, &mut |done| {
        terminal.tell(News::Evaluating { part, protocol, done, users });
        true
    });
    terminal.clear();
    ranks
}

/// What is compared with.
struct Other {
    checkpoint: Checkpoint,
    settings: Settings,
}

/// The second run, to be evaluated on the same users, items and competitors as the first.
fn other(path: &Path, first: &Checkpoint, with: &Settings, scores: ScoreArgs) -> Result<Other> {
    let file = checkpoint_file(path);
    let mut checkpoint = Checkpoint::load(&file)?;
    checkpoint.settings = scores.over(checkpoint.settings)?;
    if checkpoint.items != first.items {
        return Err(Error::Data(format!(
            "{}: has other items than the first run; runs are compared that were trained on the same data",
            file.display()
        )));
    }
    let Settings { data_seed, rank_known, valid_users, .. } = *with;
    let own = checkpoint.settings.clone().computed_as(with);
    Ok(Other { checkpoint, settings: Settings { data_seed, rank_known, valid_users, ..own } })
}
