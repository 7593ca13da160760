//! Reads a table of ratings with its tables of items and users.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior};

use super::rows::{Rows, find};
use super::{Damaged, Settings, TimeFormat};
use crate::data::sets::fields::{At, decimal, shown, text};
use crate::data::sets::{About, LeftOut, Log, Names, Nature};
use crate::data::{Dataset, Field};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::settings::Checked;

/// The name of the field that replaces the built-in sentences about an item or a user.
pub const TEXT: &str = "text";
/// Longest text that a template may give, in bytes.
const LONGEST_TEXT: usize = 1 << 16;

/// Reads what `data.table` describes.
///
/// # Errors
/// A missing file or column, a template that does not work, the first damaged row (unless they are skipped): file, line
/// and next step.
pub fn load(settings: &crate::data::Settings, monitor: &dyn Monitor) -> Result<Dataset> {
    let (folder, table) = (settings.path.as_path(), &settings.table);
    table.check()?;
    let file = find(folder, &table.ratings, "ratings")?;
    let mut log = Log::default();
    read_ratings(&file, table, &mut log, monitor)?;
    if log.is_empty() {
        return Err(Error::input(file.display(), "holds no ratings").next("check that it is the right file"));
    }
    if table.rating.is_empty() {
        monitor.warn(
            "data.table.rating is empty: every row is a like, so there is nothing to learn to tell apart",
            "only the graph stages and `recommend` make sense then",
        );
    }
    let items = if table.items.is_empty() {
        let title = |at| About { title: text(log.items.name(at)), ..About::default() };
        (0..log.items.len() as u32).map(title).collect()
    } else {
        read_items(&find(folder, &table.items, "items")?, table, &log.items, monitor)?
    };
    let users = if table.users.is_empty() {
        Vec::new()
    } else {
        read_users(&find(folder, &table.users, "users")?, table, &log.users, monitor)?
    };
    let nature = Nature {
        name: super::SET.name,
        noun: table.noun.trim(),
        scale: table.scale(),
        has_times: !table.time.is_empty(),
    };
    log.finish(&nature, items, users, &file, monitor)
}

fn read_ratings(file: &Path, table: &Settings, log: &mut Log, monitor: &dyn Monitor) -> Result<()> {
    let mut rows = Rows::open(file, table.dialect()?)?;
    let (user, item) = (rows.column("user", &table.user)?, rows.column("item", &table.item)?);
    let optional = |rows: &mut Rows, key: &str, name: &str| match name {
        "" => Ok(None),
        name => rows.column(key, name).map(Some),
    };
    let rating = optional(&mut rows, "rating", &table.rating)?;
    let time = optional(&mut rows, "time", &table.time)?;
    let columns: Vec<usize> = [Some(user), Some(item), rating, time].into_iter().flatten().collect();
    rows.select(&columns)?;
    let mut format = table.time_format;
    let mut left_out = LeftOut::default();
    let (mut kept, mut met) = (0usize, 0u64);
    while rows.advance()? {
        let added = (|| {
            if let Some(error) = rows.ragged() {
                return Err(error);
            }
            let rating = match rating {
                Some(column) => rated(&rows, rows.get(column), table.scale)?,
                None => 1.0,
            };
            let time = match time {
                Some(column) => timed(&rows, rows.get(column), &mut format)?,
                None => 0,
            };
            log.add(&rows, rows.get(user), rows.get(item), rating, time)
        })();
        match (added, table.damaged) {
            (Ok(()), _) => kept += 1,
            (Err(error), Damaged::Refuse) => return Err(error),
            (Err(error), Damaged::Skip) => left_out.note(error),
        }
        met += 1;
        if met.is_multiple_of(65_536) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(kept, file, monitor)
}

fn rated(rows: &Rows, field: &[u8], (low, high): (f32, f32)) -> Result<f32> {
    decimal(field.trim_ascii()).filter(|r| (low..=high).contains(r)).ok_or_else(|| {
        rows.error(format!("the rating {} is not a number from {low} to {high}", shown(field)))
            .next("check data.table.rating and data.table.scale, or set data.table.damaged to \"skip\"")
    })
}

fn timed(rows: &Rows, field: &[u8], format: &mut TimeFormat) -> Result<i64> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    if *format == TimeFormat::Auto
        && let Some(found) = TimeFormat::of(text)
    {
        *format = found;
    }
    format.seconds(text).ok_or_else(|| {
        let name = format!("{format:?}").to_lowercase();
        rows.error(format!("the time {} does not lie in 1970 to 2100, read as {name}", shown(field)))
            .next("check data.table.time and data.table.time_format (seconds, milliseconds, microseconds, iso)")
    })
}

/// Every row of a file of items or users whose id was met, once, as its columns by name.
fn each_known(
    file: &Path,
    table: &Settings,
    (key, id): (&str, &str),
    known: &Names,
    monitor: &dyn Monitor,
    mut take: impl FnMut(&Rows, usize) -> Result<()>,
) -> Result<()> {
    let mut rows = Rows::open(file, table.dialect()?)?;
    let id = rows.column(key, id)?;
    let all: Vec<usize> = (0..rows.names().len()).collect();
    rows.select(&all)?;
    let mut seen = vec![false; known.len()];
    let mut left_out = LeftOut::default();
    let mut kept = 0usize;
    while rows.advance()? {
        let taken = (|| {
            if let Some(error) = rows.ragged() {
                return Err(error);
            }
            let Some(at) = known.get(rows.get(id)).map(|at| at as usize) else { return Ok(()) };
            if std::mem::replace(&mut seen[at], true) {
                return Err(rows
                    .error(format!("id {} stands on an earlier line already", shown(rows.get(id))))
                    .next("remove one of the two lines, or set data.table.damaged to \"skip\""));
            }
            take(&rows, at)
        })();
        match (taken, table.damaged) {
            (Ok(()), _) => kept += 1,
            (Err(error), Damaged::Skip) if error.kind() == crate::Kind::Input => left_out.note(error),
            (Err(error), _) => return Err(error),
        }
        if kept.is_multiple_of(16_384) {
            rows.report(monitor)?;
        }
    }
    left_out.tell(kept, file, monitor)?;
    let missing = seen.iter().filter(|&&s| !s).count();
    if missing == known.len() {
        return Err(Error::input(file.display(), "none of its ids is among the ratings")
            .next(format!("check data.table.{key}: ids must be written alike in both files")));
    }
    if missing > 0 {
        monitor.warn(
            &format!("{}: {missing} of {} ids of the ratings are not in it", file.display(), known.len()),
            "they stay, without title or text; data.core.known = \"title\" leaves such items out",
        );
    }
    Ok(())
}

fn read_items(file: &Path, table: &Settings, met: &Names, monitor: &dyn Monitor) -> Result<Vec<About>> {
    let names = Rows::open(file, table.dialect()?)?.names().to_vec();
    let environment = environment(&[("title", &table.title), ("item_text", &table.item_text)])?;
    let title = Template::new(&environment, "title", &names)?;
    let about = Template::new(&environment, "item_text", &names)?;
    let genres = match table.genres.as_str() {
        "" => None,
        name => Some(Rows::open(file, table.dialect()?)?.column("genres", name)?),
    };
    let mut items = vec![About::default(); met.len()];
    let id = if table.item_id.is_empty() { &table.item } else { &table.item_id };
    each_known(file, table, ("item_id", id), met, monitor, |rows, at| {
        let genre = genres.map(|column| text(rows.get(column))).unwrap_or_default();
        let split = genre.split(table.genre_separator.as_str()).map(str::trim).filter(|g| !g.is_empty());
        items[at] = About {
            title: title.render(rows)?,
            genres: split.map(str::to_owned).collect(),
            fields: spoken(about.render(rows)?),
        };
        Ok(())
    })?;
    Ok(items)
}

fn read_users(file: &Path, table: &Settings, met: &Names, monitor: &dyn Monitor) -> Result<Vec<Vec<Field>>> {
    let names = Rows::open(file, table.dialect()?)?.names().to_vec();
    let environment = environment(&[("user_text", &table.user_text)])?;
    let about = Template::new(&environment, "user_text", &names)?;
    let mut users = vec![Vec::new(); met.len()];
    let id = if table.user_id.is_empty() { &table.user } else { &table.user_id };
    each_known(file, table, ("user_id", id), met, monitor, |rows, at| {
        users[at] = spoken(about.render(rows)?);
        Ok(())
    })?;
    Ok(users)
}

fn spoken(text: String) -> Vec<Field> {
    if text.is_empty() { Vec::new() } else { vec![Field { name: TEXT.into(), value: text }] }
}

fn environment<'a>(templates: &[(&'static str, &'a String)]) -> Result<Environment<'a>> {
    let mut environment = Environment::new();
    // A wrong name is an error and not silence.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (key, template) in templates {
        environment.add_template(key, template).map_err(|e| {
            Error::usage(format!("data.table.{key}"), format!("is not a template: {e}"))
                .next("write it like \"{{ title }} ({{ year }})\"")
        })?;
    }
    Ok(environment)
}

/// A template with the columns that it names.
struct Template<'a> {
    key: &'static str,
    template: minijinja::Template<'a, 'a>,
    columns: Vec<(String, usize)>,
}

impl<'a> Template<'a> {
    fn new(environment: &'a Environment<'a>, key: &'static str, names: &[String]) -> Result<Self> {
        let place = format!("data.table.{key}");
        let template = environment.get_template(key).map_err(|e| Error::failed(&place, e))?;
        let mut columns = Vec::new();
        for wanted in template.undeclared_variables(false) {
            let Some(at) = names.iter().position(|n| *n == wanted.to_lowercase()) else {
                let there: Vec<&str> = names.iter().take(40).map(String::as_str).collect();
                return Err(Error::usage(
                    place,
                    format!("there is no column `{wanted}`; the columns are: {}", there.join(", ")),
                )
                .next("use the names of the first line; in templates, names with spaces cannot be used"));
            };
            columns.push((wanted, at));
        }
        Ok(Self { key, template, columns })
    }

    fn render(&self, rows: &Rows) -> Result<String> {
        let values: std::collections::BTreeMap<&str, String> =
            self.columns.iter().map(|(name, at)| (name.as_str(), text(rows.get(*at)))).collect();
        let said = self.template.render(values).map_err(|e| {
            Error::usage(format!("data.table.{}", self.key), format!("fails: {e}"))
                .within(rows.error(String::new()).place().to_owned())
                .next("mend the template")
        })?;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.len() > LONGEST_TEXT {
            return Err(rows
                .error(format!("data.table.{} gives {} bytes", self.key, said.len()))
                .next("make it shorter"));
        }
        Ok(said)
    }
}
