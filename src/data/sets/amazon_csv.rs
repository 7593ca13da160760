//! Amazon reviews as CSV: one `reviews*.csv` with the columns `asin`, `reviewerID`, `overall` and
//! `reviewTime` or `unixReviewTime`, and any number of `items*.csv` with `asin` and some of
//! `title`, `genre`, `genres`, `year`. The first file (by name) that knows a product's title or
//! genre decides.

use std::path::{Path, PathBuf};

use super::amazon::{SCALE, day};
use super::fields::{self, known, shown, text, unescaped};
use super::{About, LeftOut, Log, Names};
use crate::data::delimited::{Dialect, Records};
use crate::data::method::BOUNDS;
use crate::data::set::DataSet;
use crate::data::{Core, DataSettings, Dataset, Known, source};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// The data set.
pub static SET: DataSet = DataSet {
    name: "amazon-csv",
    about: "Amazon reviews as CSV: reviews*.csv, items*.csv",
    files: &["reviews*.csv", "items*.csv"],
    noun: "movie",
    scale: SCALE,
    threshold: 3.0,
    // As `amazon`, but products of this form have no category.
    method: |settings| DataSettings {
        core: Core { known: Known::Title, item_max: 200, top_items: 5000, ..BOUNDS },
        ..settings
    },
    ready: |_, settings| files(&settings.path).map(drop),
    reads: |_, settings| files(&settings.path).map(|(reviews, items)| std::iter::once(reviews).chain(items).collect()),
    load,
    ..DataSet::PLAIN
};

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let (reviews, about) = files(&settings.path)?;
    let mut log = Log::default();
    let (mut rows, header) = Records::with_header(&reviews, Dialect::CSV)?;
    let (user, item, rated) = (
        header.need(&["reviewerID", "user_id", "user"])?,
        header.need(&["asin", "item"])?,
        header.need(&["overall", "rating"])?,
    );
    let (date, unix) = (header.find(&["reviewTime"]), header.find(&["unixReviewTime"]));
    if unix.is_none() {
        header.need(&["reviewTime", "unixReviewTime"])?;
    }
    let mut left_out = LeftOut::new(settings, false);
    while rows.advance()? {
        let row = (|| {
            if !rows.is_whole() {
                return Err(rows.ragged());
            }
            let rating = fields::rating(&rows, rows.get(rated), set.scale)?;
            let time = match (unix, date) {
                (Some(column), _) => fields::time(&rows, rows.get(column))?,
                (None, column) => {
                    let field = rows.get(column.unwrap_or(usize::MAX));
                    std::str::from_utf8(field).ok().and_then(day).ok_or_else(|| {
                        rows.error(format!("the time {} is not of the form `04 4, 2004`", shown(field)))
                            .next("reviewTime is month, day, comma, year, from 1970 to 2100")
                    })?
                }
            };
            log.add(&rows, rows.get(user), rows.get(item), rating, time)
        })();
        left_out.take(row)?;
        if log.len().is_multiple_of(16_384) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(&reviews, monitor)?;
    let mut items = vec![About::default(); log.items.len()];
    for file in &about {
        read_items(file, settings, &log.items, &mut items, monitor)?;
    }
    log.finish(&set.nature(), items, Vec::new(), &reviews, monitor)
}

/// The file of reviews and those of items.
fn files(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if !source::is_folder(folder) {
        return Err(Error::input(folder.display(), "is neither a folder nor a zip file")
            .next("give the folder that holds reviews*.csv and items*.csv"));
    }
    let names = source::names(folder)?;
    let of = |start: &str| -> Vec<PathBuf> {
        let last = |n: &String| n.rsplit('/').next().unwrap_or(n).to_lowercase();
        let fits =
            |n: &&String| last(n).starts_with(start) && (last(n).ends_with(".csv") || last(n).ends_with(".csv.gz"));
        names.iter().filter(fits).map(|n| folder.join(n)).collect()
    };
    let reviews = of("reviews");
    match reviews.as_slice() {
        [one] => Ok((one.clone(), of("items"))),
        found => {
            Err(Error::input(folder.display(), format!("holds {} files reviews*.csv, one is needed", found.len()))
                .next("put one file of reviews there; for other names and columns use data.kind = \"table\""))
        }
    }
}

fn read_items(
    path: &Path,
    settings: &DataSettings,
    reviewed: &Names,
    items: &mut [About],
    monitor: &dyn Monitor,
) -> Result<()> {
    let (mut rows, header) = Records::with_header(path, Dialect::CSV)?;
    let id = header.need(&["asin"])?;
    let (title, genre, year) = (header.find(&["title"]), header.find(&["genres", "genre"]), header.find(&["year"]));
    let mut left_out = LeftOut::new(settings, true);
    while rows.advance()? {
        if !rows.is_whole() {
            left_out.take(Err(rows.ragged()))?;
            continue;
        }
        left_out.take(Ok(()))?;
        let Some(at) = reviewed.get(rows.get(id)) else { continue };
        let field = |column: Option<usize>| column.map(|c| unescaped(&text(rows.get(c)))).unwrap_or_default();
        let about = &mut items[at as usize];
        if about.title.is_empty() {
            about.title = field(title);
        }
        if about.genres.is_empty() {
            about.genres = list(&field(genre));
        }
        if about.fields.is_empty() {
            about.fields.extend(known("year", field(year).trim_end_matches(".0")));
        }
        if left_out.kept().is_multiple_of(16_384) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(path, monitor)
}

/// `['Action', 'Drama']` or `Action, Drama`.
fn list(text: &str) -> Vec<String> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let one = |part: &str| part.trim().trim_matches(['\'', '"']).trim().to_owned();
    inner.split(',').map(one).filter(|g| !g.is_empty() && g != "N/A").collect()
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn genres_are_lists_of_either_form() {
        assert_eq!(list("['Action', 'Sci-Fi']"), ["Action", "Sci-Fi"]);
        assert_eq!(list("Drama, Fantasy"), ["Drama", "Fantasy"]);
        assert!(list("[]").is_empty() && list("N/A").is_empty() && list("").is_empty());
    }
}
