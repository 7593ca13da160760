//! MovieLens 1M: three files with fields between `::`, titles in ISO-8859-1.

use std::path::Path;

use super::fields::{self, cut, cut_last, shown, text, unsigned};
use super::tables::{Tables, Unique};
use super::{About, LeftOut, Log};
use crate::data::lines::{Lines, locate};
use crate::data::pull::{GROUPLENS, MOVIELENS, Remote, RemoteFile};
use crate::data::set::{DataSet, LeaveOneOut};
use crate::data::{DataSettings, Dataset, Item, RawId, User, source};
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
    ready: |set, settings| if is_10m(&settings.path) { Ok(()) } else { set.require(&settings.path) },
    load,
    ..DataSet::PLAIN
};

/// MovieLens 10M: the same without users, with half stars.
pub static SET_10M: DataSet = DataSet {
    name: "ml-10m",
    about: "MovieLens 10M: ratings.dat, movies.dat",
    files: &["ratings.dat", "movies.dat"],
    noun: "movie",
    scale: (0.5, 5.0),
    remote: Some(Remote {
        name: "ml-10m",
        base: GROUPLENS,
        files: &[RemoteFile { path: "ml-10m.zip", md5: Some("ce571fd55effeba0271552578f2648bd") }],
        publisher: &MOVIELENS,
    }),
    load: load_10m,
    ..DataSet::PLAIN
};

fn is_10m(folder: &Path) -> bool {
    let there = |name| source::exists(&locate(folder, name));
    there("ratings.dat") && there("movies.dat") && !there("users.dat")
}

fn load_10m(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let folder = settings.path.as_path();
    set.require(folder)?;
    let mut log = Log::default();
    let mut about = Vec::new();
    for item in movies(&locate(folder, "movies.dat"))? {
        log.items.place(item.raw.0.as_bytes());
        about.push(About { title: item.title, genres: item.genres, fields: item.fields });
    }
    let file = locate(folder, "ratings.dat");
    let mut lines = Lines::open(&file)?;
    let mut left_out = LeftOut::new(settings, false);
    while lines.advance()? {
        let row = parts(&lines).and_then(|[user, item, rating, time]| {
            if log.items.get(item).is_none() {
                return Err(lines
                    .error(format!("item {} is not in the catalogue", shown(item)))
                    .next("check the order of the columns, and that all files are of the same data set"));
            }
            let rating = fields::rating(&lines, rating, set.scale)?;
            log.add(&lines, user, item, rating, fields::time(&lines, time)?)
        });
        left_out.take(row)?;
        if lines.number().is_multiple_of(65_536) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(&file, monitor)?;
    log.finish(&set.nature(), about, Vec::new(), &file, monitor)
}

/// The four fields of a line of ratings.
fn parts(lines: &Lines) -> Result<[&[u8]; 4]> {
    rating(lines.line()).ok_or_else(|| {
        lines
            .error(format!("not of the form user::movie::rating::time: {}", shown(lines.line())))
            .next("the line is cut or of another format: compare it with the original ratings.dat")
    })
}

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let folder = settings.path.as_path();
    if is_10m(folder) {
        monitor.warn(
            &format!("{}: there is no users.dat, so this is read as MovieLens 10M", folder.display()),
            "set data.kind to \"ml-10m\", or put the file there",
        );
        return load_10m(&SET_10M, settings, monitor);
    }
    set.require(folder)?;
    let tables = Tables::new(movies(&locate(folder, "movies.dat"))?, users(&locate(folder, "users.dat"))?);
    let mut lines = Lines::open(&locate(folder, "ratings.dat"))?;
    let mut ratings = tables.ratings(ROWS);
    let mut left_out = LeftOut::new(settings, false);
    while lines.advance()? {
        let row = parts(&lines).and_then(|[user, item, rating, time]| {
            let rating = fields::rating(&lines, rating, set.scale)?;
            ratings.add(&lines, user, item, rating, fields::time(&lines, time)?)
        });
        left_out.take(row)?;
        if ratings.len().is_multiple_of(65_536) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(lines.path(), monitor)?;
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
