//! Settings of a training run. Each is defined once, in the list at the end of this file: its name (the flag, and the
//! key in TOML files and in a run's record), type, default, range and help.

use std::path::Path;

use serde::{Deserialize, Serialize};

mod values;

pub use values::{Every, Files, ItemDeviation, MinRating, Moment};

use crate::data::batch::PositionFrom;
use crate::data::clean::{Cleaning, Repeats};
use crate::data::read::Format;
use crate::engine::{Checks, EngineChoice, EngineRequest, EntryPoint};
use crate::error::{Error, Result};
use crate::evaluate::Protocol;
use crate::kernels::activations::Activations;
use crate::kernels::storage::ItemStorage;
use crate::kernels::{MAX_DIM, MAX_INTENTIONS, MAX_PAIRS};
use crate::model::{Hyper, Prior, Shape, Variant};
use values::{Allowed, Any};

/// The largest number where nothing else limits it.
const LARGEST: u64 = u32::MAX as u64;

macro_rules! settings {
    ($($section:literal { $(
        $(#[doc = $doc:literal])+
        $name:ident: $type:ty = $default:expr, $allowed:expr, [$($arg:tt)*];
    )+ })+) => {
        /// All settings of a run.
        ///
        /// A record from before a setting existed has its default: what the program did then.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Settings { $($(
            $(#[doc = $doc])+
            pub $name: $type,
        )+)+ }

        /// Settings as far as flags or a file give them.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, clap::Args)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Given { $($(
            #[arg(help_heading = $section, help = help(&key(stringify!($name)), concat!($($doc),+)), $($arg)*)]
            pub $name: Option<$type>,
        )+)+ }

        /// Every setting's field and help.
        const FIELDS: &[(&str, &str)] = &[$($((stringify!($name), concat!($($doc),+)),)+)+];

        /// The section that a setting belongs to.
        pub(crate) fn section(name: &str) -> Option<&'static str> {
            $($(if name == key(stringify!($name)) {
                return Some($section);
            })+)+
            None
        }

        impl Default for Settings {
            /// What holds for data that is given.
            fn default() -> Self {
                Settings { $($($name: $default,)+)+ }
            }
        }

        impl Settings {
            fn set(&mut self, given: &Given) {
                $($(if let Some(value) = &given.$name {
                    self.$name.clone_from(value);
                })+)+
            }

            /// Refuses values out of range.
            ///
            /// # Errors
            /// [`Error::Setting`] that names the setting and its range.
            pub fn check(&self) -> Result<()> {
                $($(if !Allowed::<$type>::allows(&$allowed, &self.$name) {
                    let range = Allowed::<$type>::words(&$allowed).unwrap_or_default();
                    let (name, value) = (key(stringify!($name)), &self.$name);
                    return Err(Error::Setting(format!("{name} {value:?} is out of range: it takes {range}")));
                })+)+
                Ok(())
            }
        }

        impl Given {
            /// These settings, and where they give nothing, the others.
            pub fn or(self, other: Given) -> Given {
                Given { $($($name: self.$name.or(other.$name),)+)+ }
            }

            /// Names of the settings given.
            pub fn names(&self) -> Vec<String> {
                let given = [$($((stringify!($name), self.$name.is_some()),)+)+];
                given.iter().filter(|(_, given)| *given).map(|(field, _)| key(field)).collect()
            }
        }

        /// The range of a setting in words.
        fn range(name: &str) -> Option<String> {
            $($(if name == key(stringify!($name)) {
                return Allowed::<$type>::words(&$allowed);
            })+)+
            None
        }
    };
}

/// A setting's name: the flag and the key in files.
fn key(field: &str) -> String {
    field.replace('_', "-")
}

/// Every setting's name and help.
fn names() -> impl Iterator<Item = (String, &'static str)> {
    FIELDS.iter().map(|(field, help)| (key(field), *help))
}

/// A setting's help: what it is, its range, its default.
fn help(name: &str, text: &str) -> String {
    let default = |settings: &Settings| toml::Table::try_from(settings).ok()?.get(name).map(ToString::to_string);
    let (real, generated) = (default(&Settings::default()), default(&Settings::generated()));
    let mut help = text.trim().trim_end_matches('.').to_owned();
    if let Some(range) = range(name) {
        help += &format!(" [{range}]");
    }
    match (real, generated) {
        (Some(real), _) if real == "\"\"" || real == "false" => {}
        (Some(real), Some(generated)) if real != generated => {
            help += &format!(" [default: {real}; {generated} with the generated data]");
        }
        (Some(real), _) => help += &format!(" [default: {}]", real.trim_matches('"')),
        (None, _) => {}
    }
    help
}

impl Settings {
    /// What holds where the data is generated: small enough to train within a minute.
    fn generated() -> Settings {
        Settings { length: 20, lr: 2e-3, epochs: 8, patience: 3, ..Settings::default() }
    }

    /// The settings that flags and a file give, over the defaults. Flags win.
    ///
    /// # Errors
    /// [`Error::Setting`] where a value is out of range.
    pub fn new(flags: Given, file: Given) -> Result<Settings> {
        let given = flags.or(file);
        let generated = given.data.as_ref().is_none_or(Files::is_empty);
        let mut settings = if generated { Settings::generated() } else { Settings::default() };
        settings.set(&given);
        settings.check()?;
        Ok(settings)
    }

    /// These settings with others in place of some.
    ///
    /// # Errors
    /// [`Error::Setting`] where a value is out of range.
    pub fn with(mut self, given: &Given) -> Result<Settings> {
        self.set(given);
        self.check()?;
        Ok(self)
    }

    /// Reads all settings of a run from the file that [`to_toml`](Settings::to_toml) gave.
    ///
    /// # Errors
    /// As [`Given::read`], and where a setting is out of range. Settings that are missing have their defaults.
    pub fn read(path: &Path) -> Result<Settings> {
        // For errors that name the line.
        Given::read(path)?;
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        let settings: Settings =
            toml::from_str(&text).map_err(|e| Error::Setting(format!("{}: {}", path.display(), e.message())))?;
        settings.check().map_err(|e| Error::Setting(format!("{}: {e}", path.display())))?;
        Ok(settings)
    }

    /// A TOML file with every setting and what it means.
    pub fn to_toml(&self) -> String {
        let table = toml::Table::try_from(self).unwrap_or_default();
        let lines = names().filter_map(|(name, help)| {
            let value = table.get(&name)?;
            Some(format!("#{help}\n{name} = {value}\n"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether there is a setting of this name.
    pub fn has(name: &str) -> bool {
        names().any(|(known, _)| known == name)
    }

    /// What to say of a name that no setting has.
    pub fn unknown(name: &str) -> String {
        unknown(name)
    }

    /// These settings, computed where and on what the others are: data, engine, adapter, threads, activations, debugging.
    pub fn computed_as(self, other: &Settings) -> Settings {
        let Settings { data, engine, adapter, threads, activations, split, checked, .. } = other.clone();
        Settings { data, engine, adapter, threads, activations, split, checked, ..self }
    }

    /// Names of the settings that differ, but for those of where a run is computed.
    pub fn differing(&self, other: &Settings) -> Vec<String> {
        let tables =
            [self.clone(), other.clone().computed_as(self)].map(|s| toml::Table::try_from(s).unwrap_or_default());
        names().map(|(name, _)| name).filter(|name| tables[0].get(name) != tables[1].get(name)).collect()
    }

    /// Which columns of the data to take.
    pub fn format(&self) -> Format {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Format {
            user: text(&self.user_column),
            item: text(&self.item_column),
            time: text(&self.time_column),
            rating: text(&self.rating_column),
            min_rating: self.min_rating.least(),
            keep_times: self.valid_from != Moment::None || self.test_from != Moment::None,
        }
    }

    /// Which of the data to keep.
    pub fn cleaning(&self) -> Cleaning {
        let Settings { repeats, last, user_core, item_core, .. } = *self;
        Cleaning { repeats, last, user_core, item_core }
    }

    /// Shapes of the parameters for a catalogue of this many items.
    pub fn shape(&self, items: usize) -> Shape {
        let Settings { dim, intentions, length, blocks, .. } = *self;
        Shape { items, dim, intentions, length, blocks }
    }

    /// What else decides a training step.
    pub fn hyper(&self) -> Hyper {
        let Settings {
            variant, position_from, batch, dropout, lambda, l2, temperature, lr, item_storage, seed, ..
        } = *self;
        Hyper { variant, position_from, batch, dropout, lambda, l2, temperature, learning_rate: lr, item_storage, seed }
    }

    /// What scores take from items' occurrences in training.
    pub fn prior(&self) -> Prior {
        let Settings { popularity, cold_bonus, .. } = *self;
        Prior { popularity, cold_bonus }
    }

    /// The engine to open.
    ///
    /// # Errors
    /// [`Error::Setting`] where the split names no kernel.
    pub fn engine_request(&self) -> Result<EngineRequest> {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(EngineRequest {
            choice: self.engine,
            adapter: text(&self.adapter),
            threads: self.threads,
            split: text(&self.split).map(|split| split.parse()).transpose()?,
            checks: if self.checked { Checks::Checked } else { Checks::default() },
            entry_point: EntryPoint::ByAdapter,
            activations: self.activations,
        })
    }
}

impl Given {
    /// Reads settings from a TOML file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read; [`Error::Line`] where it is not TOML, has a key that is no setting or a
    /// value of another type.
    pub fn read(path: &Path) -> Result<Given> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Given::parse(&text).map_err(|(at, reason)| Error::Line {
            path: path.to_owned(),
            line: line_of(&text, at),
            reason,
        })
    }

    /// Reads settings from a TOML file's text; errors call it by `name`.
    ///
    /// # Errors
    /// As [`read`](Given::read).
    pub fn parse_named(name: &str, text: &str) -> Result<Given> {
        Given::parse(text).map_err(|(at, reason)| Error::Line { path: name.into(), line: line_of(text, at), reason })
    }

    /// As `read`; an error is the byte where it is and what it is.
    fn parse(text: &str) -> std::result::Result<Given, (usize, String)> {
        type Key<'a> = toml::Spanned<toml::de::DeString<'a>>;
        type Value<'a> = toml::Spanned<toml::de::DeValue<'a>>;
        let wrong = |e: toml::de::Error| (e.span().map_or(0, |span| span.start), e.message().to_owned());
        let mut table = toml::de::DeTable::parse(text).map_err(wrong)?;
        // Recipes say where their data come from, too.
        let source = |(key, value): &(&Key, &Value)| key.get_ref() == "source" && value.get_ref().is_table();
        if let Some(key) = table.get_ref().iter().find(source).map(|(key, _)| key.clone()) {
            table.get_mut().remove(&key);
        }
        for key in table.get_ref().keys() {
            let name: &str = key.get_ref();
            if !names().any(|(known, _)| known == name) {
                return Err((key.span().start, unknown(name)));
            }
        }
        Given::deserialize(toml::de::Deserializer::from(table)).map_err(wrong)
    }
}

/// The line, from 1, that this byte is in.
fn line_of(text: &str, at: usize) -> u64 {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What to say of a key that is no setting.
fn unknown(name: &str) -> String {
    let similar = |known: &str| strsim::jaro_winkler(known, &name.replace('_', "-"));
    let nearest = names().map(|(known, _)| known).max_by(|a, b| similar(a).total_cmp(&similar(b)));
    match nearest.filter(|known| similar(known) > 0.7) {
        Some(known) => format!("there is no setting \"{name}\"; did you mean \"{known}\"?"),
        None => {
            let names: Vec<_> = names().map(|(known, _)| known).collect();
            format!("there is no setting \"{name}\"; there are: {}", names.join(", "))
        }
    }
}

settings! {
    "Data" {
        /// File of "user item" or "user item item ..." lines in order of time, a table (CSV, tabs, ::, JSON lines, Parquet), also
        /// packed with gzip or zstd; a folder stands for all its files; without it, data
        /// with planted intentions are generated.
        data: Files = Files::default(), Any, [value_name = "DATA", help_heading = None::<&str>];
        /// The column of users, by name, or by number (from 1) where there is no header; found by its name where it is not given.
        user_column: String = String::new(), Any, [long, value_name = "COLUMN"];
        /// The column of items.
        item_column: String = String::new(), Any, [long, value_name = "COLUMN"];
        /// The column of times (numbers).
        time_column: String = String::new(), Any, [long, value_name = "COLUMN"];
        /// The column of ratings, for --min-rating.
        rating_column: String = String::new(), Any, [long, value_name = "COLUMN"];
        /// File of the items' titles and categories: a table with columns such as movieId, title, genres, or JSON lines.
        items: String = String::new(), Any, [long, value_name = "FILE"];
        /// Leave out interactions that are rated lower than this number, or "none".
        min_rating: MinRating = MinRating::None, Any, [long, value_name = "RATING", allow_negative_numbers = true];
        /// What becomes of an item that a user met several times: keep all, the first, the last, or the first of several in a
        /// row (adjacent).
        repeats: Repeats = Repeats::Keep, Any, [long];
        /// Then keep the last interactions of each user, so many; 0 for all.
        last: usize = 0, 0..=LARGEST as usize, [long, value_name = "N"];
        /// Then drop users with fewer interactions, and items with fewer than --item-core, until none is left.
        user_core: usize = 0, 0..=LARGEST as usize, [long, value_name = "N"];
        /// Drop items with fewer interactions.
        item_core: usize = 0, 0..=LARGEST as usize, [long, value_name = "N"];
        /// Split by time, not leave-one-out: validation begins at this time (in the unit of the times, or 80% of all interactions).
        valid_from: Moment = Moment::None, Any, [long, value_name = "TIME", allow_negative_numbers = true];
        /// Split by time: the test begins at this time.
        test_from: Moment = Moment::None, Any, [long, value_name = "TIME", allow_negative_numbers = true];
        /// Decides the generated data, and the users and negatives of evaluations: the same for models to compare.
        data_seed: u64 = 1, 0..=LARGEST, [long, value_name = "SEED"];
    }
    "Model" {
        /// D, the dimensions of items and intentions.
        dim: usize = 64, 1..=MAX_DIM, [long, value_name = "D"];
        /// K, the intentions that a sequence is separated into.
        intentions: usize = 4, 1..=MAX_INTENTIONS, [long, value_name = "K"];
        /// Attention blocks of the encoder.
        blocks: usize = 2, 1..=32, [long, value_name = "N"];
        /// L, the most items of a sequence that are encoded: its last ones.
        length: usize = 50, 1..=65_536, [long, value_name = "L"];
        /// Whether position rows count from the last item of a sequence or from its first.
        position_from: PositionFrom = PositionFrom::End, Any, [long];
        /// Standard deviation of the item table's initial values, or "glorot" for Glorot's uniform ones.
        item_deviation: ItemDeviation = ItemDeviation::Glorot, Any, [long, value_name = "DEVIATION"];
        /// How the item table and Adam's moments of it are stored: f32, or in half the memory (bf16); all arithmetic is in f32.
        item_storage: ItemStorage = ItemStorage::F32, Any, [long];
    }
    "Training" {
        /// Losses that are trained, as in Table 2 of the paper.
        variant: Variant = Variant::Full, Any, [long];
        /// The share of pairs (example, intention) that the seq2seq loss takes: the most confident ones.
        lambda: f64 = 0.5, 0.0..=1.0, [long];
        /// The epoch (3) or the step (500steps) from which the seq2seq loss counts; until then a step trains seq2item alone,
        /// at its cost.
        seq2seq_from: Every = Every::Epochs(1), Any, [long, value_name = "WHEN"];
        /// What the losses divide scores by, beside sqrt(D); 1 in the paper.
        temperature: f64 = 1.0, 1e-3..=1e3, [long];
        /// The share of elements that dropout zeroes.
        dropout: f64 = 0.5, 0.0..1.0, [long];
        /// Weight of the squares of the item rows in use.
        l2: f64 = 0.0, 0.0..=1.0, [long];
        /// B, the examples of a step.
        batch: usize = 128, 1..=MAX_PAIRS, [long, value_name = "B"];
        /// Adam's learning rate.
        lr: f64 = 1e-3, 1e-9..=1.0, [long];
        /// The most epochs (passes over all examples).
        epochs: u64 = 200, 1..=1_000_000, [long, value_name = "N"];
        /// The most steps; 0 for no limit.
        steps: u64 = 0, 0..=LARGEST, [long, value_name = "N"];
        /// The share of training items that are replaced with items drawn uniformly, as in figure 4 of the paper; what is
        /// evaluated, and the histories before it, stay clean.
        noise: f64 = 0.0, 0.0..=1.0, [long, value_name = "SHARE"];
        /// Decides the initial parameters, the order of the examples, dropout and noise.
        seed: u64 = 1, 0..=LARGEST, [long];
        /// Then train anew on training and validation items for as many epochs as the best had, and test that too.
        refit: bool = false, Any, [long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
            hide_possible_values = true, value_name = "BOOL"];
    }
    "Evaluation" {
        /// Validate after so many epochs (2) or so many steps (500steps).
        eval_every: Every = Every::Epochs(1), Any, [long, value_name = "EVERY"];
        /// The protocol whose NDCG@10 in validation picks the epoch.
        choose_by: Protocol = Protocol::Sampled, Any, [long];
        /// Stop after this many validations without a better NDCG@10; 0 for never.
        patience: u64 = 10, 0..=1_000_000, [long, value_name = "N"];
        /// Users to validate with; 0 for all. All users are tested.
        valid_users: usize = 10_000, 0..=LARGEST as usize, [long, value_name = "N"];
        /// In the full protocol, rank the truth also against the items that the user is known to have met.
        rank_known: bool = false, Any, [long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
            hide_possible_values = true, value_name = "BOOL"];
    }
    "Scores" {
        /// How many times ln(1 + n) an item's logit gets at evaluation and in recommendations, for n occurrences in training.
        popularity: f64 = 0.0, -100.0..=100.0, [long, value_name = "WEIGHT", allow_negative_numbers = true];
        /// What the logit gets of an item that never occurs in training.
        cold_bonus: f64 = 0.0, -1e3..=1e3, [long, value_name = "LOGIT", allow_negative_numbers = true];
    }
    "Engine" {
        /// What computes.
        engine: EngineChoice = EngineChoice::Auto, Any, [long];
        /// Part of the name of the GPU adapter to take.
        adapter: String = String::new(), Any, [long, value_name = "NAME"];
        /// Threads of the CPU engine; 0 for all cores.
        threads: usize = 0, 0..=1024, [long, value_name = "N"];
        /// How GPUs store activations: f32, or in half the memory (f16), where shaders have 16-bit floats; all arithmetic is in
        /// f32.
        activations: Activations = Activations::F32, Any, [long];
        /// Debugging: run the kernels up to and with this one on one engine and the rest on the other (cpu:attention).
        split: String = String::new(), Any, [long, value_name = "ENGINE:KERNEL"];
        /// Debugging: have shaders check their indices, as browsers do.
        checked: bool = false, Any, [long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
            hide_possible_values = true, value_name = "BOOL"];
    }
}
