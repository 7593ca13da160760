//! MovieLens 25M and 32M (and 20M, latest, latest-small): `ratings.csv` and `movies.csv` with commas and a header.

use super::fields::{self, shown, text};
use super::{About, Loader, Log, Nature, require};
use crate::data::delimited::{Dialect, Records};
use crate::data::source::locate;
use crate::data::{Dataset, Kind, Settings};
use crate::error::Result;
use crate::monitor::Monitor;

pub struct MovieLensCsv;

const SCALE: (f32, f32) = (0.5, 5.0);

impl Loader for MovieLensCsv {
    fn kind(&self) -> Kind {
        Kind::MovieLensCsv
    }

    fn files(&self) -> &'static [&'static str] {
        &["ratings.csv", "movies.csv"]
    }

    fn threshold(&self) -> f32 {
        3.0
    }

    fn load(&self, settings: &Settings, monitor: &dyn Monitor) -> Result<Dataset> {
        require(self, &settings.path)?;
        let mut log = Log::default();
        let (mut movies, header) = Records::with_header(&locate(&settings.path, "movies.csv"), Dialect::CSV)?;
        let (id, title, genres) = (header.need(&["movieId"])?, header.need(&["title"])?, header.need(&["genres"])?);
        let mut items = Vec::new();
        while movies.advance()? {
            if !movies.is_whole() {
                return Err(movies.ragged());
            }
            let raw = movies.get(id);
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
        let (mut rows, header) = Records::with_header(&locate(&settings.path, "ratings.csv"), Dialect::CSV)?;
        let columns = (header.need(&["userId"])?, header.need(&["movieId"])?);
        let (rated, when) = (header.need(&["rating"])?, header.need(&["timestamp"])?);
        while rows.advance()? {
            if !rows.is_whole() {
                return Err(rows.ragged());
            }
            let (user, item) = (rows.get(columns.0), rows.get(columns.1));
            if fields::unsigned(user).is_none() {
                return Err(rows
                    .error(format!("the user id {} is not a number", shown(user)))
                    .next("check the order of the columns: userId, movieId, rating, timestamp"));
            }
            if log.items.get(item).is_none() {
                return Err(rows
                    .error(format!("movie {} is not in movies.csv", shown(item)))
                    .next("check the order of the columns, and that both files are of the same data set"));
            }
            let rating = fields::rating(&rows, rows.get(rated), SCALE)?;
            log.add(&rows, user, item, rating, fields::time(&rows, rows.get(when))?)?;
            if log.len().is_multiple_of(65_536) {
                rows.report(monitor)?;
            }
        }
        let nature = Nature { name: self.kind().name(), noun: "movie", scale: SCALE, has_times: true };
        log.finish(&nature, items, Vec::new(), rows.path(), monitor)
    }
}
