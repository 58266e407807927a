//! What is searched: lists of values for settings.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::{Stream, stream};
use crate::error::{Error, Result};
use crate::settings::{Given, Settings};

/// The paper's grid, and the two things that it leaves to TensorFlow's and Adam's defaults.
const PAPER: &str = r#"
dim = [16, 32, 64, 128, 256]
blocks = [1, 2, 3]
lambda = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
intentions = [1, 2, 3, 4, 5, 6, 7, 8]
dropout = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
l2 = [0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
lr = [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
item-deviation = ["glorot", 0.01, 0.02, 0.05, 0.1, 0.2]
"#;

/// Values to draw from, by the name of the setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space(IndexMap<String, Vec<Value>>);

impl Space {
    /// The paper's grid, with learning rate and item deviation.
    ///
    /// # Errors
    /// Never, but for a mistake in the program.
    pub fn paper() -> Result<Space> {
        Space::parse(PAPER).map_err(Error::Setting)
    }

    /// Reads a TOML file with a list of values for each setting that is to be drawn.
    ///
    /// # Errors
    /// Where it cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Space> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Space::parse(&text).map_err(|reason| {
            Error::Setting(format!("{}: {reason}; a space has lines such as dim = [32, 64]", path.display()))
        })
    }

    fn parse(text: &str) -> std::result::Result<Space, String> {
        toml::from_str(text).map(Space).map_err(|e| e.message().to_owned())
    }

    /// Leaves out what is given anyway.
    pub fn without(mut self, names: &[String]) -> Space {
        self.0.retain(|name, _| !names.contains(name));
        self
    }

    /// Refuses settings that there are not, values that they do not take, and what is not for drawing.
    ///
    /// # Errors
    /// [`Error::Setting`] that names them.
    pub fn check(&self, base: &Settings) -> Result<()> {
        for (name, values) in &self.0 {
            if ["data", "epochs", "steps", "eval-every", "choose-by", "valid-users", "rank-known", "data-seed"]
                .contains(&name.as_str())
            {
                return Err(Error::Setting(format!("{name} cannot be drawn: trials would not be comparable")));
            }
            if values.is_empty() {
                return Err(Error::Setting(format!("the space has no values for {name}")));
            }
            for value in values {
                base.clone().with(&given([(name, value)])?)?;
            }
        }
        Ok(())
    }

    /// The names that are drawn.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What `trial` has; the seed and the trial's number decide it.
    pub fn draw(&self, seed: u64, trial: u64) -> BTreeMap<String, Value> {
        let mut rng = stream(seed, Stream::Trial(trial));
        let draw =
            |(name, values): (&String, &Vec<Value>)| (name.clone(), values[rng.random_range(0..values.len())].clone());
        self.0.iter().map(draw).collect()
    }
}

/// Settings from names and values.
pub(super) fn given<'a>(values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Result<Given> {
    let table: serde_json::Map<String, Value> = values.into_iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    if let Some(name) = table.keys().find(|name| !Settings::has(name)) {
        return Err(Error::Setting(Settings::unknown(name)));
    }
    let shown = Value::Object(table.clone()).to_string();
    serde_json::from_value(Value::Object(table)).map_err(|e| Error::Setting(format!("{shown}: {e}")))
}
