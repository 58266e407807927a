//! Values that a setting takes: ranges, and types that are written as a number or a word.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The values allowed for a setting.
pub(super) trait Allowed<T> {
    fn allows(&self, value: &T) -> bool;
    /// The range in words; `None` where the type alone decides.
    fn words(&self) -> Option<String>;
}

/// Every value of the type.
pub(super) struct Any;

impl<T> Allowed<T> for Any {
    fn allows(&self, _value: &T) -> bool {
        true
    }
    fn words(&self) -> Option<String> {
        None
    }
}

impl<T: PartialOrd + fmt::Debug> Allowed<T> for RangeInclusive<T> {
    fn allows(&self, value: &T) -> bool {
        self.contains(value)
    }
    fn words(&self) -> Option<String> {
        Some(format!("{:?} to {:?}", self.start(), self.end()))
    }
}

impl<T: PartialOrd + fmt::Debug> Allowed<T> for Range<T> {
    fn allows(&self, value: &T) -> bool {
        self.contains(value)
    }
    fn words(&self) -> Option<String> {
        Some(format!("{:?} to below {:?}", self.start, self.end))
    }
}

/// What a setting may look like in a file or in a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Plain {
    Whole(u64),
    Negative(i64),
    Number(f64),
    Text(String),
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plain::Whole(value) => value.fmt(f),
            Plain::Negative(value) => value.fmt(f),
            Plain::Number(value) => value.fmt(f),
            Plain::Text(value) => value.fmt(f),
        }
    }
}

/// How often the model is validated: after so many epochs (`2`), or after so many steps (`500steps`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub enum Every {
    Epochs(u64),
    Steps(u64),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, every): (_, fn(u64) -> Every) = match text.strip_suffix("steps") {
            Some(number) => (number.trim_end(), Every::Steps),
            None => (text, Every::Epochs),
        };
        match number.parse() {
            Ok(n) if n > 0 => Ok(every(n)),
            _ => Err(format!("\"{text}\" is neither a number of epochs (2) nor of steps (500steps)")),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Every::Epochs(n) => write!(f, "{n}"),
            Every::Steps(n) => write!(f, "{n}steps"),
        }
    }
}

impl TryFrom<Plain> for Every {
    type Error = String;
    fn try_from(value: Plain) -> Result<Self, String> {
        value.to_string().parse()
    }
}

impl From<Every> for Plain {
    fn from(value: Every) -> Plain {
        match value {
            Every::Epochs(n) => Plain::Whole(n),
            Every::Steps(_) => Plain::Text(value.to_string()),
        }
    }
}

/// The item table's initial values: Glorot's uniform ones, or normal ones of this standard deviation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub enum ItemDeviation {
    Glorot,
    Normal(f64),
}

impl ItemDeviation {
    /// The standard deviation, where it is not Glorot's.
    pub fn normal(self) -> Option<f64> {
        match self {
            ItemDeviation::Glorot => None,
            ItemDeviation::Normal(deviation) => Some(deviation),
        }
    }
}

impl FromStr for ItemDeviation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "glorot" {
            return Ok(ItemDeviation::Glorot);
        }
        match text.parse() {
            Ok(deviation) if deviation > 0.0 && deviation <= 10.0 => Ok(ItemDeviation::Normal(deviation)),
            _ => Err(format!("\"{text}\" is neither \"glorot\" nor a number above 0 and up to 10")),
        }
    }
}

impl fmt::Display for ItemDeviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemDeviation::Glorot => f.write_str("glorot"),
            ItemDeviation::Normal(deviation) => deviation.fmt(f),
        }
    }
}

impl TryFrom<Plain> for ItemDeviation {
    type Error = String;
    fn try_from(value: Plain) -> Result<Self, String> {
        value.to_string().parse()
    }
}

impl From<ItemDeviation> for Plain {
    fn from(value: ItemDeviation) -> Plain {
        match value {
            ItemDeviation::Glorot => Plain::Text("glorot".into()),
            ItemDeviation::Normal(deviation) => Plain::Number(deviation),
        }
    }
}

/// Files of data.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Files(pub Vec<String>);

/// What files may look like in a file of settings or in a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Files {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(PathBuf::from).collect()
    }
}

impl From<OneOrMany> for Files {
    fn from(value: OneOrMany) -> Files {
        match value {
            OneOrMany::One(file) => file.into(),
            OneOrMany::Many(files) => Files(files),
        }
    }
}

impl From<Files> for OneOrMany {
    fn from(Files(mut files): Files) -> OneOrMany {
        match &files[..] {
            [] => OneOrMany::One(String::new()),
            [_] => OneOrMany::One(files.remove(0)),
            _ => OneOrMany::Many(files),
        }
    }
}

impl From<String> for Files {
    fn from(file: String) -> Files {
        Files(if file.is_empty() { Vec::new() } else { vec![file] })
    }
}

impl FromStr for Files {
    type Err = std::convert::Infallible;

    fn from_str(file: &str) -> Result<Self, Self::Err> {
        Ok(file.to_owned().into())
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [first, others @ ..] if others.len() > 2 => write!(f, "{first} and {} more files", others.len()),
            files => f.write_str(&files.join(", ")),
        }
    }
}

/// The lowest rating that is kept.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub enum MinRating {
    None,
    Least(f64),
}

impl MinRating {
    pub fn least(self) -> Option<f64> {
        match self {
            MinRating::None => None,
            MinRating::Least(rating) => Some(rating),
        }
    }
}

impl FromStr for MinRating {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "none" => Ok(MinRating::None),
            Ok(rating) if rating.is_finite() => Ok(MinRating::Least(rating)),
            _ => Err(format!("\"{text}\" is neither a rating nor \"none\"")),
        }
    }
}

/// A time in the unit of the data, or the share of all interactions that are before it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub enum Moment {
    None,
    At(f64),
    /// In percent.
    Share(f64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is neither a time (a number), nor a share (80%), nor \"none\"");
        if text == "none" {
            return Ok(Moment::None);
        }
        match text.strip_suffix('%') {
            Some(share) => {
                let share = share.trim_end().parse().ok().filter(|share| *share > 0.0 && *share < 100.0);
                share.map(Moment::Share).ok_or_else(wrong)
            }
            None => text.parse().ok().filter(|time: &f64| time.is_finite()).map(Moment::At).ok_or_else(wrong),
        }
    }
}

macro_rules! plain {
    ($($type:ident),+) => { $(
        impl TryFrom<Plain> for $type {
            type Error = String;
            fn try_from(value: Plain) -> Result<Self, String> {
                value.to_string().parse()
            }
        }
    )+ };
}
plain!(MinRating, Moment);

impl From<MinRating> for Plain {
    fn from(value: MinRating) -> Plain {
        match value {
            MinRating::None => Plain::Text("none".into()),
            MinRating::Least(rating) => Plain::Number(rating),
        }
    }
}

impl From<Moment> for Plain {
    fn from(value: Moment) -> Plain {
        match value {
            Moment::None => Plain::Text("none".into()),
            Moment::At(time) => Plain::Number(time),
            Moment::Share(share) => Plain::Text(format!("{share}%")),
        }
    }
}
