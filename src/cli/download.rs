//! `prismrec download`, and the data of `--recipe`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::{print, show};
use crate::download::{self, News, Placed, fetch, find, folder, take};
use crate::error::{Error, Result};
use crate::experiments::recipes::{self, Recipe, Source, recipe};
use crate::settings::Given;

/// Fetch a recipe's data, and check them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec download --list                         what there is, with its terms
  prismrec download beauty                         into data/; a download that broke off goes on
  prismrec download beauty --to /data/sets         into another folder (or set PRISMREC_DATA)
  prismrec download ml-1m --file ~/ml-1m.txt       checks a copy that is there already, and takes that
  prismrec train --recipe beauty                   fetches them by itself where they are not there")]
pub(super) struct DownloadArgs {
    /// The recipe: datasets/NAME.toml, here or built in
    #[arg(value_name = "NAME", required_unless_present = "list", conflicts_with = "list")]
    name: Option<String>,
    /// A local copy to take instead
    #[arg(long, value_name = "PATH", requires = "name")]
    file: Option<PathBuf>,
    /// Folder of downloads [default: $PRISMREC_DATA, or data]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// List the recipes and the terms of their data
    #[arg(long)]
    list: bool,
}

pub(super) fn run(arguments: DownloadArgs) -> Result<()> {
    let DownloadArgs { name, file, to, .. } = arguments;
    let Some(name) = name else { return list() };
    let Recipe { source, .. } = recipe(&name)?;
    let source = source.ok_or_else(|| Error::Setting(format!("the recipe {name} does not say where its data are")))?;
    let folder = folder(to.as_deref());
    terms(&source);
    let placed = match (file, find(&source, &folder)?) {
        (Some(file), _) => with_bar(|tell| take(&source, &file, &folder, true, tell))?,
        (None, Some(placed)) => placed,
        (None, None) => with_bar(|tell| fetch(&source, &folder, tell))?,
    };
    print(&format!("{}: checked", placed.data.display()));
    if let Some(titles) = &placed.titles {
        print(&format!("{}: the items' titles", titles.display()));
    }
    let counts =
        crate::data::read::Counts { users: source.users, items: source.items, interactions: source.interactions };
    print(&show::heading(&name, counts));
    let elsewhere = to.map_or_else(String::new, |to| format!("{}={} ", download::FOLDER_VARIABLE, to.display()));
    print(&format!("try: {elsewhere}prismrec train --recipe {name}"));
    Ok(())
}

fn list() -> Result<()> {
    for name in recipes::names() {
        let Some(source) = recipe(name)?.source else { continue };
        let [users, items, interactions] = [source.users, source.items, source.interactions].map(show::thousands);
        print(&format!("{name:<16} {}", source.title));
        print(&format!("{:<16} {users} users, {items} items, {interactions} interactions", ""));
        print(&format!("{:<16} {} ({})", "", source.licence, source.licence_url));
    }
    Ok(())
}

fn terms(source: &Source) {
    print(&source.title);
    print(&format!("terms: {} ({})", source.licence, source.licence_url));
}

/// `given` with the data of the recipe, where it has any and `given` names none: `file`, else what lies in the folder of
/// downloads, else fetched.
///
/// # Errors
/// Where the data are not what the recipe says, or cannot be fetched.
pub(super) fn with_data(given: Given, name: Option<&str>, file: Option<&Path>) -> Result<Given> {
    let Some(name) = name.filter(|_| given.data.is_none()) else { return Ok(given) };
    let Some(source) = recipe(name)?.source else {
        return match file {
            None => Ok(given),
            Some(_) => Err(Error::Setting(format!(
                "the recipe {name} does not say what its data are: name them as DATA rather than --file"
            ))),
        };
    };
    let folder = folder(None);
    let placed = match (file, file.map_or_else(|| find(&source, &folder), |_| Ok(None))?) {
        (Some(file), _) => take(&source, file, &folder, false, &mut |_| ())?,
        (None, Some(placed)) => placed,
        (None, None) => {
            print(&format!("the data of {name} are not in {}: fetching them", folder.display()));
            terms(&source);
            with_bar(|tell| fetch(&source, &folder, tell))?
        }
    };
    let Placed { data, titles } = placed;
    let text = |path: PathBuf| path.display().to_string();
    Ok(Given { data: Some(text(data).into()), items: given.items.or(titles.map(text)), ..given })
}

/// Shows a bar of the bytes on a terminal; what is fetched is told in a line anywhere.
fn with_bar(work: impl FnOnce(&mut dyn FnMut(News<'_>)) -> Result<Placed>) -> Result<Placed> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("[{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    let done = work(&mut |news| match news {
        News::Fetching { url, from, size } => {
            let of = size.map_or_else(String::new, |size| format!(" of {size}"));
            let line = match from {
                0 => format!("fetching {url}"),
                from => format!("fetching {url}, going on after {from}{of} bytes"),
            };
            bar.suspend(|| print(&line));
            bar.set_length(size.unwrap_or(0));
            bar.set_position(from);
            bar.reset_eta();
        }
        News::Fetched(bytes) => bar.set_position(bytes),
        News::BrokenOff { at } => bar.suspend(|| print(&format!("the server broke off after {at} bytes"))),
        News::Checking | News::Unpacking => {}
    });
    bar.finish_and_clear();
    done
}
