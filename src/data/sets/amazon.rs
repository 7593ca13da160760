//! Amazon reviews as JSON lines: the releases of 2014 and 2018 (`reviewerID`, `asin`, `overall`,
//! `unixReviewTime` or `reviewTime`) and of 2023 (`user_id`, `parent_asin`, `rating`, `timestamp`
//! in milliseconds), each with its `meta_` file of titles and categories, which may be absent.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::fields::{At, LATEST, decimal, id, shown};
use super::{LeftOut, Log, Nature, amazon_meta};
use crate::data::delimited::{Dialect, Records};
use crate::data::json::{self, Objects};
use crate::data::method::BOUNDS;
use crate::data::pull::{Publisher, Remote, RemoteFile};
use crate::data::set::DataSet;
use crate::data::time::{Time, TimeFormat};
use crate::data::{Core, DataSettings, Dataset, Kind, Known, source};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

pub(super) const SCALE: (f32, f32) = (1.0, 5.0);
/// The releases of 2014 and 2018.
pub static SET: DataSet = DataSet {
    name: "amazon",
    about: "Amazon reviews of 2014 or 2018: CATEGORY.json, meta_CATEGORY.json",
    files: &["CATEGORY.json", "meta_CATEGORY.json"],
    noun: "product",
    scale: SCALE,
    threshold: 3.0,
    method,
    ready,
    reads,
    load: old,
    ..DataSet::PLAIN
};

fn old(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    load(set, settings, monitor, |lines| {
        let row: Old = lines.parse()?;
        if row.reviewer.is_empty() && !row.user_id.is_empty() {
            return Err(lines
                .error("this is the 2023 form: it has `user_id`")
                .next("set data.kind to \"amazon-2023\""));
        }
        let time = match (row.unix_time, row.time.as_deref()) {
            (Some(time), _) => seconds(lines, time)?,
            (None, Some(date)) => day(date).ok_or_else(|| {
                lines
                    .error(format!("reviewTime {} is not of the form `04 4, 2004`", shown(date.as_bytes())))
                    .next("compare the line with the original")
            })?,
            (None, None) => return Err(missing(lines, "unixReviewTime or reviewTime")),
        };
        Ok(Review { user: row.reviewer, item: row.asin, rating: row.overall.map(|r| r as f32), time, nanos: 0 })
    })
}

/// The release of 2023.
pub static SET_2023: DataSet = DataSet {
    name: "amazon-2023",
    about: "Amazon reviews of 2023: CATEGORY.jsonl, meta_CATEGORY.jsonl",
    files: &["CATEGORY.jsonl", "meta_CATEGORY.jsonl"],
    noun: "product",
    scale: SCALE,
    threshold: 3.0,
    method,
    ready,
    reads,
    remote: Some(Remote {
        name: "amazon-2023",
        base: "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",
        files: &[
            RemoteFile { path: "review_categories/{category}.jsonl.gz", md5: None },
            RemoteFile { path: "meta_categories/meta_{category}.jsonl.gz", md5: None },
        ],
        publisher: &Publisher {
            name: "McAuley Lab, University of California San Diego",
            terms: "The publisher states no licence; the reviews are other people's. Citing the paper below is asked for.",
            cite: "Hou et al., Bridging Language and Items for Retrieval and Recommendation, 2024, arXiv 2403.03952",
            page: "https://amazon-reviews-2023.github.io/",
        },
    }),
    load: new,
    ..DataSet::PLAIN
};

/// "More than 10 and at most 200" of a user, 10 to 200 of an item, then the 5,000 most frequent
/// items; items without a category of three levels are dropped.
fn method(settings: DataSettings) -> DataSettings {
    DataSettings { core: Core { known: Known::TitleAndGenre, item_max: 200, top_items: 5000, ..BOUNDS }, ..settings }
}

fn ready(_: &DataSet, settings: &DataSettings) -> Result<()> {
    files(settings).map(drop)
}

fn reads(_: &DataSet, settings: &DataSettings) -> Result<Vec<PathBuf>> {
    let (reviews, meta) = files(settings)?;
    Ok(std::iter::once(reviews).chain(meta).collect())
}

fn new(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    load(set, settings, monitor, |lines| {
        let row: New = lines.parse()?;
        if row.user.is_empty() && !row.reviewer.is_empty() {
            return Err(lines
                .error("this is the form of 2014 and 2018: it has `reviewerID`")
                .next("set data.kind to \"amazon\""));
        }
        let Some(time) = row.timestamp else { return Err(missing(lines, "timestamp")) };
        // The seconds of the first days after 1970 look like milliseconds too, but nobody sold
        // anything then.
        let seconds = seconds(lines, (time / 1e3).floor())?;
        let nanos = (time - seconds as f64 * 1e3).clamp(0.0, 999.0) as u32 * 1_000_000;
        Ok(Review { user: row.user, item: row.item, rating: row.rating.map(|r| r as f32), time: seconds, nanos })
    })
}

/// A line of the releases of 2014 and 2018.
#[derive(Deserialize)]
struct Old {
    #[serde(default, rename = "reviewerID", deserialize_with = "json::text")]
    reviewer: String,
    #[serde(default, deserialize_with = "json::text")]
    asin: String,
    #[serde(default, deserialize_with = "json::number")]
    overall: Option<f64>,
    #[serde(default, rename = "unixReviewTime", deserialize_with = "json::number")]
    unix_time: Option<f64>,
    #[serde(rename = "reviewTime")]
    time: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    user_id: String,
}

/// A line of the release of 2023.
#[derive(Deserialize)]
struct New {
    #[serde(default, rename = "user_id", deserialize_with = "json::text")]
    user: String,
    #[serde(default, rename = "parent_asin", deserialize_with = "json::text")]
    item: String,
    #[serde(default, deserialize_with = "json::number")]
    rating: Option<f64>,
    #[serde(default, deserialize_with = "json::number")]
    timestamp: Option<f64>,
    #[serde(default, rename = "reviewerID", deserialize_with = "json::text")]
    reviewer: String,
}

struct Review {
    user: String,
    item: String,
    rating: Option<f32>,
    time: i64,
    /// Nanoseconds beside the time.
    nanos: u32,
}

fn missing(lines: &Objects, key: &str) -> Error {
    lines.error(format!("has no {key}")).next("the line is damaged or of another release: compare it with the original")
}

fn seconds(lines: &Objects, time: f64) -> Result<i64> {
    if (0.0..=LATEST as f64).contains(&time) {
        return Ok(time as i64);
    }
    Err(lines
        .error(format!("the time {time} lies outside of 1970 to 2100, in seconds"))
        .next("check the release: amazon has seconds, amazon-2023 milliseconds"))
}

/// Midnight in UTC of a date written month, day, comma, year.
pub(super) fn day(text: &str) -> Option<i64> {
    let (date, year) = text.split_once(',')?;
    let (month, day) = date.trim().split_once(' ')?;
    let number = |text: &str| text.trim().parse::<i16>().ok();
    let date = jiff::civil::Date::new(number(year)?, number(month)?.try_into().ok()?, number(day)?.try_into().ok()?);
    let time = date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    (0..=LATEST).contains(&time).then_some(time)
}

fn load(
    set: &DataSet,
    settings: &DataSettings,
    monitor: &dyn Monitor,
    read: impl Fn(&Objects) -> Result<Review>,
) -> Result<Dataset> {
    let (reviews, meta) = files(settings)?;
    let mut log = Log::default();
    let mut left_out = LeftOut::new(settings, true);
    if is_csv(&reviews) {
        read_csv(&reviews, &mut log, &mut left_out, monitor)?;
    } else {
        let mut lines = Objects::open(&reviews)?;
        while lines.advance()? {
            let row = read(&lines).and_then(|review| {
                let time = Time { seconds: review.time, nanos: review.nanos };
                log.add_at(
                    &lines,
                    review.user.as_bytes(),
                    review.item.as_bytes(),
                    on_scale(&lines, review.rating)?,
                    time,
                )
            });
            left_out.take(row)?;
            if lines.number().is_multiple_of(8192) {
                lines.report(monitor)?;
            }
        }
    }
    left_out.tell(&reviews, monitor)?;
    let items = match meta {
        Some(meta) => amazon_meta::read(&meta, settings, &log.items, monitor)?,
        None => {
            monitor.warn(
                &format!("{}: there is no meta_ file beside it, so no item has a title", reviews.display()),
                "put the category's meta_ file into the same folder",
            );
            Vec::new()
        }
    };
    let noun = noun(&reviews);
    let nature = Nature { noun, ..set.nature() };
    log.finish(&nature, items, Vec::new(), &reviews, monitor)
}

fn on_scale(at: &impl At, rating: Option<f32>) -> Result<f32> {
    rating.filter(|r| (SCALE.0..=SCALE.1).contains(r)).ok_or_else(|| {
        let found = rating.map_or("there is no rating".into(), |r| format!("the rating {r} is off the scale"));
        at.error(format!("{found}: a number from {} to {} is needed", SCALE.0, SCALE.1))
            .next("the line is damaged or of another release: compare it with the original")
    })
}

/// The ratings alone, as the release of 2023 has them: `user_id`, `parent_asin`, `rating`,
/// `timestamp`.
fn read_csv(path: &Path, log: &mut Log, left_out: &mut LeftOut, monitor: &dyn Monitor) -> Result<()> {
    let (mut rows, header) = Records::with_header(path, Dialect::CSV)?;
    let [user, item, rated, when] =
        [&["user_id"][..], &["parent_asin", "asin"], &["rating"], &["timestamp"]].map(|names| header.need(names));
    let (user, item, rated, when) = (user?, item?, rated?, when?);
    while rows.advance()? {
        let row = (|| {
            if !rows.is_whole() {
                return Err(rows.ragged());
            }
            let time = std::str::from_utf8(rows.get(when)).ok().and_then(|t| TimeFormat::Milliseconds.time(t));
            let time = time.ok_or_else(|| {
                rows.error(format!("the time {} is not one from 1970 to 2100, in milliseconds", shown(rows.get(when))))
                    .next("compare the line with the original")
            })?;
            let rating = on_scale(&rows, decimal(rows.get(rated).trim_ascii()))?;
            log.add_at(&rows, id(rows.get(user)), id(rows.get(item)), rating, time)
        })();
        left_out.take(row)?;
        if rows.number().is_multiple_of(16_384) {
            rows.report(monitor)?;
        }
    }
    Ok(())
}

fn is_csv(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.ends_with(".csv") || name.contains(".csv.")
}

/// What the category's items are called.
fn noun(file: &Path) -> &'static str {
    let name = file.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let nouns = [
        ("movie", "movie"),
        ("book", "book"),
        ("kindle", "book"),
        ("video_game", "game"),
        ("music", "album"),
        ("cds", "album"),
    ];
    nouns.into_iter().find(|(part, _)| name.contains(part)).map_or(SET.noun, |(_, noun)| noun)
}

/// The reviews file of a folder (or the file itself) and its meta file.
fn files(settings: &DataSettings) -> Result<(PathBuf, Option<PathBuf>)> {
    let (path, category) = (settings.path.as_path(), settings.category.as_deref());
    let one = path.is_file() && !source::is_folder(path);
    let folder = if one { path.parent().unwrap_or(Path::new(".")) } else { path };
    if !one && !source::is_folder(path) {
        return Err(Error::input(path.display(), "is neither a folder nor a file")
            .next("give the folder with the category's .json or .jsonl files, or the file of reviews"));
    }
    let csv = settings.kind == Kind::AMAZON_2023;
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let json = |name: &String| {
        let name = name.to_lowercase();
        let name = [".gz", ".zst", ".bz2", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        name.ends_with(".json") || name.ends_with(".jsonl") || (csv && name.ends_with(".csv"))
    };
    let all: Vec<String> = source::names(folder)?.into_iter().filter(json).collect();
    let wanted = |name: &String| category.is_none_or(|c| last(name).contains(c));
    let is_meta = |name: &String| last(name).starts_with("meta_");
    let reviews: Vec<&String> = if one {
        all.iter().filter(|n| path.ends_with(n.as_str())).collect()
    } else {
        all.iter().filter(|n| !is_meta(n) && wanted(n)).collect()
    };
    let reviews = match reviews.as_slice() {
        [] => {
            return Err(Error::input(path.display(), "holds no .json or .jsonl file of reviews")
                .next("give the folder with the category's files; check data.category"));
        }
        [one] => (*one).clone(),
        many => {
            let names: Vec<&str> = many.iter().take(8).map(|n| n.as_str()).collect();
            return Err(Error::input(path.display(), format!("holds several files of reviews: {}", names.join(", ")))
                .next("choose one by data.category, a part of its name"));
        }
    };
    let stem = |name: &str| {
        let name = last(name);
        let name = name.split('.').next().unwrap_or_default().to_owned();
        name.trim_start_matches("reviews_").trim_start_matches("meta_").trim_end_matches("_5").to_owned()
    };
    let meta = all.iter().find(|n| is_meta(n) && stem(n) == stem(&reviews));
    Ok((folder.join(&reviews), meta.map(|m| folder.join(m))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_midnight_in_utc() {
        assert_eq!(day("01 1, 1970"), Some(0));
        assert_eq!(day("04 4, 2004"), Some(1_081_036_800));
        for bad in ["", "2004-04-04", "13 1, 2004", "02 30, 2004", "12 31, 1969", "1 1, 9999", "1 1"] {
            assert_eq!(day(bad), None, "{bad}");
        }
    }
}
