//! `prismrec evaluate`

use std::path::PathBuf;

use super::terminal::Terminal;
use super::{EngineArgs, checkpoint_file, print, show};
use crate::checkpoint::Checkpoint;
use crate::data::split::Part;
use crate::engine;
use crate::error::Result;
use crate::evaluate::Protocol;
use crate::model::Model;
use crate::settings::Files;
use crate::train::{Dataset, News, Observer};

/// Repeat a checkpoint's figures
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec evaluate runs/beauty-1 beauty.txt
  prismrec evaluate runs/beauty-1/last.safetensors beauty.txt --protocol full --part validation
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
    /// Print one JSON object a protocol
    #[arg(long)]
    json: bool,
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

pub(super) fn run(arguments: EvaluateArgs) -> Result<()> {
    let EvaluateArgs { checkpoint, data, protocol, part, json, engine } = arguments;
    let file = checkpoint_file(&checkpoint);
    let checkpoint = Checkpoint::load(&file)?;
    let mut settings = engine.over(checkpoint.settings.clone())?;
    if !data.is_empty() {
        settings.data = Files(data);
    }
    let data = Dataset::open_for(&settings, &checkpoint.items)?;
    let engine = engine::open(&settings.engine_request()?)?;
    let mut model = Model::new(engine, settings.shape(checkpoint.items.len()), settings.hyper())?;
    checkpoint.give_to(&mut model)?;
    let mut terminal = Terminal::new();
    if !json {
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
    for protocol in protocol.map_or(vec![Protocol::Sampled, Protocol::Full], |protocol| vec![protocol]) {
        let evaluator = data.evaluator(&settings, part, protocol)?;
        let users = evaluator.users();
        let evaluation = evaluator.run(&mut model, &mut |done| {
            terminal.tell(News::Evaluating { part, protocol, done, users });
            true
        })?;
        terminal.clear();
        if json {
            print(&serde_json::json!(evaluation).to_string());
        } else {
            print(&show::evaluation(&evaluation));
        }
    }
    Ok(())
}
