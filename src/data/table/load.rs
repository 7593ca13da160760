//! Reads a table of ratings with its tables of items and users.

use std::collections::HashMap;
use std::hash::BuildHasher;

use super::TableSettings;
use super::files::{self, File, Role};
use super::ids::{self, Join, Noticed};
use super::parts;
use super::rating::{Missing, Reader, words};
use super::rows::{Layout, Rows};
use super::template::{Template, list};
use crate::data::sets::fields::{At, decimal, id, shown, text};
use crate::data::sets::{About, LeftOut, Log, Names, Nature};
use crate::data::time::{Found, LOOKED_AT, Time, TimeFormat};
use crate::data::{Dataset, Field, ItemIdx, Part, UserIdx};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::settings::Checked;

/// The name of the field that replaces the built-in sentences about an item or a user.
pub const TEXT: &str = "text";

const NEXT_MISSING: &str =
    "leave such rows out by data.damaged = \"skip\"; data.table.missing has the words that stand for nothing";

/// Reads what `data.table` describes.
///
/// # Errors
/// A missing file or column, a template that does not work, the first damaged row (unless they are
/// skipped): file, line and next step.
pub fn load(settings: &crate::data::DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let (folder, table) = (settings.path.as_path(), &settings.table);
    table.check()?;
    let files = parts::files(settings, monitor)?;
    let file = if let [(_, one)] = files.as_slice() { one.path.clone() } else { folder.join(&table.ratings) };
    let missing = Missing::new(&table.missing);
    let mut ratings = Ratings {
        settings,
        missing: &missing,
        format: table.time_format.clone(),
        log: Log::default(),
        names: Vec::new(),
        ids: Default::default(),
        weights: words(&table.weights).unwrap_or_default(),
        other_events: (0, String::new()),
    };
    let mut left_out = LeftOut::new(settings, false);
    let mut has_times = !table.time.is_empty();
    for (part, file) in &files {
        // Programs that write in parallel leave parts without rows.
        if files.len() > 1 && file.is_empty()? {
            continue;
        }
        ratings.log.part = *part;
        has_times &= ratings.read(file, &mut left_out, monitor)?;
    }
    left_out.tell(&file, monitor)?;
    let Ratings { log, ids, other_events, .. } = ratings;
    if let (count @ 1.., kind) = other_events {
        monitor.warn(
            &format!(
                "{}: {count} events of kinds that data.table.weights does not list were left out, such as `{kind}`",
                file.display()
            ),
            "list them, if they say something",
        );
    }
    if log.is_empty() {
        return Err(Error::input(file.display(), "holds no ratings").next("check that it is the right file"));
    }
    tell_of_ids(&log, &ids, monitor);
    if table.is_implicit() {
        monitor.warn(
            "the log has no ratings: every row is a like, so there is no Yes and No to tell apart",
            "nothing is to be done: a run trains the graph, measures its ranking, and `recommend` works; data.table.rating names a column of ratings",
        );
    }
    let item_files = files::of(settings, Role::Items, monitor)?;
    let items = if item_files.is_empty() {
        let title = |at| About { title: text(log.items.name(at)), ..About::default() };
        (0..log.items.len() as u32).map(title).collect()
    } else {
        read_items(&item_files, settings, &missing, &log.items, monitor)?
    };
    let user_files = files::of(settings, Role::Users, monitor)?;
    let users = if user_files.is_empty() {
        Vec::new()
    } else {
        read_users(&user_files, settings, &missing, &log.users, monitor)?
    };
    let nature = Nature { name: super::SET.name, noun: table.noun.trim(), scale: table.scale(), has_times };
    let mut dataset = log.finish(&nature, items, users, &file, monitor)?;
    if table.is_weighed() {
        keep_strongest(&mut dataset);
    }
    Ok(dataset)
}

/// Leaves of each user's rows with an item the one of the largest weight, the first of several.
fn keep_strongest(dataset: &mut Dataset) {
    let mut best: HashMap<(UserIdx, ItemIdx), usize> = HashMap::with_capacity(dataset.interactions.len());
    for (at, row) in dataset.interactions.iter().enumerate() {
        let kept = best.entry((row.user, row.item)).or_insert(at);
        if row.rating > dataset.interactions[*kept].rating {
            *kept = at;
        }
    }
    let mut at = 0;
    dataset.interactions.retain(|row| {
        at += 1;
        best.get(&(row.user, row.item)) == Some(&(at - 1))
    });
}

/// Says where ids look like one id in two ways of writing.
fn tell_of_ids(log: &Log, ids: &[Noticed; 2], monitor: &dyn Monitor) {
    for ((what, names), noticed) in [("user", &log.users), ("item", &log.items)].into_iter().zip(ids) {
        if noticed.with_point > 0 && noticed.plain > 0 {
            let Noticed { with_point, plain, example, .. } = noticed;
            let short = example.split('.').next().unwrap_or_default();
            monitor.warn(
                &format!(
                    "data.table.{what}: {with_point} rows write ids like `{example}`, {plain} rows like `{short}`: both are \
                     taken for one"
                ),
                "write whole numbers without a point if they mean something else",
            );
        }
        if noticed.with_exponent > 0 {
            monitor.warn(
                &format!(
                    "data.table.{what}: {} rows write ids like `{}`, as spreadsheets and floats do: long ids lose their last \
                     digits, and several become one",
                    noticed.with_exponent, noticed.exponent_example
                ),
                "write the ids as text from where they come",
            );
        }
        // A few of many may be chance, where ids are short and made of both cases.
        if let Some((count, one, other)) =
            ids::alike_in_lower_case(names).filter(|(count, ..)| 100 * count >= names.len())
        {
            monitor.warn(
                &format!(
                    "data.table.{what}: {count} ids differ from another in case alone, such as `{one}` and `{other}`"
                ),
                "they stay apart; write them alike if they are the same",
            );
        }
        if let Some((count, long, short)) = ids::alike(names) {
            monitor.warn(
                &format!("data.table.{what}: {count} ids differ from another in leading zeros alone, such as `{long}` and `{short}`"),
                "they stay apart; write them alike if they are the same",
            );
        }
    }
}

/// The log that is read out of one file after the other.
struct Ratings<'a> {
    settings: &'a crate::data::DataSettings,
    missing: &'a Missing,
    /// What the first rows said, where the recipe says nothing.
    format: TimeFormat,
    log: Log,
    /// Columns of the first file.
    names: Vec<String>,
    /// Of users and items.
    ids: [Noticed; 2],
    /// Of kinds of events, in lower case; empty: all weigh 1.
    weights: HashMap<String, f32>,
    /// Events of kinds without a weight: how many, and the first kind.
    other_events: (u64, String),
}

/// The columns of a file of ratings.
struct Columns {
    ids: [usize; 2],
    rating: Option<usize>,
    event: Option<usize>,
    count: Option<usize>,
    part: Option<usize>,
}

/// How the times of a file are read.
enum Times {
    None,
    Text(usize, TimeFormat),
    Typed,
}

impl Ratings<'_> {
    /// Reads a file; true when its rows have times.
    fn read(&mut self, file: &File, left_out: &mut LeftOut, monitor: &dyn Monitor) -> Result<bool> {
        let table = &self.settings.table;
        let mut rows = Rows::open_behind(&self.names, file, table, Role::Ratings, monitor)?;
        if self.names.is_empty() && rows.layout() == Layout::Plain {
            self.names = rows.own_names().to_vec();
        }
        let (user, item) = (rows.column("user", &table.user)?, rows.column("item", &table.item)?);
        let optional =
            |key: &str, name: &str| if name.is_empty() { Ok(None) } else { rows.column(key, name).map(Some) };
        let weighed = table.is_weighed();
        let rating = if weighed { None } else { optional("rating", &table.rating)? };
        let (event, count) = (optional("event", &table.event)?, optional("count", &table.count)?);
        let part = optional("part", &table.part)?;
        let time = if rows.is_matrix() { None } else { optional("time", &table.time)? };
        let times = match time {
            None => Times::None,
            Some(column) => match rows.time_unit(column) {
                Some(unit) => {
                    self.fits(&rows, &unit)?;
                    Times::Typed
                }
                None => Times::Text(column, self.format(file, column, monitor)?),
            },
        };
        let columns: Vec<usize> =
            [Some(user), Some(item), rating, time, event, count, part].into_iter().flatten().collect();
        rows.select(&columns, time)?;
        let columns = Columns { ids: [user, item], rating, event, count, part };
        let reader = Reader::new(table);
        let mut met = 0u64;
        while rows.advance()? {
            met += 1;
            if met.is_multiple_of(65_536) {
                rows.report(monitor)?;
            }
            if left_out.skips()
                && rows.parse().is_ok()
                && let Some(what) = self.lacks(&rows, [Some(user), Some(item), rating])
            {
                left_out.incomplete(rows.error(what));
                continue;
            }
            if let Some(column) = event
                && !self.weights.is_empty()
                && rows.parse().is_ok()
                && self.weight(rows.get(column)).is_none()
            {
                self.other_events.0 += 1;
                if self.other_events.0 == 1 {
                    self.other_events.1 = text(rows.get(column));
                }
                continue;
            }
            let row = self.row(&mut rows, &columns, &times, &reader);
            left_out.take(row)?;
        }
        Ok(!matches!(times, Times::None))
    }

    /// Which of user, item and rating a row has not, if it lacks one.
    fn lacks(&self, rows: &Rows, columns: [Option<usize>; 3]) -> Option<String> {
        ["user id", "item id", "rating"].into_iter().zip(columns).find_map(|(what, column)| {
            let field = rows.get(column?);
            self.missing.is(field.trim_ascii()).then(|| format!("the {what} {} is missing", shown(field)))
        })
    }

    /// What an event of this kind weighs; `None` where the recipe does not list it.
    fn weight(&self, kind: &[u8]) -> Option<f32> {
        if self.weights.is_empty() {
            return Some(1.0);
        }
        self.weights.get(&text(kind).trim().to_lowercase()).copied()
    }

    /// What a row without a rating weighs.
    fn weighed(&self, rows: &Rows, columns: &Columns) -> Result<f32> {
        let weight = columns.event.and_then(|column| self.weight(rows.get(column))).unwrap_or(1.0);
        let Some(column) = columns.count else { return Ok(weight) };
        let count = decimal(rows.get(column).trim_ascii()).filter(|count| *count > 0.0).ok_or_else(|| {
            rows.error(format!("the count {} is not a number above 0", shown(rows.get(column))))
                .next("check data.table.count, or set data.damaged to \"skip\"")
        })?;
        Ok(weight * count)
    }

    fn row(&mut self, rows: &mut Rows, columns: &Columns, times: &Times, reader: &Reader) -> Result<()> {
        rows.parse()?;
        let rating = match columns.rating {
            Some(column) => self.rated(rows, rows.get(column), reader)?,
            None => self.weighed(rows, columns)?,
        };
        if let Some(column) = columns.part {
            let word = text(rows.get(column));
            let part = Part::of_word(word.trim()).ok_or_else(|| {
                rows.error(format!("`{word}` is no part of a split"))
                    .next("write train, valid or test, or check data.table.part")
            })?;
            self.log.part = Some(part);
        }
        let time = match times {
            Times::None => Time::default(),
            Times::Text(column, _) if self.missing.is(rows.get(*column).trim_ascii()) => {
                let what = format!("the time {} is missing", shown(rows.get(*column)));
                return Err(rows.error(what).next(NEXT_MISSING));
            }
            Times::Text(column, format) => timed(rows, rows.get(*column), format)?,
            Times::Typed => rows.typed_time().ok_or_else(|| {
                rows.error("the time is missing, or lies outside of 1970 to 2100".into())
                    .next("check data.table.time, or set data.damaged to \"skip\"")
            })?,
        };
        let fields = columns.ids.map(|column| rows.get(column));
        for (at, (what, field)) in ["user", "item"].into_iter().zip(fields).enumerate() {
            let id = id(field);
            if self.missing.is(id) {
                let said =
                    if id.is_empty() { "is empty".into() } else { format!("{} says that it is missing", shown(id)) };
                return Err(rows.error(format!("the {what} id {said}")).next(NEXT_MISSING));
            }
            self.ids[at].see(field, id);
        }
        self.log.add_at(rows, id(fields[0]), id(fields[1]), rating, time)
    }

    fn rated(&self, rows: &Rows, field: &[u8], reader: &Reader) -> Result<f32> {
        let written = field.trim_ascii();
        if let Some(rating) = reader.read(written) {
            return Ok(rating);
        }
        if self.missing.is(written) {
            return Err(rows.error(format!("the rating {} is missing", shown(field))).next(NEXT_MISSING));
        }
        let (low, high) = self.settings.table.scale;
        let words = written.iter().any(u8::is_ascii_alphabetic);
        let next = if words {
            "check data.table.rating; data.table.rating_words says what words mean; or set data.damaged to \"skip\""
        } else {
            "check data.table.rating and data.table.scale, or set data.damaged to \"skip\""
        };
        Err(rows.error(format!("the rating {} is not a number from {low} to {high}", shown(field))).next(next))
    }

    /// Refuses a format that contradicts a column of times.
    fn fits(&self, rows: &Rows, unit: &TimeFormat) -> Result<()> {
        match &self.settings.table.time_format {
            TimeFormat::Auto | TimeFormat::Iso => Ok(()),
            format if format == unit => Ok(()),
            format => {
                let typed = if *unit == TimeFormat::Iso { "dates".into() } else { format!("times in {unit}") };
                let column = &self.settings.table.time;
                Err(rows
                    .error(format!("column `{column}` has {typed}, but data.table.time_format is \"{format}\""))
                    .next("leave data.table.time_format out: the file says how its times are to be read"))
            }
        }
    }

    /// The format of a column of text: the recipe's, or what the first rows fit.
    fn format(&mut self, file: &File, column: usize, monitor: &dyn Monitor) -> Result<TimeFormat> {
        if self.format != TimeFormat::Auto {
            return Ok(self.format.clone());
        }
        // What is warned of was warned of when the file was opened first.
        let mut rows = Rows::open(file, &self.settings.table, Role::Ratings, &crate::Silent)?;
        rows.select(&[column], None)?;
        let mut fields: Vec<String> = Vec::new();
        while fields.len() < LOOKED_AT && rows.advance()? {
            if rows.parse().is_err() {
                continue;
            }
            let field = rows.get(column).trim_ascii();
            if let Ok(field) = std::str::from_utf8(field)
                && !self.missing.is(field.as_bytes())
            {
                fields.push(field.to_owned());
            }
        }
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        self.format = match TimeFormat::of_all(&fields) {
            Found::One(format) => format,
            // The first row's time is refused then.
            Found::None => return Ok(TimeFormat::Auto),
            Found::Two(one, other) => {
                return Err(Error::input(
                    file.path.display(),
                    format!("the times, such as {}, fit `{one}` and `{other}`", shown(fields[0].as_bytes())),
                )
                .next(format!("set data.table.time_format to \"{one}\" or to \"{other}\"")));
            }
        };
        let early = |f: &&str| self.format.time(f).is_none_or(|time| time.seconds < 366 * 86_400);
        if self.format == TimeFormat::Seconds && !fields.is_empty() && fields.iter().all(early) {
            monitor.warn(
                &format!("{}: the times, such as {}, lie in 1970 when read as seconds", file.path.display(), shown(fields[0].as_bytes())),
                "if they are not seconds, set data.table.time_format (excel, year, a pattern); their order counts in any case",
            );
        }
        Ok(self.format.clone())
    }
}

fn timed(rows: &Rows, field: &[u8], format: &TimeFormat) -> Result<Time> {
    std::str::from_utf8(field).ok().and_then(|text| format.time(text)).ok_or_else(|| {
        rows.error(format!("the time {} does not lie in 1970 to 2100, read as {format}", shown(field))).next(
            "check data.table.time and data.table.time_format (seconds, milliseconds, iso, a pattern such as %d.%m.%Y), \
             or set data.damaged to \"skip\"",
        )
    })
}

/// Every row of the files of items or users whose id was met, once.
fn each_known(
    files: &[File],
    settings: &crate::data::DataSettings,
    (role, key, id): (Role, &str, &str),
    known: &Names,
    monitor: &dyn Monitor,
    mut take: impl FnMut(&Rows, usize) -> Result<()>,
) -> Result<()> {
    let table = &settings.table;
    let mut left_out = LeftOut::new(settings, false);
    let mut join = Join::new(known);
    let hasher = hashbrown::DefaultHashBuilder::default();
    // A hash of the row that said something of each id; 0: none did.
    let mut seen = vec![0u64; known.len()];
    let (mut repeated, mut foreign) = (0u64, None);
    for file in files {
        let mut rows = Rows::open(file, table, role, monitor)?;
        let id = rows.column(key, id)?;
        let all: Vec<usize> = (0..rows.names().len()).collect();
        rows.select(&all, None)?;
        let mut met = 0u64;
        while rows.advance()? {
            met += 1;
            if met.is_multiple_of(16_384) {
                rows.report(monitor)?;
            }
            let row = (|| {
                rows.parse()?;
                let Some(at) = join.find(rows.get(id)).map(|at| at as usize) else {
                    foreign.get_or_insert_with(|| shown(rows.get(id)));
                    return Ok(());
                };
                let fields: Vec<&[u8]> = all.iter().map(|&column| rows.get(column)).collect();
                let hash = hasher.hash_one(fields) | 1;
                match seen[at] {
                    0 => {
                        seen[at] = hash;
                        take(&rows, at)
                    }
                    same if same == hash => Ok(()),
                    // Left out by choice, the first row of an id stays.
                    _ if left_out.skips() => {
                        repeated += 1;
                        Ok(())
                    }
                    _ => Err(rows
                        .error(format!(
                            "id {} stands on an earlier line already, with other fields",
                            shown(rows.get(id))
                        ))
                        .next(
                            "remove one of the two lines, or set data.damaged to \"skip\": then the first one counts",
                        )),
                }
            })();
            left_out.take(row)?;
        }
    }
    let file = files.first().map(|f| f.path.clone()).unwrap_or_default();
    left_out.tell(&file, monitor)?;
    if repeated > 0 {
        monitor.warn(
            &format!("{}: {repeated} rows have an id that an earlier row has: the first one counts", file.display()),
            "remove the others if they are not wanted",
        );
    }
    let missing = seen.iter().filter(|&&s| s == 0).count();
    if missing == known.len() {
        let ours = if known.is_empty() { String::new() } else { shown(known.name(0)) };
        let theirs = foreign.map_or("none".into(), |id| format!("such as {id}"));
        return Err(Error::input(
            file.display(),
            format!("none of its ids ({theirs}) is among the ratings (such as {ours})"),
        )
        .next(format!("check data.table.{key}: ids must be written alike in both files")));
    }
    if let Some((theirs, ours)) = &join.example {
        monitor.warn(
            &format!(
                "{}: {} ids were joined as numbers, such as `{theirs}` with `{ours}`",
                file.display(),
                join.by_number
            ),
            "write them alike in both files if they are not the same",
        );
    }
    if missing > 0 {
        let example = seen.iter().position(|&s| s == 0).map(|at| shown(known.name(at as u32))).unwrap_or_default();
        monitor.warn(
            &format!(
                "{}: {missing} of {} ids of the ratings are not in it, such as {example}",
                file.display(),
                known.len()
            ),
            "they stay, without title or text; data.core.known = \"title\" leaves such items out",
        );
    }
    Ok(())
}

/// The names of the columns of the first file.
fn names(files: &[File], table: &TableSettings, role: Role) -> Result<Vec<String>> {
    let first = files.first().map(|file| Rows::open(file, table, role, &crate::Silent)).transpose()?;
    Ok(first.map(|rows| rows.names().to_vec()).unwrap_or_default())
}

fn read_items(
    files: &[File],
    settings: &crate::data::DataSettings,
    missing: &Missing,
    met: &Names,
    monitor: &dyn Monitor,
) -> Result<Vec<About>> {
    let table = &settings.table;
    let names = names(files, table, Role::Items)?;
    let title = Template::new("title", &table.title, &names)?;
    let about = Template::new("item_text", &table.item_text, &names)?;
    let mut items = vec![About::default(); met.len()];
    let id = if table.item_id.is_empty() { &table.item } else { &table.item_id };
    if let (false, Some(first)) = (table.genres.is_empty(), files.first()) {
        Rows::open(first, table, Role::Items, &crate::Silent)?.column("genres", &table.genres)?;
    }
    each_known(files, settings, (Role::Items, "item_id", id), met, monitor, |rows, at| {
        let genre = match table.genres.as_str() {
            "" => String::new(),
            name => text(rows.get(rows.column("genres", name)?)),
        };
        let genres = match list(&genre).as_slice() {
            [one] if *one == genre => one.split(table.genre_separator.as_str()).map(str::to_owned).collect(),
            entries => entries.to_vec(),
        };
        let genres = genres.iter().map(|g| g.trim()).filter(|g| !missing.is(g.as_bytes()));
        items[at] = About {
            title: title.render(rows, missing)?,
            genres: genres.map(str::to_owned).collect(),
            fields: spoken(about.render(rows, missing)?),
        };
        Ok(())
    })?;
    Ok(items)
}

fn read_users(
    files: &[File],
    settings: &crate::data::DataSettings,
    missing: &Missing,
    met: &Names,
    monitor: &dyn Monitor,
) -> Result<Vec<Vec<Field>>> {
    let table = &settings.table;
    let about = Template::new("user_text", &table.user_text, &names(files, table, Role::Users)?)?;
    let mut users = vec![Vec::new(); met.len()];
    let id = if table.user_id.is_empty() { &table.user } else { &table.user_id };
    each_known(files, settings, (Role::Users, "user_id", id), met, monitor, |rows, at| {
        users[at] = spoken(about.render(rows, missing)?);
        Ok(())
    })?;
    Ok(users)
}

fn spoken(text: String) -> Vec<Field> {
    if text.is_empty() { Vec::new() } else { vec![Field { name: TEXT.into(), value: text }] }
}
