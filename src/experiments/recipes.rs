//! The recipes in `datasets/`, by name: settings that train a data set well.

use std::path::Path;

use crate::error::{Error, Result};
use crate::settings::Given;

/// What the program carries of `datasets/`.
const RECIPES: &[(&str, &str)] =
    &[("beauty", include_str!("../../datasets/beauty.toml")), ("ml-1m", include_str!("../../datasets/ml-1m.toml"))];

/// A recipe's settings: of `datasets/NAME.toml` under this folder where it is there, else of the one built in.
///
/// # Errors
/// Where there is no recipe of that name, or its file is none of settings.
pub fn recipe(name: &str) -> Result<Given> {
    let file = Path::new("datasets").join(format!("{name}.toml"));
    if file.is_file() {
        return Given::read(&file);
    }
    let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = RECIPES.iter().map(|(known, _)| *known).collect();
        return Err(Error::Setting(format!("there is no recipe \"{name}\"; there are: {}", names.join(", "))));
    };
    Given::parse_named(name, text)
}
