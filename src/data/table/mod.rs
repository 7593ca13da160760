//! Any log of ratings: a CSV or Parquet file whose columns the recipe names, with files of items and users where there
//! are some. Titles, item texts and user texts are templates over the columns of those files.

mod load;
mod parquet;
mod rows;
mod time;

use serde::{Deserialize, Serialize};

pub use load::{TEXT, load};
pub use time::TimeFormat;

use super::delimited::Dialect;
use crate::error::{Error, Result};

/// The middle of the default scale.
pub const THRESHOLD: f32 = 3.0;

/// See [`Settings::damaged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Damaged {
    /// The first one is an error.
    #[default]
    Refuse,
    /// They are left out and counted; more than one in ten is an error.
    Skip,
}

/// Which column is what. Names of columns are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// File of ratings in `data.path`, CSV (plain or .gz) or Parquet. Default `ratings.csv`.
    pub ratings: String,
    /// Column with the user's id. Default `user`.
    pub user: String,
    /// Column with the item's id. Default `item`.
    pub item: String,
    /// Column with the rating; empty: every row is a like. Default `rating`.
    pub rating: String,
    /// Column with the time; empty: there are none. Default `time`.
    pub time: String,
    /// How times are written: `auto`, `seconds`, `milliseconds`, `microseconds` or `iso`. Default `auto`: by the first row.
    pub time_format: TimeFormat,
    /// Smallest and largest rating. Default 1 and 5.
    pub scale: (f32, f32),
    /// What an item is called in prompts. Default `item`.
    pub noun: String,
    /// Between the columns of CSV files, one character. Default `,`.
    pub separator: String,
    /// What stands before a quote inside of a quoted field, one character; empty: the quote is doubled. Default empty.
    pub escape: String,
    /// Damaged rows: `refuse` or `skip`. Default `refuse`.
    pub damaged: Damaged,
    /// File of items, CSV or Parquet; empty: an item's id is its title. Default empty.
    pub items: String,
    /// Its column with the item's id; empty: as in the ratings. Default empty.
    pub item_id: String,
    /// Template of the title over its columns. Default `{{ title }}`.
    pub title: String,
    /// Its column with genres; empty: none. Default empty.
    pub genres: String,
    /// Between genres. Default `|`.
    pub genre_separator: String,
    /// Template of the text that an item is embedded by, over its columns. Empty: sentences of title and genre.
    pub item_text: String,
    /// File of users, CSV or Parquet; empty: nothing is known of users. Default empty.
    pub users: String,
    /// Its column with the user's id; empty: as in the ratings. Default empty.
    pub user_id: String,
    /// Template of what a prompt says of a user, over its columns. Default empty: nothing.
    pub user_text: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratings: "ratings.csv".into(),
            user: "user".into(),
            item: "item".into(),
            rating: "rating".into(),
            time: "time".into(),
            time_format: TimeFormat::Auto,
            scale: (1.0, 5.0),
            noun: "item".into(),
            separator: ",".into(),
            escape: String::new(),
            damaged: Damaged::Refuse,
            items: String::new(),
            item_id: String::new(),
            title: "{{ title }}".into(),
            genres: String::new(),
            genre_separator: "|".into(),
            item_text: String::new(),
            users: String::new(),
            user_id: String::new(),
            user_text: String::new(),
        }
    }
}

impl Settings {
    /// The middle of the scale; without ratings, everything is a like.
    pub fn threshold(&self) -> f32 {
        if self.rating.is_empty() { 0.0 } else { (self.scale.0 + self.scale.1) / 2.0 }
    }

    /// The smallest and largest rating in force.
    pub fn scale(&self) -> (f32, f32) {
        if self.rating.is_empty() { (1.0, 1.0) } else { self.scale }
    }

    /// How CSV files are written.
    pub fn dialect(&self) -> Result<Dialect> {
        let one = |key: &str, text: &str| match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => Ok(*byte),
            _ => Err(Error::usage(format!("data.table.{key}"), format!("`{text}` is not one ASCII character"))
                .next("use e.g. \",\", \";\" or \"\\t\"")),
        };
        let escape = if self.escape.is_empty() { None } else { Some(one("escape", &self.escape)?) };
        Ok(Dialect { separator: one("separator", &self.separator)?, escape })
    }

    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        self.dialect()?;
        for (key, value) in
            [("ratings", &self.ratings), ("user", &self.user), ("item", &self.item), ("noun", &self.noun)]
        {
            if value.trim().is_empty() {
                return Err(Error::usage(format!("data.table.{key}"), "must not be empty").next("name it"));
            }
        }
        let (low, high) = self.scale;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(Error::usage("data.table.scale", format!("[{low}, {high}] is not a scale"))
                .next("give the smallest and the largest rating, e.g. [1, 5]"));
        }
        if !self.genres.is_empty() && self.genre_separator.is_empty() {
            return Err(Error::usage("data.table.genre_separator", "must not be empty").next("set it to e.g. \"|\""));
        }
        Ok(())
    }
}
