//! MovieLens 25M and 32M (and 20M, latest, latest-small): `ratings.csv` and `movies.csv` with
//! commas and a header.

use super::fields::{self, shown, text};
use super::{About, LeftOut, Log};
use crate::data::delimited::{Dialect, Records};
use crate::data::pull::{GROUPLENS, MOVIELENS, Remote, RemoteFile};
use crate::data::set::DataSet;
use crate::data::source::locate_any;
use crate::data::time::TimeFormat;
use crate::data::{DataSettings, Dataset};
use crate::error::Result;
use crate::monitor::Monitor;

/// The data set.
pub static SET: DataSet = DataSet {
    name: "ml-25m",
    aliases: &["ml-32m"],
    about: "MovieLens 20M, 25M, 32M and latest: ratings.csv, movies.csv",
    files: &["ratings.csv|rating.csv", "movies.csv|movie.csv"],
    noun: "movie",
    scale: (0.5, 5.0),
    threshold: 3.0,
    remote: Some(Remote {
        name: "ml-32m",
        base: GROUPLENS,
        files: &[RemoteFile { path: "ml-32m.zip", md5: Some("d472be332d4daa821edc399621853b57") }],
        publisher: &MOVIELENS,
    }),
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    set.require(&settings.path)?;
    let mut log = Log::default();
    let (mut movies, header) =
        Records::with_header(&locate_any(&settings.path, &["movies.csv", "movie.csv"]), Dialect::CSV)?;
    let (id, title, genres) = (header.need(&["movieId"])?, header.need(&["title"])?, header.need(&["genres"])?);
    let mut items = Vec::new();
    while movies.advance()? {
        if !movies.is_whole() {
            return Err(movies.ragged());
        }
        let raw = fields::id(movies.get(id));
        if fields::unsigned(raw).is_none() {
            return Err(movies
                .error(format!("the movie id {} is not a number", shown(raw)))
                .next("check the order of the columns: movieId, title, genres"));
        }
        if log.items.get(raw).is_some() {
            return Err(movies
                .error(format!("movie {} stands on an earlier line already", shown(raw)))
                .next("remove one of the two lines"));
        }
        log.items.place(raw);
        let genres = text(movies.get(genres));
        let genres = genres.split('|').filter(|g| !g.is_empty() && *g != "(no genres listed)");
        items.push(About {
            title: text(movies.get(title)),
            genres: genres.map(str::to_owned).collect(),
            fields: Vec::new(),
        });
    }
    let (mut rows, header) =
        Records::with_header(&locate_any(&settings.path, &["ratings.csv", "rating.csv"]), Dialect::CSV)?;
    let columns = (header.need(&["userId"])?, header.need(&["movieId"])?);
    let (rated, when) = (header.need(&["rating"])?, header.need(&["timestamp"])?);
    // Movies of the first file; ratings of others are counted.
    let listed = log.items.len();
    let (mut left_out, mut unlisted) = (LeftOut::new(settings, false), 0u64);
    while rows.advance()? {
        let row = (|| {
            if !rows.is_whole() {
                return Err(rows.ragged());
            }
            let (user, item) = (fields::id(rows.get(columns.0)), fields::id(rows.get(columns.1)));
            if fields::unsigned(user).is_none() {
                return Err(rows
                    .error(format!("the user id {} is not a number", shown(user)))
                    .next("check the order of the columns: userId, movieId, rating, timestamp"));
            }
            if log.items.get(item).is_none_or(|at| at as usize >= listed) {
                unlisted += 1;
                if unlisted > 2 + log.len() as u64 / 10 {
                    return Err(rows
                        .error(format!("movie {} is not in movies.csv, as {unlisted} ratings before", shown(item)))
                        .next("check the order of the columns, and that both files are of the same data set"));
                }
            }
            let rating = fields::rating(&rows, rows.get(rated), set.scale)?;
            // The copy on Kaggle has dates instead of seconds.
            let field = rows.get(when);
            let date = || std::str::from_utf8(field).ok().and_then(|text| TimeFormat::Iso.time(text));
            let time = match date() {
                Some(time) => time.seconds,
                None => fields::time(&rows, field)?,
            };
            log.add(&rows, user, item, rating, time)
        })();
        left_out.take(row)?;
        if log.len().is_multiple_of(65_536) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(rows.path(), monitor)?;
    if unlisted > 0 {
        monitor.warn(
            &format!("{}: {unlisted} ratings are of movies that movies.csv does not list", rows.path().display()),
            "they stay, without title; data.core.known = \"title\" leaves such movies out",
        );
    }
    log.finish(&set.nature(), items, Vec::new(), rows.path(), monitor)
}
