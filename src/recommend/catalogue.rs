//! The items that a model knows, and how they are shown.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::data::titles::Titles;
use crate::error::{Error, Result};

/// The most unknown items that an error names.
const NAMED: usize = 5;

/// Items by number and by id.
#[derive(Debug)]
pub struct Catalogue {
    ids: Vec<String>,
    numbers: HashMap<String, u32>,
    titles: Option<Titles>,
}

/// An item as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// The item's own id.
    #[serde(rename = "item")]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl Item {
    /// Title and categories, as text behind the id.
    pub fn described(&self) -> String {
        let title = self.title.as_ref().map_or_else(String::new, |title| format!("  {title}"));
        match &self.categories[..] {
            [] => title,
            categories => format!("{title}  ({})", categories.join(", ")),
        }
    }
}

/// A history in the model's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub items: Vec<u32>,
    /// Ids that the model does not know and that were left out, in order.
    pub skipped: Vec<String>,
}

impl Catalogue {
    /// # Errors
    /// Where the file of titles cannot be read, or has nothing of these items.
    pub fn new(ids: Vec<String>, titles: Option<&Path>) -> Result<Catalogue> {
        let titles = titles.map(|file| Titles::read(file, &ids)).transpose()?;
        let numbers = ids.iter().zip(0..).map(|(id, number)| (id.clone(), number)).collect();
        Ok(Catalogue { ids, numbers, titles })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All ids, in order.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Whether items have titles or categories.
    pub fn titled(&self) -> bool {
        self.titles.is_some()
    }

    /// An item's number.
    pub fn number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// An item's number.
    ///
    /// # Errors
    /// [`Error::Data`] where the model does not know it.
    pub fn find(&self, id: &str) -> Result<u32> {
        self.number(id).ok_or_else(|| {
            Error::Data(format!(
                "the model does not know the item \"{id}\" (it knows the {} items of its training data)",
                self.len()
            ))
        })
    }

    /// An item as it is shown.
    pub fn item(&self, number: u32) -> Item {
        let titles = self.titles.as_ref();
        Item {
            id: self.ids[number as usize].clone(),
            title: titles.and_then(|titles| titles.title(number)).map(str::to_owned),
            categories: titles.map_or_else(Vec::new, |titles| titles.categories(number).to_vec()),
        }
    }

    /// The items of a history. Where `skip_unknown`, those that the model does not know are left out.
    ///
    /// # Errors
    /// [`Error::Data`] where the history is empty or has, and is not to have, unknown items, or no other.
    pub fn known<'a>(&self, history: impl Iterator<Item = &'a str>, skip_unknown: bool) -> Result<Known> {
        let mut known = Known::default();
        for id in history {
            match self.number(id) {
                Some(number) => known.items.push(number),
                None => known.skipped.push(id.to_owned()),
            }
        }
        let Known { items, skipped } = &known;
        if !skipped.is_empty() && (!skip_unknown || items.is_empty()) {
            let names: Vec<_> = skipped.iter().take(NAMED).map(|id| format!("\"{id}\"")).collect();
            let more = match skipped.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return Err(Error::Data(format!(
                "the model does not know {} of the history: {}{more} (it knows the {} items of its training data){}",
                if items.is_empty() {
                    "any item"
                } else if skipped.len() == 1 {
                    "an item"
                } else {
                    "items"
                },
                names.join(", "),
                self.len(),
                if items.is_empty() { "" } else { "; --skip-unknown leaves them out" },
            )));
        }
        if items.is_empty() {
            return Err(Error::Data("the history is empty: a recommendation takes at least one item".into()));
        }
        Ok(known)
    }
}
