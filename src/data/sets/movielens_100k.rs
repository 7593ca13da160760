//! MovieLens 100K: ratings between tabs, catalogue and users between vertical bars, titles in
//! ISO-8859-1.

use std::path::Path;

use super::fields::{self, shown, text, unsigned};
use super::tables::{Tables, Unique};
use super::{LeftOut, Log};
use crate::data::lines::{Lines, locate};
use crate::data::pull::{GROUPLENS, MOVIELENS, Remote, RemoteFile};
use crate::data::set::DataSet;
use crate::data::{DataSettings, Dataset, Field, Item, RawId, User, source};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Rows of the published file; only sizes a buffer.
const ROWS: usize = 100_000;

/// The data set.
pub static SET: DataSet = DataSet {
    name: "ml-100k",
    about: "MovieLens 100K: u.data, u.item, u.user, u.genre",
    files: &["u.data", "u.item", "u.user", "u.genre"],
    noun: "movie",
    scale: (1.0, 5.0),
    threshold: 3.0,
    remote: Some(Remote {
        name: "ml-100k",
        base: GROUPLENS,
        files: &[RemoteFile { path: "ml-100k.zip", md5: Some("0e33842e24a9c977be4e0107933c0723") }],
        publisher: &MOVIELENS,
    }),
    ready: |set, settings| if is_alone(&settings.path) { Ok(()) } else { set.require(&settings.path) },
    load,
    ..DataSet::PLAIN
};

/// Whether the ratings are there without any other file.
fn is_alone(folder: &Path) -> bool {
    let there = |name: &&str| source::exists(&locate(folder, name));
    there(&"u.data") && !["u.item", "u.user", "u.genre"].iter().any(there)
}

/// The four fields of a line of ratings.
fn parts(lines: &Lines) -> Result<[&[u8]; 4]> {
    columns(lines.line(), b'\t').ok_or_else(|| {
        lines
            .error(format!("not four columns between tabs: {}", shown(lines.line())))
            .next("the line is cut or of another format: compare it with the original u.data")
    })
}

/// The ratings alone: nothing is known of items and users.
fn load_alone(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let file = locate(&settings.path, "u.data");
    monitor.warn(
        &format!("{}: u.item, u.user and u.genre are not beside it: items have no titles", file.display()),
        "unpack the whole data set here if titles are wanted",
    );
    let mut lines = Lines::open(&file)?;
    let (mut log, mut left_out) = (Log::default(), LeftOut::new(settings, false));
    while lines.advance()? {
        let row = parts(&lines).and_then(|[user, item, rating, time]| {
            let rating = fields::rating(&lines, rating, set.scale)?;
            log.add(&lines, user, item, rating, fields::time(&lines, time)?)
        });
        left_out.take(row)?;
    }
    left_out.tell(&file, monitor)?;
    log.finish(&set.nature(), Vec::new(), Vec::new(), &file, monitor)
}

fn load(set: &DataSet, settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let folder = settings.path.as_path();
    if is_alone(folder) {
        return load_alone(set, settings, monitor);
    }
    set.require(folder)?;
    let genres = genres(&locate(folder, "u.genre"))?;
    let tables = Tables::new(items(&locate(folder, "u.item"), &genres)?, users(&locate(folder, "u.user"))?);
    let mut lines = Lines::open(&locate(folder, "u.data"))?;
    let mut ratings = tables.ratings(ROWS);
    let mut left_out = LeftOut::new(settings, false);
    while lines.advance()? {
        let row = parts(&lines).and_then(|[user, item, rating, time]| {
            let rating = fields::rating(&lines, rating, set.scale)?;
            ratings.add(&lines, user, item, rating, fields::time(&lines, time)?)
        });
        left_out.take(row)?;
        if ratings.len().is_multiple_of(16_384) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(lines.path(), monitor)?;
    tables.finish(set, ratings, &lines, monitor)
}

/// Exactly `N` columns.
fn columns<const N: usize>(line: &[u8], separator: u8) -> Option<[&[u8]; N]> {
    let mut parts = line.split(|&b| b == separator);
    let mut columns = [&line[..0]; N];
    for column in &mut columns {
        *column = parts.next()?;
    }
    parts.next().is_none().then_some(columns)
}

/// `Name|number`; the number is the place of the genre's flag.
fn genres(path: &Path) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    let mut names: Vec<String> = Vec::new();
    while lines.advance()? {
        match columns(lines.line(), b'|') {
            Some([name, number]) if unsigned(number) == Some(names.len() as u64) => names.push(text(name)),
            _ => {
                return Err(lines
                    .error(format!("not of the form name|{}: {}", names.len(), shown(lines.line())))
                    .next("compare it with the original u.genre"));
            }
        }
    }
    if names.is_empty() {
        return Err(Error::input(path.display(), "holds no genres").next("copy or download the file again"));
    }
    Ok(names)
}

/// `id|title|release date|video release date|URL|flags`, one flag a genre. The genre `unknown`
/// means none.
fn items(path: &Path, genres: &[String]) -> Result<Vec<Item>> {
    let (mut lines, mut unique, mut items) = (Lines::open(path)?, Unique::default(), Vec::new());
    while lines.advance()? {
        let parts: Vec<_> = lines.line().split(|&b| b == b'|').collect();
        let flags = parts.get(5..).unwrap_or_default();
        let id = parts.first().and_then(|id| unsigned(id));
        let sound = flags.len() == genres.len() && flags.iter().all(|f| matches!(f, [b'0' | b'1']));
        let Some(id) = id.filter(|_| sound) else {
            return Err(lines
                .error(format!(
                    "not a number, four fields and {} flags of 0 or 1 between vertical bars: {}",
                    genres.len(),
                    shown(lines.line())
                ))
                .next("compare it with the original u.item, and check that u.genre belongs to it"));
        };
        let raw = RawId(id.to_string());
        unique.see(&lines, &raw)?;
        let genres = flags
            .iter()
            .zip(genres)
            .filter(|(flag, name)| flag[0] == b'1' && name.as_str() != "unknown")
            .map(|(_, name)| name.clone())
            .collect();
        let released = text(parts[2]);
        let fields =
            if released.is_empty() { Vec::new() } else { vec![Field { name: "release_date".into(), value: released }] };
        items.push(Item { raw, title: text(parts[1]), genres, fields });
    }
    Ok(items)
}

/// `id|age|gender|occupation|zip`.
fn users(path: &Path) -> Result<Vec<User>> {
    let (mut lines, mut unique, mut users) = (Lines::open(path)?, Unique::default(), Vec::new());
    while lines.advance()? {
        let profile = columns(lines.line(), b'|').and_then(|[id, age, gender, occupation, zip]| {
            Some((
                unsigned(id)?,
                fields::gender(gender)?,
                fields::age_bracket(unsigned(age)?)?,
                text(occupation),
                text(zip),
            ))
        });
        let Some((id, gender, age, occupation, zip)) = profile else {
            return Err(lines
                .error(format!("not of the form number|age|M or F|occupation|zip: {}", shown(lines.line())))
                .next("compare it with the original u.user"));
        };
        let raw = RawId(id.to_string());
        unique.see(&lines, &raw)?;
        users.push(User { raw, fields: fields::profile(gender, age, &occupation, &zip) });
    }
    Ok(users)
}
