//! MovieLens 1M: three files with fields between `::`, titles in ISO-8859-1.

use std::path::Path;

use super::fields::{self, cut, cut_last, shown, text, unsigned};
use super::tables::{Tables, Unique};
use crate::data::lines::{Lines, locate};
use crate::data::pull::{GROUPLENS, MOVIELENS, Remote, RemoteFile};
use crate::data::set::{DataSet, LeaveOneOut};
use crate::data::{Dataset, Item, RawId, Settings, User};
use crate::error::Result;
use crate::monitor::Monitor;

/// The data set's occupation codes 0 to 20, worded so that they read well after "works as".
const OCCUPATIONS: [&str; 21] = [
    "other or not specified",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
];

/// The data set.
pub static SET: DataSet = DataSet {
    name: "ml-1m",
    about: "MovieLens 1M: ratings.dat, movies.dat, users.dat",
    files: &["ratings.dat", "movies.dat", "users.dat"],
    noun: "movie",
    scale: (1.0, 5.0),
    threshold: 3.0,
    ids_are_rows: true,
    leave_one_out: LeaveOneOut { more_than: 10, often: 2 },
    remote: Some(Remote {
        name: "ml-1m",
        base: GROUPLENS,
        files: &[RemoteFile { path: "ml-1m.zip", md5: Some("c4d9eecfca2ab87c1945afe126590906") }],
        publisher: &MOVIELENS,
    }),
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &Settings, monitor: &dyn Monitor) -> Result<Dataset> {
    let folder = settings.path.as_path();
    set.require(folder)?;
    let tables = Tables::new(movies(&locate(folder, "movies.dat"))?, users(&locate(folder, "users.dat"))?);
    let mut lines = Lines::open(&locate(folder, "ratings.dat"))?;
    let mut ratings = tables.ratings(ROWS);
    while lines.advance()? {
        let [user, item, rating, time] = rating(lines.line()).ok_or_else(|| {
            lines
                .error(format!("not of the form user::movie::rating::time: {}", shown(lines.line())))
                .next("the line is cut or of another format: compare it with the original ratings.dat")
        })?;
        let rating = fields::rating(&lines, rating, set.scale)?;
        ratings.add(&lines, user, item, rating, fields::time(&lines, time)?)?;
        if ratings.len().is_multiple_of(65_536) {
            lines.report(monitor)?;
        }
    }
    tables.finish(set, ratings, &lines, monitor)
}

/// Rows of the published file; only sizes a buffer.
const ROWS: usize = 1_000_209;

/// `UserID::MovieID::Rating::Timestamp`.
fn rating(line: &[u8]) -> Option<[&[u8]; 4]> {
    let (user, rest) = cut(line, b"::")?;
    let (item, rest) = cut(rest, b"::")?;
    let (rating, time) = cut(rest, b"::")?;
    Some([user, item, rating, time])
}

/// `MovieID::Title::Genre|Genre`.
fn movies(path: &Path) -> Result<Vec<Item>> {
    let (mut lines, mut unique, mut items) = (Lines::open(path)?, Unique::default(), Vec::new());
    while lines.advance()? {
        let parts = cut(lines.line(), b"::").and_then(|(id, rest)| {
            let (title, genres) = cut_last(rest, b"::")?;
            Some((unsigned(id)?, title, genres))
        });
        let Some((id, title, genres)) = parts else {
            return Err(lines
                .error(format!("not of the form number::title::genres: {}", shown(lines.line())))
                .next("compare it with the original movies.dat"));
        };
        let raw = RawId(id.to_string());
        unique.see(&lines, &raw)?;
        let genres = text(genres).split('|').filter(|g| !g.is_empty()).map(str::to_owned).collect();
        items.push(Item { raw, title: text(title), genres, fields: Vec::new() });
    }
    Ok(items)
}

/// `UserID::Gender::Age::Occupation::Zip-code`.
fn users(path: &Path) -> Result<Vec<User>> {
    let (mut lines, mut unique, mut users) = (Lines::open(path)?, Unique::default(), Vec::new());
    while lines.advance()? {
        let profile = (|| {
            let (id, rest) = cut(lines.line(), b"::")?;
            let (gender, rest) = cut(rest, b"::")?;
            let (age, rest) = cut(rest, b"::")?;
            let (occupation, zip) = cut(rest, b"::")?;
            let occupation = OCCUPATIONS.get(usize::try_from(unsigned(occupation)?).ok()?)?;
            Some((unsigned(id)?, fields::gender(gender)?, fields::age_bracket(unsigned(age)?)?, *occupation, text(zip)))
        })();
        let Some((id, gender, age, occupation, zip)) = profile else {
            return Err(lines
                .error(format!("not of the form number::M or F::age::occupation 0 to 20::zip: {}", shown(lines.line())))
                .next("compare it with the original users.dat"));
        };
        let raw = RawId(id.to_string());
        unique.see(&lines, &raw)?;
        users.push(User { raw, fields: fields::profile(gender, age, occupation, &zip) });
    }
    Ok(users)
}
