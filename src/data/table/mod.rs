//! Any log of ratings: a CSV or Parquet file whose columns the recipe names, with files of items
//! and users where there are some. Titles, item texts and user texts are templates over the columns
//! of those files.

mod load;
mod parquet;
mod rows;
mod time;

use serde::{Deserialize, Serialize};

pub use load::{TEXT, load};
pub use time::TimeFormat;

use super::delimited::Dialect;
use super::set::DataSet;
use super::settings::ready_if_there;
use crate::error::{Error, Result};
use crate::settings::{Checked, Faults};

/// The data set.
pub static SET: DataSet = DataSet {
    name: "table",
    about: "any log of ratings as CSV or Parquet; data.table says which column is what",
    ready: |_, settings| ready_if_there(settings),
    load: |_, settings, monitor| load(settings, monitor),
    ..DataSet::PLAIN
};

/// What becomes of damaged rows.
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
    /// File of ratings in `data.path`: CSV (plain or .gz) or Parquet.
    #[schemars(length(min = 1))]
    pub ratings: String,
    /// Column with the user's id.
    #[schemars(length(min = 1))]
    pub user: String,
    /// Column with the item's id.
    #[schemars(length(min = 1))]
    pub item: String,
    /// Column with the rating. Empty: every row is a like.
    pub rating: String,
    /// Column with the time. Empty: there are none.
    pub time: String,
    /// How times are written; `auto` takes what the first row fits.
    pub time_format: TimeFormat,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// What an item is called in prompts.
    #[schemars(length(min = 1))]
    pub noun: String,
    /// Between the columns of CSV files: one ASCII character.
    pub separator: String,
    /// What stands before a quote inside of a quoted field: one ASCII character. Empty: the quote
    /// is doubled.
    pub escape: String,
    /// What becomes of damaged rows.
    pub damaged: Damaged,
    /// File of items, CSV or Parquet. Empty: an item's id is its title.
    pub items: String,
    /// Its column with the item's id. Empty: named as in the ratings.
    pub item_id: String,
    /// Template of the title over its columns.
    pub title: String,
    /// Its column with genres. Empty: there is none.
    pub genres: String,
    /// What stands between two genres.
    #[schemars(length(min = 1))]
    pub genre_separator: String,
    /// Template of the text that an item is embedded by, over its columns. Empty: sentences of
    /// title and genre.
    pub item_text: String,
    /// File of users, CSV or Parquet. Empty: nothing is known of users.
    pub users: String,
    /// Its column with the user's id. Empty: named as in the ratings.
    pub user_id: String,
    /// Template of what a prompt says of a user, over its columns. Empty: nothing.
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
    ///
    /// # Errors
    /// A separator or an escape that is not one ASCII character.
    pub fn dialect(&self) -> Result<Dialect> {
        let one = |key: &str, text: &str| {
            one_byte(text).ok_or_else(|| Error::usage(format!("data.table.{key}"), not_one(text)).next(ONE))
        };
        let escape = if self.escape.is_empty() { None } else { Some(one("escape", &self.escape)?) };
        Ok(Dialect { separator: one("separator", &self.separator)?, escape })
    }
}

const ONE: &str = "use e.g. \",\", \";\" or \"\\t\"";

fn not_one(text: &str) -> String {
    format!("`{text}` is not one ASCII character")
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => Some(*byte),
        _ => None,
    }
}

impl Checked for Settings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        faults.unless(one_byte(&self.separator).is_some(), "separator", not_one(&self.separator), ONE);
        let escape = self.escape.is_empty() || one_byte(&self.escape).is_some();
        faults.unless(escape, "escape", not_one(&self.escape), ONE);
        let (low, high) = self.scale;
        faults.unless(
            low < high,
            "scale",
            format!("[{low}, {high}] is not a scale"),
            "give the smallest and the largest rating, e.g. [1, 5]",
        );
        faults
    }
}
