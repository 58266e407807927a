//! JSON lines: an object for each interaction.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::Columns;

/// The values of an object that matter; empty where there are none.
#[derive(Default)]
pub(super) struct Row<'a> {
    pub user: Cow<'a, str>,
    pub item: Cow<'a, str>,
    pub time: Cow<'a, str>,
    pub rating: Cow<'a, str>,
}

/// The keys of the object in `line`.
pub(super) fn keys(line: &str) -> Result<Vec<String>, String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line) {
        Ok(object) => Ok(object.into_iter().map(|(key, _)| key).collect()),
        Err(error) => Err(wrong(&error)),
    }
}

/// The object in `line`.
pub(super) fn row<'a>(line: &'a str, columns: &Columns) -> Result<Row<'a>, String> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let row = Object(columns).deserialize(&mut reader).and_then(|row| reader.end().map(|()| row));
    row.map_err(|error| wrong(&error))
}

fn wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // A line is read alone, and its number is told elsewhere.
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("expected a JSON object: {text} (column {})", error.column())
}

struct Object<'c>(&'c Columns);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Row<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        let Columns { names, user, item, time, rating } = self.0;
        let rating = rating.map(|(place, _)| place);
        let mut row = Row::default();
        while let Some(place) = map.next_key_seed(Key(names))? {
            let to = match place {
                Some(place) if place == *user => &mut row.user,
                Some(place) if place == *item => &mut row.item,
                Some(place) if Some(place) == *time => &mut row.time,
                Some(place) if Some(place) == rating => &mut row.rating,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *to = scalar(map.next_value::<&RawValue>()?.get())?;
        }
        Ok(row)
    }
}

/// A string's text, or a number as it is written; nothing for null.
fn scalar<E: serde::de::Error>(raw: &str) -> Result<Cow<'_, str>, E> {
    match raw.as_bytes().first() {
        Some(b'"') if !raw.contains('\\') => Ok(raw[1..raw.len() - 1].into()),
        Some(b'"') => serde_json::from_str::<String>(raw).map(Cow::Owned).map_err(E::custom),
        Some(b'{' | b'[') => Err(E::custom("found an object or a list where an id or a number is expected")),
        _ if raw == "null" => Ok("".into()),
        _ => Ok(raw.into()),
    }
}

/// The place of a key among the names.
struct Key<'c>(&'c [String]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| name == key))
    }
}
