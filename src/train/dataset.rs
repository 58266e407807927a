//! The data of a run: read from a file, or generated.

use std::sync::Arc;

use crate::checkpoint::DataRecord;
use crate::data::clean::{Cleaning, Dropped, clean};
use crate::data::generate::{Generator, Planted};
use crate::data::read::{Format, Interactions, Reading, Source, Times, read_files};
use crate::data::split::{Part, Split, Training};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluator, Options, Protocol};
use crate::settings::{Moment, Settings};

/// Interactions, split by user.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The file's path, or what was generated.
    pub name: String,
    pub split: Arc<Split>,
    /// The category of every item, `[items]`, where it is known: in generated data.
    pub categories: Option<Vec<u32>>,
    /// How the file was read; nothing where there is none.
    pub source: Option<Source>,
    /// What was left out.
    pub dropped: Dropped,
}

/// A data file that was read, and what is kept of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub interactions: Interactions,
    pub times: Option<Times>,
    pub source: Source,
    pub dropped: Dropped,
}

/// Reads and cleans the settings' data files; with the times where they are to be kept, or a split takes them.
///
/// # Errors
/// As [`read_files`], and where nothing is left.
pub fn load(settings: &Settings, keep_times: bool) -> Result<Loaded> {
    let mut format = settings.format();
    format.keep_times |= keep_times;
    let Reading { interactions, times, source } = read_files(&settings.data.paths(), &format)?;
    let (interactions, times, dropped) = clean(interactions, times, &settings.cleaning())?;
    Ok(Loaded { interactions, times, source, dropped })
}

impl Dataset {
    /// Reads the settings' data file, or generates data where they name none.
    ///
    /// # Errors
    /// As [`read_files`], and where nothing is left, or nothing can be held out by time.
    pub fn open(settings: &Settings) -> Result<Dataset> {
        let cleaning = settings.cleaning();
        if settings.data.is_empty() {
            if settings.format() != Format::default() || cleaning != Cleaning::default() {
                return Err(Error::Setting(
                    "settings of columns, ratings, repeats, cores and times are for a file of data: name one".into(),
                ));
            }
            return Ok(Dataset::planted(Generator::default().generate(settings.data_seed)));
        }
        let Loaded { interactions, times, source, dropped } = load(settings, false)?;
        let split = Arc::new(split(settings, interactions, times.as_ref())?);
        Ok(Dataset { name: settings.data.to_string(), split, categories: None, source: Some(source), dropped })
    }

    /// As [`open`](Dataset::open), with the items numbered as in a checkpoint.
    ///
    /// # Errors
    /// As [`open`](Dataset::open), and where an item is not in the catalogue.
    pub fn open_for(settings: &Settings, catalogue: &[String]) -> Result<Dataset> {
        let data = Dataset::open(settings)?;
        if data.split.interactions().items == catalogue {
            return Ok(data);
        }
        let split = Arc::new(data.split.renumbered(catalogue)?);
        // The numbers of the categories' items are those of the generator.
        Ok(Dataset { split, categories: None, ..data })
    }

    /// Generated data.
    pub fn planted(planted: Planted) -> Dataset {
        let split = Arc::new(Split::new(planted.interactions, Training::Apart));
        Dataset {
            name: "generated data".into(),
            split,
            categories: Some(planted.categories),
            source: None,
            dropped: Dropped::default(),
        }
    }

    /// What a checkpoint remembers of the data.
    pub fn record(&self) -> DataRecord {
        let interactions = self.split.interactions();
        DataRecord { counts: interactions.counts(), fingerprint: format!("{:016x}", fingerprint(interactions)) }
    }

    /// Refuses data other than those of the record.
    ///
    /// # Errors
    /// [`Error::Data`] that says what differs.
    pub fn check(&self, record: &DataRecord) -> Result<()> {
        let found = self.record();
        if found == *record {
            return Ok(());
        }
        let (a, b) = (found.counts, record.counts);
        let differs = if a == b {
            "the counts are the same, the interactions are not".to_owned()
        } else {
            format!(
                "{} users, {} items, {} interactions instead of {}, {}, {}",
                a.users, a.items, a.interactions, b.users, b.items, b.interactions
            )
        };
        Err(Error::Data(format!(
            "{}: not the data that the run began with ({differs}); name them: prismrec train DATA --resume RUN",
            self.name
        )))
    }

    /// The evaluation that these settings call for.
    ///
    /// # Errors
    /// Where no user can be evaluated.
    pub fn evaluator(&self, settings: &Settings, part: Part, protocol: Protocol) -> Result<Evaluator> {
        let users = (part == Part::Validation && settings.valid_users > 0).then_some(settings.valid_users);
        let options = Options {
            position_from: settings.position_from,
            exclude_known: !settings.rank_known,
            users,
            seed: settings.data_seed,
            prior: settings.prior(),
        };
        Evaluator::new(self.split.clone(), part, protocol, options)
    }
}

/// Leave-one-out, or by time where the settings say when.
fn split(settings: &Settings, interactions: Interactions, times: Option<&Times>) -> Result<Split> {
    let moments = [settings.valid_from, settings.test_from];
    if moments == [Moment::None; 2] {
        return Ok(Split::new(interactions, Training::Apart));
    }
    let times = times.ok_or_else(|| {
        Error::Data(format!("{}: has no times, and cannot be split by them (--valid-from, --test-from)", settings.data))
    })?;
    let mut sorted: Vec<f64> = Vec::new();
    let mut time = |moment: Moment| match moment {
        Moment::None => Err(Error::Setting("a split by time takes both --valid-from and --test-from".into())),
        Moment::At(time) => Ok(time),
        Moment::Share(share) => {
            if sorted.is_empty() {
                sorted = (0..times.len()).map(|place| times.get(place)).collect();
                sorted.sort_unstable_by(f64::total_cmp);
            }
            Ok(sorted[((share / 100.0 * sorted.len() as f64) as usize).min(sorted.len() - 1)])
        }
    };
    let (valid, test) = (time(settings.valid_from)?, time(settings.test_from)?);
    if valid >= test {
        return Err(Error::Setting(format!("--valid-from ({valid}) is to be before --test-from ({test})")));
    }
    Ok(Split::by_time(interactions, times, [valid, test]))
}

/// FNV-1a over item ids and interactions. Users' ids do not matter to a model, their order does.
fn fingerprint(interactions: &Interactions) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for item in &interactions.items {
        add(item.as_bytes());
        // No id holds the end of a line.
        add(b"\n");
    }
    for &offset in &interactions.offsets {
        add(&(offset as u64).to_le_bytes());
    }
    for &item in &interactions.clicks {
        add(&item.to_le_bytes());
    }
    hash
}
