//! Which columns of a table, keys of JSON objects or columns of Parquet hold users, items, times and ratings.

use super::fields::short;

/// Which columns to take, by name, or by number (from 1) where there is no header. What is left out is guessed from the
/// names in the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    pub user: Option<String>,
    pub item: Option<String>,
    pub time: Option<String>,
    pub rating: Option<String>,
    /// Leaves interactions of a lower rating out.
    pub min_rating: Option<f64>,
    /// Whether to give the interactions' times, too.
    pub keep_times: bool,
}

impl Format {
    fn given(&self) -> impl Iterator<Item = &String> {
        [&self.user, &self.item, &self.time, &self.rating].into_iter().flatten()
    }

    /// Whether any column is named.
    pub(super) fn names_any(&self) -> bool {
        self.given().next().is_some()
    }

    /// The highest column, where all that are given are numbers, and the user's and the item's are among them.
    pub(super) fn by_number(&self) -> Option<usize> {
        let numbers: Option<Vec<usize>> = self.given().map(|name| number(name)).collect();
        numbers.filter(|_| self.user.is_some() && self.item.is_some())?.into_iter().max()
    }
}

fn number(name: &str) -> Option<usize> {
    name.parse().ok().filter(|&number| number > 0)
}

/// What to take of a line, an object or a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// As the header names them.
    pub names: Vec<String>,
    /// Places of columns.
    pub user: usize,
    pub item: usize,
    /// Without it, lines are in order of time.
    pub time: Option<usize>,
    /// The rating's, and the lowest rating that is kept.
    pub rating: Option<(usize, f64)>,
}

/// Names of columns that hold users, in lower case, without anything between words.
const USERS: &[&str] =
    &["user", "userid", "uid", "username", "reviewer", "reviewerid", "customer", "customerid", "visitorid", "member"];
/// Names of columns that hold items.
const ITEMS: &[&str] = &[
    "item",
    "itemid",
    "iid",
    "movie",
    "movieid",
    "product",
    "productid",
    "asin",
    "parentasin",
    "book",
    "bookid",
    "isbn",
    "track",
    "trackid",
    "song",
    "songid",
    "artist",
    "artistid",
    "business",
    "businessid",
    "article",
    "articleid",
    "video",
    "videoid",
    "game",
    "gameid",
    "sku",
];
/// Names of columns that hold times as numbers.
const TIMES: &[&str] = &["time", "timestamp", "ts", "unixtime", "unixtimestamp", "unixreviewtime"];
/// Names of columns that hold ratings.
const RATINGS: &[&str] = &["rating", "ratings", "overall", "score", "stars", "rate"];

/// Whether a column of this name holds items.
pub(crate) fn is_item(name: &str) -> bool {
    ITEMS.contains(&plain(name).as_str())
}

/// Whether a line of these fields is a header, by the names at the places that numbers give.
pub(super) fn is_header(fields: &[String], format: &Format) -> bool {
    let known = |given: &Option<String>, names: &[&str]| {
        let field = given.as_deref().and_then(number).and_then(|number| fields.get(number - 1));
        field.is_some_and(|field| names.contains(&plain(field).as_str()))
    };
    known(&format.user, USERS) || known(&format.item, ITEMS)
}

/// Why columns cannot be told.
pub(super) struct Problem {
    pub reason: String,
    /// Whether some names are those of columns.
    pub partial: bool,
}

impl Columns {
    /// The places of the columns that a header of these names, or numbers in their place, tell.
    pub(super) fn find(names: &[String], format: &Format) -> Result<Columns, Problem> {
        let find = |given: &Option<String>, known: &[&str]| {
            let fits = |name: &String| match given {
                Some(given) => name.trim() == given || untyped(name.trim()) == given,
                None => known.contains(&plain(name).as_str()),
            };
            let places: Vec<usize> = (0..names.len()).filter(|&i| fits(&names[i])).collect();
            match (&places[..], given) {
                (&[place], _) => Ok(Some(place)),
                ([], None) => Ok(None),
                ([], Some(given)) => match number(given).filter(|&number| number <= names.len()) {
                    Some(number) => Ok(Some(number - 1)),
                    None => Err(format!("there is no column `{given}`")),
                },
                ([first, second, ..], _) => {
                    let [first, second] = [first, second].map(|&place| names[place].trim());
                    Err(format!("cannot tell which of the columns `{first}` and `{second}` to take"))
                }
            }
        };
        let mut found = vec![find(&format.user, USERS), find(&format.item, ITEMS), find(&format.time, TIMES)];
        if format.min_rating.is_some() || format.rating.is_some() {
            found.push(find(&format.rating, RATINGS));
        }
        let found: Result<Vec<Option<usize>>, String> = found.into_iter().collect();
        let partial = |reason: String| Problem { reason, partial: true };
        let found = found.map_err(partial)?;
        let missing = |what| format!("no column is {what} by its name");
        let (user, item) = match found[..] {
            [Some(user), Some(item), ..] => (user, item),
            [None, Some(_), ..] => return Err(partial(missing("the user's"))),
            [Some(_), None, ..] => return Err(partial(missing("the item's"))),
            _ => return Err(Problem { partial: false, reason: missing("the user's and none the item's") }),
        };
        let rating = match (format.min_rating, found.get(3).copied().flatten()) {
            (Some(least), Some(place)) => Some((place, least)),
            (Some(_), None) => return Err(partial(missing("the rating's, which --min-rating takes,"))),
            (None, _) => None,
        };
        let mut places: Vec<usize> = found.into_iter().flatten().collect();
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(partial("one column is to be two things".into()));
        }
        let names = names.to_vec();
        let time = find(&format.time, TIMES).unwrap_or(None);
        Ok(Columns { names, user, item, time, rating })
    }

    /// A column's name, for messages.
    pub(super) fn name(&self, place: usize) -> &str {
        self.names[place].trim()
    }

    /// Names of all columns, for messages.
    pub(super) fn shown(names: &[String]) -> String {
        const MOST: usize = 12;
        let shown: Vec<_> = names.iter().take(MOST).map(|name| format!("`{}`", short(name.trim()))).collect();
        let more = if names.len() > MOST { " ..." } else { "" };
        format!("{}{more}", shown.join(", "))
    }
}

/// A column's name without the type that some tools put behind it (`user_id:token`).
fn untyped(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// A column's name without case, type and what is between words.
pub(crate) fn plain(name: &str) -> String {
    untyped(name).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
