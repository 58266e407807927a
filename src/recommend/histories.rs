//! Whose histories are asked about: users of a data file, or histories in a file of their own.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::catalogue::{Catalogue, Known};
use crate::data::generate::Generator;
use crate::data::read::Interactions;
use crate::error::{Error, Result};
use crate::settings::{Given, Settings};
use crate::train::load;

/// One history.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub user: String,
    /// Items in the model's numbers, oldest first.
    pub history: Vec<u32>,
}

/// Many histories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histories {
    pub requests: Vec<Request>,
    /// Items that were left out because the model does not know them.
    pub skipped_items: usize,
    /// Users that were left out: unknown, or without an item that the model knows.
    pub skipped_users: usize,
}

/// Reads the settings' data with all that users did: columns, ratings, repeats and the last interactions are as in
/// training, but no user or item is left out for being rare. Without files of data, those that were generated.
///
/// # Errors
/// As for training.
pub fn read_interactions(settings: &Settings) -> Result<Interactions> {
    if settings.data.is_empty() {
        return Ok(Generator::default().generate(settings.data_seed).interactions);
    }
    let all = Given { user_core: Some(0), item_core: Some(0), ..Given::default() };
    Ok(load(&settings.clone().with(&all)?, false)?.interactions)
}

impl Histories {
    /// Those of these users, or of all. Where `skip_unknown`, users and items that are not known are left out.
    ///
    /// # Errors
    /// [`Error::Data`] where a user is not in the data, or the model does not know an item.
    pub fn of_users(
        interactions: &Interactions,
        users: Option<&[String]>,
        catalogue: &Catalogue,
        skip_unknown: bool,
    ) -> Result<Histories> {
        let users: Box<dyn Iterator<Item = (&str, Option<u32>)> + '_> = match users {
            None => Box::new(interactions.users.iter().map(String::as_str).zip((0..).map(Some))),
            Some(users) => {
                let numbers: HashMap<&str, u32> = interactions.users.iter().map(String::as_str).zip(0..).collect();
                Box::new(users.iter().map(move |user| (user.as_str(), numbers.get(user.as_str()).copied())))
            }
        };
        let mut histories = Histories::default();
        for (user, number) in users {
            let Some(number) = number else {
                if skip_unknown {
                    histories.skipped_users += 1;
                    continue;
                }
                return Err(Error::Data(format!(
                    "there is no user \"{user}\" in the data ({} users)",
                    interactions.users.len()
                )));
            };
            let items = interactions.sequence(number).iter().map(|&item| interactions.items[item as usize].as_str());
            histories
                .add(user, items, catalogue, skip_unknown)
                .map_err(|e| Error::Data(format!("user \"{user}\": {e}")))?;
        }
        Ok(histories)
    }

    /// How often each of so many items occurs.
    pub fn frequency(&self, items: usize) -> Vec<usize> {
        let mut frequency = vec![0; items];
        for item in self.requests.iter().flat_map(|request| &request.history) {
            frequency[*item as usize] += 1;
        }
        frequency
    }

    /// Reads `user item item ...` lines, oldest first.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be read, [`Error::Line`] for a line without items, or with unknown ones.
    pub fn read(path: &Path, catalogue: &Catalogue, skip_unknown: bool) -> Result<Histories> {
        let mut histories = Histories::default();
        for (line, text) in lines(path)? {
            let mut fields = text.split_whitespace();
            let user = fields.next().unwrap_or_default();
            histories.add(user, fields, catalogue, skip_unknown).map_err(|e| Error::Line {
                path: path.into(),
                line,
                reason: e.to_string(),
            })?;
        }
        Ok(histories)
    }

    fn add<'a>(
        &mut self,
        user: &str,
        items: impl Iterator<Item = &'a str> + Clone,
        catalogue: &Catalogue,
        skip_unknown: bool,
    ) -> Result<()> {
        match catalogue.known(items.clone(), skip_unknown) {
            Ok(Known { items, skipped }) => {
                self.skipped_items += skipped.len();
                self.requests.push(Request { user: user.to_owned(), history: items });
            }
            // An empty history is wrong even so.
            Err(_) if skip_unknown && items.clone().next().is_some() => {
                self.skipped_items += items.count();
                self.skipped_users += 1;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Reads a file with a user's id a line.
///
/// # Errors
/// [`Error::File`] where it cannot be read.
pub fn read_users(path: &Path) -> Result<Vec<String>> {
    Ok(lines(path)?.into_iter().map(|(_, line)| line).collect())
}

/// A text's lines that are not blank, with their numbers.
fn lines(path: &Path) -> Result<Vec<(u64, String)>> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let lines: Vec<_> = (1..)
        .zip(text.trim_start_matches('\u{feff}').lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, line.to_owned()))
        .collect();
    if lines.is_empty() {
        return Err(Error::Data(format!("{}: has no line", path.display())));
    }
    Ok(lines)
}
