//! `prismrec data`

use std::path::{Path, PathBuf};

use super::{MoreData, plot, print, show};
use crate::data::read::write_prepared;
use crate::data::statistics::Statistics;
use crate::data::titles::Titles;
use crate::error::{Error, Result};
use crate::settings::{Given, Settings};
use crate::train::{Loaded, load};

/// The most popular items that are listed.
const LISTED: usize = 10;

/// Show what is in a file of data, and prepare it
#[derive(clap::Args)]
#[command(mut_args(of_data_alone))]
#[command(after_help = "\
Examples:
  prismrec data ratings.csv                                     counts, lengths and popularity
  prismrec data ratings.csv --items movies.csv --svg data.svg   with titles, and as a picture
  prismrec data ratings.csv --min-rating 4 --user-core 5 --item-core 5 --write good.safetensors
  prismrec train good.safetensors                               loads what was written at once")]
pub(super) struct DataArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    more: MoreData,
    /// TOML file of settings, as for training; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Draw the distributions into an SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write what is kept in a form that loads at once
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Hides the settings that have nothing to do with data.
fn of_data_alone(arg: clap::Arg) -> clap::Arg {
    let other = matches!(arg.get_help_heading(), Some("Model" | "Training" | "Evaluation" | "Engine"));
    arg.hide(other)
}

pub(super) fn run(arguments: DataArgs) -> Result<()> {
    let DataArgs { given, more, config, svg, write, json } = arguments;
    if let Some(name) = given.names().into_iter().find(|name| crate::settings::section(name) != Some("Data")) {
        return Err(Error::Setting(format!("--{name} has nothing to do with data: it is for prismrec train")));
    }
    let file = config.as_deref().map(Given::read).transpose()?.unwrap_or_default();
    let settings = Settings::new(more.with(given), file)?;
    if settings.data.is_empty() {
        return Err(Error::Setting("name a file of data: prismrec data FILE".into()));
    }
    let loaded = load(&settings, true)?;
    let Loaded { interactions, times, source, dropped } = &loaded;
    let titles = match &settings.items[..] {
        "" => None,
        file => Some(Titles::read(Path::new(file), &interactions.items)?),
    };
    let statistics = Statistics::of(interactions, times.as_ref());
    if json {
        print(&serde_json::json!(statistics).to_string());
    } else {
        print(&show::heading(&settings.data.to_string(), statistics.counts));
        show::reading(Some(source), dropped).iter().for_each(|line| print(line));
        plot::statistics(&statistics).iter().for_each(|line| print(line));
        print("most popular items:");
        let frequency = interactions.frequency();
        let mut order: Vec<u32> = (0..interactions.items.len() as u32).collect();
        order.sort_by_key(|&item| std::cmp::Reverse(frequency[item as usize]));
        for &item in order.iter().take(LISTED) {
            let id = &interactions.items[item as usize];
            let title = show::title(titles.as_ref(), item);
            print(&format!("  {:>9}  {id}{title}", show::thousands(frequency[item as usize] as usize)));
        }
        if let Some(titles) = &titles {
            let (known, all) = (show::thousands(titles.known), show::thousands(interactions.items.len()));
            print(&format!("{}: titles of {known} of {all} items", settings.items));
        }
    }
    if let Some(file) = svg {
        crate::run::write_whole(&file, plot::svg(&settings.data.to_string(), &statistics)?.as_bytes())?;
        told(json, &format!("drawn in {}", file.display()));
    }
    if let Some(file) = write {
        write_prepared(&file, interactions, times.as_ref(), &settings.data.to_string())?;
        told(json, &format!("written to {0}; try: prismrec train {0}", file.display()));
    }
    Ok(())
}

/// Says what was done, but not within JSON.
fn told(json: bool, text: &str) {
    if !json {
        print(text);
    }
}
