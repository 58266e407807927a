//! `prismrec recommend`

use std::path::PathBuf;

use super::{EngineArgs, checkpoint_file, print};
use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::Result;
use crate::recommend::Recommender;

/// Recommend items after a history
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec recommend runs/beauty-1 --history 12,7,431 --top 5
  prismrec recommend best.safetensors --history B0013OY8JY --history B000142FVW --json")]
pub(super) struct RecommendArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    /// Items that were met, oldest first, separated by commas; may be repeated
    #[arg(long, required = true, value_delimiter = ',', value_name = "ITEM,ITEM...")]
    history: Vec<String>,
    /// How many items to recommend
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// Recommend items of the history too
    #[arg(long)]
    keep_history: bool,
    /// Print one JSON object: the list "recommendations" of "item", "score", "intention"
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(arguments: RecommendArgs) -> Result<()> {
    let RecommendArgs { checkpoint, history, top, keep_history, json, engine } = arguments;
    let checkpoint = Checkpoint::load(&checkpoint_file(&checkpoint))?;
    let settings = engine.over(checkpoint.settings.clone())?;
    let engine = engine::open(&settings.engine_request()?)?;
    let mut recommender = Recommender::new(checkpoint, engine)?;
    let recommendations = recommender.recommend(&history, top, keep_history)?;
    if json {
        print(&serde_json::json!({ "history": history, "recommendations": recommendations }).to_string());
        return Ok(());
    }
    let width = recommendations.iter().map(|r| r.item.chars().count()).max().unwrap_or(0).max(4);
    print(&format!("{:<width$}  {:>9}  intention", "item", "score"));
    for r in recommendations {
        print(&format!("{:<width$}  {:>9.4}  {:>9}", r.item, r.score, r.intention));
    }
    Ok(())
}
