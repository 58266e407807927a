//! `prismrec similar`

use std::path::PathBuf;

use super::{checkpoint_file, print};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::recommend::{Near, Vectors, to_json};

/// Show the items whose vectors are most like an item's
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec similar runs/beauty-1 --item 431
  prismrec similar runs/ratings-1 --item 318 --items movies.csv --top 5 --json")]
pub(super) struct SimilarArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    /// The item
    #[arg(long, value_name = "ID")]
    item: String,
    /// How many items to show
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = super::positive)]
    top: usize,
    /// File of the items' titles and categories: a table with columns such as movieId, title, genres, or JSON lines
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Print one JSON object: "item", and the list "similar" of "item", "cosine"
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: SimilarArgs) -> Result<()> {
    let SimilarArgs { checkpoint, item, top, items, json } = arguments;
    let vectors = Vectors::of(Checkpoint::load(&checkpoint_file(&checkpoint))?, items.as_deref())?;
    let number = vectors.catalogue().find(&item)?;
    let (item, similar) = (vectors.catalogue().item(number), vectors.similar(number, top));
    if json {
        #[derive(serde::Serialize)]
        struct Told {
            #[serde(flatten)]
            item: crate::recommend::Item,
            similar: Vec<Near>,
        }
        print(&to_json(&Told { item, similar })?);
        return Ok(());
    }
    print(&format!("like {}{}:", item.id, item.described()));
    near(&similar);
    Ok(())
}

/// Prints items with their cosines.
pub(super) fn near(items: &[Near]) {
    let width = items.iter().map(|near| near.item.id.chars().count()).max().unwrap_or(0);
    for near in items {
        let described = near.item.described();
        print(format!("  {:>6.3}  {:<width$}{described}", near.cosine, near.item.id).trim_end());
    }
}
