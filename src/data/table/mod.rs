//! Any log of ratings: files of text, JSON, Parquet or Arrow whose columns the recipe names, with
//! files of items and users where there are some. Titles, item texts and user texts are templates
//! over the columns of those files.

mod columns;
mod fetched;
mod files;
mod form;
mod ids;
mod load;
mod named;
mod parts;
mod rating;
mod rows;
mod sample;
mod template;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use files::Sources;
pub use load::{TEXT, load};
pub use named::Named;
pub use rating::{Missing, Reader, Written};
pub use rows::Layout;
pub use sample::{Sample, Wanted, look};

pub use super::settings::Damaged;
pub use super::time::TimeFormat;

use super::delimited::{Dialect, Separator};
use super::set::DataSet;
use super::settings::ready_if_there;
use crate::database::{self, Address};
use crate::error::{Error, Result};
use crate::settings::{Checked, Faults};

/// The data set.
pub static SET: DataSet = DataSet {
    name: "table",
    about: "any log of ratings as CSV, JSON, Parquet or Arrow; data.table says which column is what",
    ready: |_, settings| {
        if settings.table.needs_path() { ready_if_there(settings) } else { Ok(()) }
    },
    load: |_, settings, monitor| load(settings, monitor),
    ..DataSet::PLAIN
};

/// Which column is what. Names of columns are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableSettings {
    /// A database that the queries are run in: an SQLite file in `data.path`, or
    /// `postgresql://user@host:port/name` with any part left out. Passwords come from PGPASSWORD or
    /// `~/.pgpass` alone. Empty: `data.path` is the SQLite file.
    pub database: String,
    /// A SELECT whose rows are the ratings, in place of `ratings`. What it gives is known by its
    /// rows, not by their order.
    pub query: String,
    /// A SELECT whose rows are the items, in place of `items`.
    pub item_query: String,
    /// A SELECT whose rows are the users, in place of `users`.
    pub user_query: String,
    /// File of ratings in `data.path`: CSV, JSON, Parquet or Arrow (Feather), plain or compressed.
    /// Also a folder of part files, a pattern (`part-*.csv`), or several of them: a list, or with
    /// `;` between.
    #[schemars(length(min = 1), extend("type" = ["string", "array"], "items" = { "type": "string", "minLength": 1 }))]
    #[serde(deserialize_with = "files::one_or_several")]
    pub ratings: String,
    /// Column with the user's id: its name, or `#1` for the first one. Fields inside of others have
    /// dots between (`author.id`).
    #[schemars(length(min = 1))]
    pub user: String,
    /// Column with the item's id.
    #[schemars(length(min = 1))]
    pub item: String,
    /// File of the test part in `data.path`, where the split is given: `ratings` is then the
    /// training part. Not set, and `ratings` has `train` in its name: the file beside it that has
    /// `test` there, unless `data.split.by` says something else.
    pub test: String,
    /// File of the validation part, beside `test`.
    pub valid: String,
    /// Column with the part of the split, where it is given: `train`, `valid` or `test`.
    pub part: String,
    /// Column with the rating. Empty: every row is a like.
    pub rating: String,
    /// Column with the kind of event (`view`, `cart`, `purchase`) of a log without ratings. Of the
    /// events of a user with an item the one of the largest weight counts, the first of several.
    pub event: String,
    /// What each kind of event weighs: `["view = 1", "cart = 3", "purchase = 5"]`. Events of other
    /// kinds are left out. Empty: every kind weighs 1.
    pub weights: Vec<String>,
    /// Column with how often (plays, pieces) of a log without ratings: a row weighs so many times
    /// as much. What weighs more than `data.threshold` is a like; training draws heavier pairs more
    /// often.
    pub count: String,
    /// Column with the time. Empty: there are none.
    pub time: String,
    /// How times are written: `seconds`, `milliseconds`, `microseconds` or `nanoseconds` since
    /// 1970, `iso` (2024-05-17, with a clock and a zone or without), `yyyymmdd`, `year`, `excel`,
    /// or a pattern such as `%d.%m.%Y %H:%M`. `auto` takes what the first rows fit.
    pub time_format: TimeFormat,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// Ratings that are words, with what they mean: `["like = 5", "dislike = 1"]`. `true` and
    /// `false` are 1 and 0 without it.
    pub rating_words: Vec<String>,
    /// What an item is called in prompts.
    #[schemars(length(min = 1))]
    pub noun: String,
    /// Between the columns of text files: one or more characters; one blank stands for any number
    /// of blanks and tabs.
    pub separator: String,
    /// Around a field that may hold separators: one ASCII character. Empty: quotes are characters
    /// like others. `auto`: `"`, unless a file with tabs or several characters between its columns
    /// has quotes that do not close.
    pub quote: String,
    /// What stands before a quote inside of a quoted field: one ASCII character. Empty: the quote
    /// is doubled.
    pub escape: String,
    /// A line that begins with this character, and has not the columns of the others, is left out.
    /// Empty: there are no such lines.
    pub comment: String,
    /// Whether the first line of text files has the names of the columns. `false`: they are called
    /// `#1`, `#2`, or as `columns` says.
    pub header: bool,
    /// Names of the columns of the ratings, where the file has none.
    pub columns: Vec<String>,
    /// The encoding of text files: `utf-8`, `latin1`, `windows-1252`, `utf-16`, `shift_jis`, `gbk`.
    /// Empty: UTF-8, and Windows-1252 for a field that is none.
    pub encoding: String,
    /// Fields that say that nothing is known, whatever their case; an empty field always does.
    pub missing: Vec<String>,
    /// File of items, in any form that ratings may have. Empty: an item's id is its title.
    #[schemars(extend("type" = ["string", "array"], "items" = { "type": "string", "minLength": 1 }))]
    #[serde(deserialize_with = "files::one_or_several")]
    pub items: String,
    /// Its column with the item's id. Empty: named as in the ratings.
    pub item_id: String,
    /// Names of its columns, where the file has none.
    pub item_columns: Vec<String>,
    /// Template of the title over its columns.
    pub title: String,
    /// Its column with genres: a list, or text with `genre_separator` between. Empty: there is
    /// none.
    pub genres: String,
    /// What stands between two genres.
    pub genre_separator: String,
    /// Template of the text that an item is embedded by, over its columns. Empty: sentences of
    /// title and genre.
    pub item_text: String,
    /// File of users, in any form that ratings may have. Empty: nothing is known of users.
    #[schemars(extend("type" = ["string", "array"], "items" = { "type": "string", "minLength": 1 }))]
    #[serde(deserialize_with = "files::one_or_several")]
    pub users: String,
    /// Its column with the user's id. Empty: named as in the ratings.
    pub user_id: String,
    /// Names of its columns, where the file has none.
    pub user_columns: Vec<String>,
    /// Template of what a prompt says of a user, over its columns. Empty: nothing.
    pub user_text: String,
}

impl Default for TableSettings {
    fn default() -> Self {
        let none = || ["nan", "null", "none", "na", "n/a", "<na>", "\\N"].map(String::from).to_vec();
        Self {
            database: String::new(),
            query: String::new(),
            item_query: String::new(),
            user_query: String::new(),
            ratings: RATINGS.into(),
            user: "user".into(),
            item: "item".into(),
            test: String::new(),
            valid: String::new(),
            part: String::new(),
            rating: "rating".into(),
            event: String::new(),
            weights: Vec::new(),
            count: String::new(),
            time: "time".into(),
            time_format: TimeFormat::Auto,
            scale: (1.0, 5.0),
            rating_words: Vec::new(),
            noun: "item".into(),
            separator: ",".into(),
            quote: AUTO.into(),
            escape: String::new(),
            comment: "#".into(),
            header: true,
            columns: Vec::new(),
            encoding: String::new(),
            missing: none(),
            items: String::new(),
            item_id: String::new(),
            item_columns: Vec::new(),
            title: "{{ title }}".into(),
            genres: String::new(),
            genre_separator: "|".into(),
            item_text: String::new(),
            users: String::new(),
            user_id: String::new(),
            user_columns: Vec::new(),
            user_text: String::new(),
        }
    }
}

/// Where ratings are, if nothing says otherwise.
const RATINGS: &str = "ratings.csv";

/// The quote that is found out.
const AUTO: &str = "auto";

impl TableSettings {
    /// Whether any of the tables comes out of a database.
    pub fn queries(&self) -> bool {
        [&self.query, &self.item_query, &self.user_query].iter().any(|query| !query.trim().is_empty())
    }

    /// Whether any of the tables is a file in `data.path`, or the database is.
    pub fn needs_path(&self) -> bool {
        let database = self.queries() && !database::is_postgres(&self.database) && self.database.is_empty();
        database || self.query.is_empty() || !self.items.is_empty() || !self.users.is_empty()
    }

    /// The same without what says where the rows come from, which are an input.
    pub fn without_source(self) -> Self {
        let none = Self::default();
        // Which tables there are is told by the rows.
        Self {
            database: none.database,
            query: none.query,
            item_query: none.item_query,
            user_query: none.user_query,
            ..self
        }
    }

    /// The middle of the scale; without ratings, everything is a like.
    pub fn threshold(&self) -> f32 {
        if self.is_implicit() { 0.0 } else { (self.scale.0 + self.scale.1) / 2.0 }
    }

    /// The smallest and largest rating in force.
    pub fn scale(&self) -> (f32, f32) {
        if !self.is_implicit() {
            return self.scale;
        }
        let weights = rating::words(&self.weights).unwrap_or_default();
        let ends = weights.values().fold((f32::INFINITY, 0f32), |(low, high), &w| (low.min(w), high.max(w)));
        if weights.is_empty() { (1.0, 1.0) } else { ends }
    }

    /// Whether rows say what was met, and not how it was rated.
    pub fn is_implicit(&self) -> bool {
        self.rating.is_empty() || self.is_weighed()
    }

    /// Whether rows weigh more or less without being rated.
    pub fn is_weighed(&self) -> bool {
        !self.event.is_empty() || !self.count.is_empty()
    }

    /// Whether the recipe names a split that the files bring.
    pub fn names_parts(&self) -> bool {
        !self.test.is_empty() || !self.valid.is_empty() || !self.part.is_empty()
    }

    /// Whether it may mean one.
    pub fn may_bring_parts(&self) -> bool {
        self.names_parts() || parts::around_train(&self.ratings).is_some()
    }

    /// How text files are written; a quote that is to be found out is `"`.
    ///
    /// # Errors
    /// A separator, quote, escape or comment that cannot be one.
    pub fn dialect(&self) -> Result<Dialect> {
        let one = |key: &str, text: &str| match text {
            "" => Ok(None),
            text => one_byte(text)
                .map(Some)
                .ok_or_else(|| Error::usage(format!("data.table.{key}"), not_one(text)).next(ONE)),
        };
        let separator = Separator::parse(&self.separator);
        Ok(Dialect {
            separator: separator.map_err(|e| Error::usage("data.table.separator", e).next(SEPARATORS))?,
            quote: if self.quote == AUTO { Some(b'"') } else { one("quote", &self.quote)? },
            escape: one("escape", &self.escape)?,
            comment: one("comment", &self.comment)?,
        })
    }
}

const ONE: &str = "use e.g. \"'\", or leave it empty";
const SEPARATORS: &str = "use e.g. \",\", \";\", \"\\t\" or \"::\"";

fn not_one(text: &str) -> String {
    format!("`{text}` is not one ASCII character")
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Some(*byte),
        _ => None,
    }
}

impl TableSettings {
    fn check_database(&self, faults: &mut Faults) {
        if let Err(e) = Address::parse(&self.database, Path::new("")) {
            faults.unless(false, "database", e.what(), e.next_step());
        }
        faults.unless(
            self.database.is_empty() || self.queries(),
            "database",
            "nothing is read from it",
            "set data.table.query, e.g. to \"SELECT user, item, rating, time FROM ratings\"",
        );
        let twice = "leave one of the two out";
        for (key, query, named, own) in [
            ("query", &self.query, &self.ratings, RATINGS),
            ("item_query", &self.item_query, &self.items, ""),
            ("user_query", &self.user_query, &self.users, ""),
        ] {
            let one = query.is_empty() || named == own;
            faults.unless(one, key, format!("there is a file as well: `{named}`"), twice);
        }
    }
}

impl Checked for TableSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        if let Err(what) = Separator::parse(&self.separator) {
            faults.unless(false, "separator", what, SEPARATORS);
        }
        let some = !self.genre_separator.is_empty();
        faults.unless(some, "genre_separator", "it is empty", "use e.g. \"|\" or \", \"");
        for (key, text) in [("quote", &self.quote), ("escape", &self.escape), ("comment", &self.comment)] {
            let sound = text.is_empty() || one_byte(text).is_some() || (key == "quote" && text == AUTO);
            faults.unless(sound, key, not_one(text), ONE);
        }
        let known = self.encoding.is_empty() || form::encoding(&self.encoding).is_some();
        faults.unless(known, "encoding", format!("there is no encoding `{}`", self.encoding), form::ENCODINGS);
        if let Err(what) = rating::words(&self.rating_words) {
            faults.unless(false, "rating_words", what, "write e.g. [\"like = 5\", \"dislike = 1\"]");
        }
        match rating::words(&self.weights) {
            Ok(weights) => {
                let bad = weights.iter().find(|(_, weight)| **weight <= 0.0);
                let what = bad.map(|(event, weight)| format!("`{event}` weighs {weight}, which is not above 0"));
                faults.unless(
                    bad.is_none(),
                    "weights",
                    what.unwrap_or_default(),
                    "leave out events that count nothing",
                );
            }
            Err(what) => faults.unless(false, "weights", what, "write e.g. [\"view = 1\", \"purchase = 5\"]"),
        }
        faults.unless(
            self.weights.is_empty() || !self.event.is_empty(),
            "weights",
            "they weigh kinds of events, and data.table.event names no column",
            "name the column, or leave the weights out",
        );
        faults.unless(
            self.valid.is_empty() || !self.test.is_empty(),
            "valid",
            "it names a validation part, and data.table.test names no test part",
            "name both",
        );
        faults.unless(
            self.part.is_empty() || self.test.is_empty(),
            "part",
            "a column and files both say the parts of the split",
            "leave out data.table.part, or data.table.test and data.table.valid",
        );
        let columns = [("user", &self.user), ("item", &self.item), ("rating", &self.rating), ("time", &self.time)];
        for (at, (key, name)) in columns.iter().enumerate().filter(|(_, (_, name))| !name.is_empty()) {
            let other = columns[..at].iter().find(|(_, other)| other.eq_ignore_ascii_case(name));
            let what = other.map(|(other, _)| format!("`{name}` is the column of data.table.{other} as well"));
            faults.unless(other.is_none(), key, what.unwrap_or_default(), "name another column");
        }
        self.check_database(&mut faults);
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
