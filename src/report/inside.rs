//! What a trained model makes of items and users: where items lie, and the intentions of tokens.

use std::path::Path;

use super::plane::plane;
use super::record::Record;
use crate::checkpoint::Checkpoint;
use crate::data::split::{Part, Split};
use crate::data::titles::Titles;
use crate::engine;
use crate::error::{Error, Result};
use crate::intentions::{each_token, most_probable};
use crate::model::{ITEM_TABLE, Model};
use crate::settings::{Files, Given, Settings};
use crate::train::Dataset;

/// Items on the map.
pub const MAP_ITEMS: usize = 2000;
/// Users whose tokens say what an item's intention is.
const MAP_USERS: usize = 10_000;
/// Example users, the fewest items they have met, and the most that are shown of them.
const USERS: usize = 6;
const FEWEST_TOKENS: usize = 8;
const MOST_TOKENS: usize = 40;

/// Beside the runs: the data, titles, what computes.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The data; where there are none, those that a run names, if they are still there.
    pub data: Files,
    /// Titles; where there are none, those that a run names.
    pub items: Option<String>,
    /// The engine, where it is not to be what trained.
    pub computed: Given,
}

/// What the best epoch's model makes of items and users.
#[derive(Clone, Debug)]
pub struct Inside {
    pub epoch: u64,
    pub intentions: usize,
    pub map: Map,
    /// `None` without data.
    pub users: Option<Vec<User>>,
    pub titled: bool,
}

/// Items in the plane of their vectors' principal components.
#[derive(Clone, Debug)]
pub struct Map {
    pub items: Vec<Mapped>,
    /// The share of the variance that each axis keeps.
    pub kept: [f64; 2],
    pub catalogue: usize,
    /// Users whose training tokens the intentions are means over; 0 where each item was looked at alone.
    pub users: usize,
}

/// An item on the map.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub name: String,
    pub at: [f64; 2],
    /// The most probable intention, from 0, and its mean p_{k|i}.
    pub intention: usize,
    pub share: f64,
}

/// A user, and the intentions of what they met.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// Items before the first token that is shown.
    pub before: usize,
    pub tokens: Vec<Token>,
}

/// An item that a user met.
#[derive(Clone, Debug)]
pub struct Token {
    pub name: String,
    /// p_{k|i} of eq. 8, `[intentions]`.
    pub shares: Vec<f32>,
}

impl Token {
    /// The most probable intention, from 0.
    pub fn intention(&self) -> usize {
        most_probable(&self.shares)
    }
}

impl Inside {
    /// Looks into a run's best checkpoint; `None` where it was not validated yet.
    ///
    /// # Errors
    /// Where the checkpoint or a file cannot be read, the data are not those it was trained on, or the engine fails.
    pub fn look(record: &Record, look: &Look) -> Result<Option<Inside>> {
        let path = record.folder.join("best.safetensors");
        if !path.is_file() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::load(&path)?;
        let settings = checkpoint.settings.clone().with(&look.computed)?;
        let data = dataset(&settings, &checkpoint, look, record)?;
        let titles = Titles::given_or(look.items.as_deref().map(Path::new), &settings.items, &checkpoint.items)?;
        let names = Names { items: &checkpoint.items, titles };
        let model = checkpoint.model(engine::open(&settings.engine_request()?)?, settings.hyper())?;
        let mut asked = Asked { model, settings: &settings };
        let split = data.as_ref().map(|data| &*data.split);
        Ok(Some(Inside {
            epoch: checkpoint.epoch,
            intentions: settings.intentions,
            map: map(&mut asked, &checkpoint, split, &names)?,
            users: split.map(|split| users(&mut asked, split, &names)).transpose()?,
            titled: names.titles.is_some(),
        }))
    }
}

/// The data: those given, or else those that the run was trained on, if they are still what they were.
fn dataset(settings: &Settings, checkpoint: &Checkpoint, look: &Look, record: &Record) -> Result<Option<Dataset>> {
    let given = !look.data.is_empty();
    let files = if given { look.data.clone() } else { settings.data.clone() };
    if !given && files.paths().iter().any(|path| !path.exists()) {
        return Ok(None);
    }
    let settings = Settings { data: files, ..settings.clone() };
    let differs = match Dataset::open_for(&settings, &checkpoint.items) {
        Ok(data) if data.record() == checkpoint.data => return Ok(Some(data)),
        Ok(data) => {
            let [found, counts] = [data.record().counts, checkpoint.data.counts].map(|counts| {
                format!("{} users, {} items, {} interactions", counts.users, counts.items, counts.interactions)
            });
            format!("{found}, where the run had {counts}")
        }
        Err(Error::Data(reason)) => reason,
        Err(error) => return Err(error),
    };
    if given {
        return Err(Error::Data(format!(
            "{}: not the data that {} was trained on: {differs}",
            settings.data,
            record.name()
        )));
    }
    Ok(None)
}

/// Items' titles, or else their ids.
struct Names<'a> {
    items: &'a [String],
    titles: Option<Titles>,
}

impl Names<'_> {
    fn of(&self, item: u32) -> String {
        let title = self.titles.as_ref().and_then(|titles| titles.title(item));
        title.unwrap_or(&self.items[item as usize]).to_owned()
    }
}

/// A model that is asked for intentions.
struct Asked<'a> {
    model: Model,
    settings: &'a Settings,
}

impl Asked<'_> {
    /// Gives each token's item and p_{k|i} to `take`, of the last L tokens of every sequence.
    fn intentions(&mut self, sequences: &[&[u32]], take: impl FnMut(u32, &[f32])) -> Result<()> {
        each_token(&mut self.model, sequences, self.settings.position_from, take)
    }
}

fn map(asked: &mut Asked<'_>, checkpoint: &Checkpoint, split: Option<&Split>, names: &Names<'_>) -> Result<Map> {
    let catalogue = checkpoint.items.len();
    let intentions = asked.settings.intentions;
    let mut sums = vec![0.0_f64; catalogue * intentions];
    let add = |item: u32, shares: &[f32]| {
        let sum = &mut sums[item as usize * intentions..][..intentions];
        sum.iter_mut().zip(shares).for_each(|(sum, &share)| *sum += f64::from(share));
    };
    let (mut items, users): (Vec<u32>, _) = match split {
        Some(split) => {
            let users = evenly(split.counts().users, MAP_USERS);
            let sequences: Vec<&[u32]> = users.iter().map(|&user| split.training(user)).collect();
            asked.intentions(&sequences, add)?;
            let frequency = split.frequency();
            let mut items: Vec<u32> = (0..catalogue as u32).collect();
            items.sort_by_key(|&item| std::cmp::Reverse(frequency[item as usize]));
            items.truncate(MAP_ITEMS);
            (items, users.len())
        }
        None => {
            let items = evenly(catalogue, MAP_ITEMS);
            let alone: Vec<&[u32]> = items.iter().map(std::slice::from_ref).collect();
            asked.intentions(&alone, add)?;
            (items, 0)
        }
    };
    // Items that only held-out or other users' tokens have: nothing is known of their intentions.
    let shares = |item: u32| &sums[item as usize * intentions..][..intentions];
    items.retain(|&item| shares(item).iter().sum::<f64>() > 0.0);
    let dim = asked.settings.dim;
    let table = &checkpoint.parameters[ITEM_TABLE].data;
    let rows: Vec<f32> = items.iter().flat_map(|&item| &table[item as usize * dim..][..dim]).copied().collect();
    let plane = plane(&rows, dim);
    let mapped = items.iter().zip(plane.points).map(|(&item, at)| {
        let shares = shares(item);
        let intention = most_probable(shares);
        let share = shares[intention] / shares.iter().sum::<f64>();
        Mapped { name: names.of(item), at, intention, share }
    });
    Ok(Map { items: mapped.collect(), kept: plane.kept, catalogue, users })
}

/// Users drawn evenly among those with a history worth seeing; what they met before the test item.
fn users(asked: &mut Asked<'_>, split: &Split, names: &Names<'_>) -> Result<Vec<User>> {
    let all = split.evaluated_users(Part::Test, None, 0);
    let history = |user: u32| split.history(user, Part::Test);
    let longest = all.iter().map(|&user| history(user).len()).max().unwrap_or(0);
    let enough: Vec<u32> = all.into_iter().filter(|&user| history(user).len() >= FEWEST_TOKENS.min(longest)).collect();
    let mut found = Vec::new();
    for place in evenly(enough.len(), USERS) {
        let user = enough[place as usize];
        let history = history(user);
        let mut tokens = Vec::new();
        asked.intentions(&[history], |item, shares| {
            tokens.push(Token { name: names.of(item), shares: shares.to_vec() });
        })?;
        let tokens = tokens.split_off(tokens.len().saturating_sub(MOST_TOKENS));
        let name = split.interactions().users[user as usize].clone();
        found.push(User { name, before: history.len() - tokens.len(), tokens });
    }
    Ok(found)
}

/// At most `most` of the numbers below `n`, evenly spread.
fn evenly(n: usize, most: usize) -> Vec<u32> {
    let taken = n.min(most);
    (0..taken).map(|i| (i * n / taken) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_evenly() {
        assert_eq!(evenly(3, 6), [0, 1, 2]);
        assert_eq!(evenly(10, 4), [0, 2, 5, 7]);
        assert!(evenly(0, 4).is_empty());
    }
}
