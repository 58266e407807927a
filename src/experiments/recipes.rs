//! The recipes in `datasets/`, by name: settings that train a data set well, and where its data come from.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::settings::{Files, Given};

/// What the program carries of `datasets/`.
const RECIPES: &[(&str, &str)] = &[
    ("beauty", include_str!("../../datasets/beauty.toml")),
    ("steam", include_str!("../../datasets/steam.toml")),
    ("ml-1m", include_str!("../../datasets/ml-1m.toml")),
    ("ml-20m", include_str!("../../datasets/ml-20m.toml")),
    ("ml-100k", include_str!("../../datasets/ml-100k.toml")),
    ("ml-latest-small", include_str!("../../datasets/ml-latest-small.toml")),
];

/// Settings, and where the data come from that they are for.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub settings: Given,
    /// Nothing in a recipe of settings alone.
    pub source: Option<Source>,
}

/// Where a data set comes from: the table `[source]` of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// What the data are, in words.
    pub title: String,
    pub url: String,
    /// The name of the data file in the folder of downloads.
    pub file: String,
    /// Bytes that the URL gives, where they are known.
    pub size: Option<u64>,
    /// Git's id of what the URL gives.
    pub git_blob: Option<String>,
    pub sha256: Option<String>,
    /// The data's place in the zip archive that the URL gives.
    pub member: Option<String>,
    pub member_sha256: Option<String>,
    /// The place in the archive of the items' titles, and their file's name in the folder of downloads.
    pub titles_member: Option<String>,
    pub titles_file: Option<String>,
    pub users: usize,
    pub items: usize,
    pub interactions: usize,
    /// The terms of use in short, and where they stand.
    pub licence: String,
    pub licence_url: String,
}

/// The names of the recipes that the program carries.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}

/// A recipe: `datasets/NAME.toml` under this folder where it is there, else the one built in.
///
/// # Errors
/// Where there is no recipe of that name, or its file is none.
pub fn recipe(name: &str) -> Result<Recipe> {
    let file = Path::new("datasets").join(format!("{name}.toml"));
    if file.is_file() {
        let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        return parse(&file.display().to_string(), &text);
    }
    let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = names().collect();
        return Err(Error::Setting(format!("there is no recipe \"{name}\"; there are: {}", names.join(", "))));
    };
    parse(name, text)
}

fn parse(name: &str, text: &str) -> Result<Recipe> {
    #[derive(Deserialize)]
    struct Sourced {
        source: Option<Source>,
    }
    let settings = Given::parse_named(name, text)?;
    let wrong = |reason: &str| Error::Data(format!("{name}: [source]: {reason}"));
    let Sourced { source } = toml::from_str(text).map_err(|e| wrong(e.message()))?;
    if settings.data.as_ref().is_some_and(|files: &Files| !files.is_empty()) && source.is_some() {
        return Err(wrong("the recipe names its data twice: as `data` and here"));
    }
    if let Some(source) = &source {
        source.check().map_err(|reason| wrong(&reason))?;
    }
    Ok(Recipe { settings, source })
}

impl Source {
    /// Refuses what could not be checked, or would be written elsewhere.
    fn check(&self) -> std::result::Result<(), String> {
        if self.git_blob.is_none() && self.sha256.is_none() {
            return Err("needs git-blob or sha256: what cannot be checked is not fetched".into());
        }
        for name in [Some(&self.file), self.titles_file.as_ref()].into_iter().flatten() {
            let plain = Path::new(name).file_name().is_some_and(|only| only.to_str() == Some(name));
            if !plain || name.starts_with('.') {
                return Err(format!("\"{name}\" is to be a file's name, without a folder or a dot in front"));
            }
        }
        if self.titles_file.is_some() != self.titles_member.is_some() {
            return Err("titles-member and titles-file belong together".into());
        }
        if self.titles_member.is_some() && self.member.is_none() {
            return Err("titles-member is for archives: name the data's member too".into());
        }
        Ok(())
    }
}
