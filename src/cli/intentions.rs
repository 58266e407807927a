//! `prismrec intentions`

use std::path::PathBuf;

use super::similar::near;
use super::terminal::bar;
use super::{EngineArgs, HistoryArgs, checkpoint_file, print, show};
use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::Result;
use crate::recommend::{Histories, Near, Recommender, Usage, Vectors, read_interactions, to_json};

/// Show what each intention is about: its most typical items, and how much it is used
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec intentions runs/ratings-1 --items movies.csv
  prismrec intentions runs/ratings-1 --items movies.csv --data ratings.csv --least 20
  prismrec intentions runs/beauty-1 --json")]
pub(super) struct IntentionsArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    #[command(flatten)]
    data: HistoryArgs,
    /// How many items to show of each intention
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = super::positive)]
    top: usize,
    /// File of the items' titles and categories: a table with columns such as movieId, title, genres, or JSON lines
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// With --data: show only items that were met so often
    #[arg(long, default_value_t = 0, value_name = "N", requires = "data")]
    least: usize,
    /// Leave out items of the data that are not known
    #[arg(long)]
    skip_unknown: bool,
    /// Print one JSON object: the list "intentions" of "intention", "typical", and with --data "share", "users"
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(serde::Serialize)]
struct Told {
    intention: usize,
    #[serde(flatten)]
    usage: Option<Usage>,
    typical: Vec<Near>,
}

pub(super) fn run(arguments: IntentionsArgs) -> Result<()> {
    let IntentionsArgs { checkpoint, data, top, least, items, skip_unknown, json, engine } = arguments;
    let file = checkpoint_file(&checkpoint);
    let vectors = Vectors::of(Checkpoint::load(&file)?, items.as_deref())?;
    let mut frequency = None;
    let usage = if data.data.is_empty() {
        data.refuse("the items of intentions")?;
        None
    } else {
        let checkpoint = Checkpoint::load(&file)?;
        let settings = data.over(engine.over(checkpoint.settings.clone())?)?;
        let engine = engine::open(&settings.engine_request()?)?;
        let mut recommender = Recommender::new(checkpoint, engine, None, true)?;
        let interactions = read_interactions(&settings)?;
        let histories = Histories::of_users(&interactions, None, recommender.catalogue(), skip_unknown)?;
        let bar = bar(histories.requests.len(), "users");
        let usage = Usage::of(&mut recommender, &histories.requests, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        frequency = Some(histories.frequency(vectors.catalogue().len()));
        if !json {
            print(&show::heading(&settings.data.to_string(), interactions.counts()));
        }
        Some(usage)
    };
    let rare = |item: u32| frequency.as_ref().is_some_and(|met: &Vec<usize>| met[item as usize] < least);
    let told: Vec<Told> = (0..vectors.intentions())
        .map(|intention| Told {
            intention,
            usage: usage.as_ref().map(|usage| usage[intention]),
            typical: vectors.typical(intention, top, rare),
        })
        .collect();
    if json {
        print(&to_json(&std::collections::BTreeMap::from([("intentions", told)]))?);
        return Ok(());
    }
    for Told { intention, usage, typical } in told {
        let usage = usage.map_or_else(String::new, |Usage { share, users }| {
            format!(" ({:.1}% of histories, the largest of {} users)", 100.0 * share, show::thousands(users))
        });
        print(&format!("intention {intention}{usage}"));
        near(&typical);
    }
    Ok(())
}
