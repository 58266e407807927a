//! `prismrec export`

use std::path::PathBuf;

use super::terminal::bar;
use super::{EngineArgs, HistoryArgs, checkpoint_file, print, show};
use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::Result;
use crate::recommend::{Format, Histories, Recommender, Vectors, read_interactions, write_items, write_users};

/// Write the vectors of items, and of users, for other programs
#[derive(clap::Args)]
#[command(after_help = "\
An item's score for a user is the largest dot product of its vector and the user's vectors, one of each intention.

Examples:
  prismrec export runs/beauty-1 --out vectors --format npy                           items alone
  prismrec export runs/ratings-1 --out vectors --format safetensors --data ratings.csv
  prismrec export runs/ratings-1 --out vectors --format parquet --data ratings.csv")]
pub(super) struct ExportArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How vectors are written
    #[arg(long, default_value = "safetensors")]
    format: Format,
    #[command(flatten)]
    data: HistoryArgs,
    /// Leave out items of the data that are not known
    #[arg(long)]
    skip_unknown: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(arguments: ExportArgs) -> Result<()> {
    let ExportArgs { checkpoint, out, format, data, skip_unknown, engine } = arguments;
    let file = checkpoint_file(&checkpoint);
    if data.data.is_empty() {
        data.refuse("the vectors of items")?;
    }
    let vectors = Vectors::of(Checkpoint::load(&file)?, None)?;
    let (items, dim) = (show::thousands(vectors.catalogue().len()), vectors.dim());
    let paths = write_items(&out, format, vectors.catalogue().ids(), vectors.items())?;
    for path in paths {
        print(&format!("{items} items, {dim} dimensions: {}", path.display()));
    }
    if data.data.is_empty() {
        return Ok(());
    }
    let checkpoint = Checkpoint::load(&file)?;
    let settings = data.over(engine.over(checkpoint.settings.clone())?)?;
    let engine = engine::open(&settings.engine_request()?)?;
    let mut recommender = Recommender::new(checkpoint, engine, None, true)?;
    let interactions = read_interactions(&settings)?;
    let Histories { requests, .. } = Histories::of_users(&interactions, None, recommender.catalogue(), skip_unknown)?;
    let bar = bar(requests.len(), "users");
    let mut users = Vec::with_capacity(requests.len());
    for some in requests.chunks(recommender.batch()) {
        let histories: Vec<&[u32]> = some.iter().map(|request| &request.history[..]).collect();
        users.extend(recommender.user_vectors(&histories)?);
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    let ids: Vec<&str> = requests.iter().map(|request| &request.user[..]).collect();
    let (count, intentions) = (show::thousands(ids.len()), recommender.intentions());
    for path in write_users(&out, format, &ids, &users)? {
        print(&format!("{count} users, {intentions} vectors each: {}", path.display()));
    }
    Ok(())
}
