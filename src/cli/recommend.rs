//! `prismrec recommend`

use std::path::{Path, PathBuf};

use super::terminal::bar;
use super::{EngineArgs, HistoryArgs, ScoreArgs, checkpoint_file, print};
use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::{Error, Result};
use crate::recommend::{
    Answer, Histories, Line, Options, Output, Recommender, Request, read_interactions, read_users, to_json,
};
use crate::settings::Settings;

/// Recommend items after a history, for one user or for many
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["history", "user", "users", "histories"])))]
#[command(after_help = "\
Examples:
  prismrec recommend runs/beauty-1 --history 12,7,431 --top 5
  prismrec recommend best.safetensors --history B0013OY8JY --history B000142FVW --json
  prismrec recommend runs/ratings-1 --user 42 --data ratings.csv --items movies.csv --explain
  prismrec recommend runs/ratings-1 --users users.txt --data ratings.csv --diversify --out lists.parquet
  prismrec recommend runs/ratings-1 --histories sessions.txt --skip-unknown --explain --out lists.jsonl")]
pub(super) struct RecommendArgs {
    /// Checkpoint file, or a run's folder (its best epoch)
    checkpoint: PathBuf,
    /// Items that were met, oldest first, separated by commas; may be repeated
    #[arg(long, value_delimiter = ',', value_name = "ITEM,ITEM...")]
    history: Vec<String>,
    /// A user of the data (--data, or without it those of the training): all that it met is the history
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// File with a user of the data a line
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// File with a history a line: user item item ..., oldest first
    #[arg(long, value_name = "FILE")]
    histories: Option<PathBuf>,
    #[command(flatten)]
    data: HistoryArgs,
    /// For many: write the lists to this file, as CSV, Parquet or JSON lines by its ending (.csv, .parquet, .jsonl)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "user", "json"])]
    out: Option<PathBuf>,
    /// How many items to recommend
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = super::positive)]
    top: usize,
    /// Recommend items of the history too
    #[arg(long)]
    keep_history: bool,
    /// Balance the list over intentions, by how much of the history each holds
    #[arg(long)]
    diversify: bool,
    /// Say which items of the history fed each intention: N of them [without a number: 5]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "5",
        value_parser = super::positive)]
    explain: Option<usize>,
    /// Leave out items (and, of --users, users) that are not known, and say how many
    #[arg(long)]
    skip_unknown: bool,
    /// File of the items' titles and categories: a table with columns such as movieId, title, genres, or JSON lines
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Print JSON: one object with "recommendations" of "item", "score", "intention"; for many, an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    scores: ScoreArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(arguments: RecommendArgs) -> Result<()> {
    let RecommendArgs { checkpoint, data, scores, engine, items, users, histories, .. } = &arguments;
    let many = users.is_some() || histories.is_some();
    if many && arguments.out.is_none() && !arguments.json {
        return Err(Error::Setting("name a file for the lists, --out FILE, or print them with --json".into()));
    }
    if !arguments.history.is_empty() || histories.is_some() {
        data.refuse("--history and --histories")?;
    }
    let mut checkpoint = Checkpoint::load(&checkpoint_file(checkpoint))?;
    checkpoint.settings = scores.over(checkpoint.settings)?;
    let settings = data.over(engine.clone().over(checkpoint.settings.clone())?)?;
    let engine = engine::open(&settings.engine_request()?)?;
    let recommender = Recommender::new(checkpoint, engine, items.as_deref(), many)?;
    if many { for_many(&arguments, recommender, &settings) } else { for_one(&arguments, recommender, &settings) }
}

fn options(arguments: &RecommendArgs) -> Options {
    let RecommendArgs { top, keep_history, diversify, explain, .. } = *arguments;
    Options { top, keep_history, diversify, explain: explain.unwrap_or(0) }
}

fn for_one(arguments: &RecommendArgs, mut recommender: Recommender, settings: &Settings) -> Result<()> {
    let RecommendArgs { history, user, skip_unknown, json, .. } = arguments;
    let ids = match user {
        None => history.clone(),
        Some(user) => {
            let data = read_interactions(settings)?;
            let number = data.user(user)?;
            data.sequence(number).iter().map(|&item| data.items[item as usize].clone()).collect()
        }
    };
    let known = recommender.catalogue().known(ids.iter().map(String::as_str), *skip_unknown)?;
    let mut answers = recommender.recommend(&[&known.items], options(arguments))?;
    let answer = answers.remove(0);
    if *json {
        #[derive(serde::Serialize)]
        struct Told<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            user: Option<&'a str>,
            history: Vec<&'a str>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            skipped: &'a [String],
            #[serde(flatten)]
            answer: &'a Answer,
        }
        let ids = recommender.catalogue().ids();
        let history = known.items.iter().map(|&item| &ids[item as usize][..]).collect();
        print(&to_json(&Told { user: user.as_deref(), history, skipped: &known.skipped, answer: &answer })?);
        return Ok(());
    }
    let (met, length) = (known.items.len(), recommender.length());
    if user.is_some() || met > length || !known.skipped.is_empty() {
        let last = if met > length { format!(", the last {length} of which count") } else { String::new() };
        let skipped = match known.skipped.len() {
            0 => String::new(),
            skipped => format!("; {skipped} left out that the model does not know"),
        };
        print(&format!("after {met} item{}{last}{skipped}:", if met == 1 { "" } else { "s" }));
    }
    show(&answer);
    Ok(())
}

fn for_many(arguments: &RecommendArgs, mut recommender: Recommender, settings: &Settings) -> Result<()> {
    let RecommendArgs { users, histories, skip_unknown, out, explain, .. } = arguments;
    let output = out.as_deref().map(|out| Output::begin(out, recommender.catalogue().titled(), explain.is_some()));
    let mut output = output.transpose()?;
    let catalogue = recommender.catalogue();
    let histories = match (users, histories) {
        (Some(users), _) => {
            let users = read_users(users)?;
            Histories::of_users(&read_interactions(settings)?, Some(&users), catalogue, *skip_unknown)?
        }
        (None, Some(file)) => Histories::read(file, catalogue, *skip_unknown)?,
        (None, None) => Histories::default(),
    };
    let Histories { requests, skipped_items, skipped_users } = &histories;
    let bar = bar(requests.len(), "recommending");
    for some in requests.chunks(recommender.batch()) {
        let items: Vec<&[u32]> = some.iter().map(|request| &request.history[..]).collect();
        let answers = recommender.recommend(&items, options(arguments))?;
        for (Request { user, .. }, answer) in some.iter().zip(&answers) {
            match &mut output {
                Some(output) => output.add(user, answer)?,
                None => print(&to_json(&Line { user, answer })?),
            }
        }
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    if let (Some(output), Some(out)) = (output, out) {
        output.finish()?;
        let skipped = match (skipped_items, skipped_users) {
            (0, 0) => String::new(),
            (items, users) => format!("; left out as unknown: {items} items of histories, {users} users"),
        };
        print(&format!("lists for {} users in {}{skipped}", requests.len(), Path::display(out)));
    }
    Ok(())
}

fn show(answer: &Answer) {
    let Answer { recommendations, intentions } = answer;
    let ids = recommendations.iter().map(|r| r.item.id.chars().count());
    let width = ids.max().unwrap_or(0).max(4);
    print(&format!("{:<width$}  {:>9}  intention", "item", "score"));
    for r in recommendations {
        let described = r.item.described();
        print(&format!("{:<width$}  {:>9.4}  {:>9}{described}", r.item.id, r.score, r.intention));
    }
    for of in intentions {
        print(&format!("intention {}: {:.1}% of the history", of.intention, 100.0 * of.share));
        for fed in &of.from {
            print(&format!("  {:>5.1}%  {}{}", 100.0 * fed.share, fed.item.id, fed.item.described()));
        }
    }
}
