//! One cursor over the rows of a table, whatever its form.

use serde_json::Value;
use std::collections::HashMap;

use super::TableSettings;
use super::columns::Columns;
use super::files::{File, Role};
use super::form::Form;
use super::rating::Reader;
use crate::data::delimited::Records;
use crate::data::json::{self, Objects};
use crate::data::sets::fields::{At, decoded};
use crate::data::time::{Time, TimeFormat};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Objects of a JSON file that are looked at for the names of its columns.
const LOOKED_AT: usize = 1000;
/// Columns beside the user that a matrix of ratings has at least.
const WIDE: usize = 5;

/// The rows of a table.
pub struct Rows {
    source: Source,
    names: Vec<String>,
    role: Role,
    shape: Shape,
    /// What the folders say of every row, behind the columns of the file.
    says: Vec<String>,
    /// The record that was read for the names is a row.
    again: bool,
}

enum Source {
    Text(Box<Records>),
    Json(Box<Nested>),
    Columns(Box<Columns>),
}

/// How rows stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// A line a row.
    #[default]
    Plain,
    /// The first line looks like a row, and its columns are taken for user, item, rating and time.
    Headless,
    /// `item:`, then its rows without it.
    Blocks,
    /// A line a user, a column an item.
    Matrix,
}

/// How rows stand in text.
enum Shape {
    Plain,
    /// `item:`, then its rows without it: the Netflix Prize.
    Blocks {
        item: Vec<u8>,
    },
    /// A line a user, a column an item.
    Matrix {
        user: usize,
        items: Vec<(usize, Vec<u8>)>,
        at: usize,
    },
}

impl Rows {
    /// Opens a file of a table and finds the names of its columns.
    pub fn open(file: &File, table: &TableSettings, role: Role, monitor: &dyn Monitor) -> Result<Self> {
        Self::open_behind(&[], file, table, role, monitor)
    }

    /// As [`Rows::open`], for a file that may go on where another one with these columns ended.
    pub fn open_behind(
        earlier: &[String],
        file: &File,
        table: &TableSettings,
        role: Role,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut rows = match file.open(table)? {
            Form::Columns(columns) => {
                let names = columns.names().to_vec();
                Self::plain(Source::Columns(columns), names, role)
            }
            Form::Json(objects) => {
                let (source, names) = Nested::open(objects)?;
                Self::plain(Source::Json(Box::new(source)), names, role)
            }
            Form::Text(records) => Self::text(earlier, records, table, role, monitor)?,
        };
        for (key, value) in &file.says {
            if !rows.names.contains(key) {
                rows.names.push(key.clone());
                rows.says.push(value.clone());
            }
        }
        Ok(rows)
    }

    fn plain(source: Source, names: Vec<String>, role: Role) -> Self {
        Self { source, names, role, shape: Shape::Plain, says: Vec::new(), again: false }
    }

    /// Text: its first record has the names, or is a row.
    fn text(
        earlier: &[String],
        mut records: Box<Records>,
        table: &TableSettings,
        role: Role,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let empty =
            |records: &Records| Error::input(records.path().display(), "is empty").next("copy or download it again");
        if !records.advance()? {
            return Err(empty(&records));
        }
        let given = role.columns(table);
        if !given.is_empty() || !table.header {
            let names = numbered(records.fields().len(), given);
            return Ok(Self { again: true, ..Self::plain(Source::Text(records), names, role) });
        }
        let wanted = |names: &[String]| {
            let keys: [&String; 4] = match role {
                Role::Ratings => [&table.user, &table.item, &table.rating, &table.time],
                Role::Items => [&table.item, &table.item_id, &table.genres, &table.title],
                Role::Users => [&table.user, &table.user_id, &table.user, &table.user_id],
            };
            keys.into_iter().any(|key| position(names, key).is_some())
        };
        let mut names = records.names();
        // Comments before the names; but the names may stand in one.
        while let Some(mark) = table.comment.chars().next().filter(|&mark| names[0].starts_with(mark)) {
            let mut bare = names.clone();
            bare[0] = names[0].trim_start_matches(mark).trim().to_owned();
            if wanted(&bare) {
                names = bare;
                break;
            }
            if wanted(&names) {
                break;
            }
            records.forget();
            if !records.advance()? {
                return Err(empty(&records));
            }
            names = records.names();
        }
        if role != Role::Ratings || wanted(&names) {
            let matrix = role == Role::Ratings && table.user == TableSettings::default().user;
            if let Some(shape) = matrix.then(|| matrix_of(&mut records, &names, table)).flatten() {
                monitor.warn(
                    &format!(
                        "{}: a column an item: read as a matrix of ratings, without times",
                        records.path().display()
                    ),
                    "if this is not meant, set data.table.item and data.table.rating to columns of the file",
                );
                let names = ["user", "item", "rating"].map(String::from).to_vec();
                return Ok(Self { shape, ..Self::plain(Source::Text(records), names, role) });
            }
            return Ok(Self::plain(Source::Text(records), names, role));
        }
        if names.len() == earlier.len() && !names.iter().any(|name| earlier.contains(name)) {
            monitor.warn(
                &format!(
                    "{}: the first line has no names: its columns are taken for those of the file before it",
                    records.path().display()
                ),
                "set data.table.columns if they are others",
            );
            return Ok(Self { again: true, ..Self::plain(Source::Text(records), earlier.to_vec(), role) });
        }
        let own = TableSettings::default();
        let untouched = [&table.user, &table.item] == [&own.user, &own.item];
        if untouched && let Some(item) = block(records.fields().get(0)).filter(|_| records.fields().len() == 1) {
            let shape = Shape::Blocks { item: item.to_vec() };
            records.expect(3);
            let names = ["user", "rating", "time", "item"].map(String::from).to_vec();
            return Ok(Self { shape, ..Self::plain(Source::Text(records), names, role) });
        }
        let row = records.fields();
        let like_a_row = row.len() > 2
            && Reader::new(table).read(row.get(2).trim_ascii()).is_some()
            && (row.len() == 3 || std::str::from_utf8(row.get(3)).is_ok_and(|time| TimeFormat::of(time).is_some()));
        if untouched && like_a_row && (row.len() > 3 || table.time.is_empty()) {
            let order = ["user", "item", "rating", "time"].map(String::from);
            monitor.warn(
                &format!(
                    "{}: the first line has no names and looks like a row: the columns are taken for user, item, rating \
                     and time, in this order",
                    records.path().display()
                ),
                "set data.table.columns to the names in their order if it is another one",
            );
            let names = numbered(row.len(), &order[..row.len().min(4)]);
            return Ok(Self { again: true, ..Self::plain(Source::Text(records), names, role) });
        }
        Ok(Self::plain(Source::Text(records), names, role))
    }

    /// Names of the columns, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of the columns of the file itself, without what its folders say.
    pub fn own_names(&self) -> &[String] {
        &self.names[..self.own()]
    }

    /// Names of the columns as the file writes them; call it before the first row.
    pub fn written_names(&self) -> Vec<String> {
        let written = |(at, name): (usize, &String)| match (&self.source, &self.shape) {
            (Source::Text(records), Shape::Plain) if !self.again && at < self.own() => {
                let raw = decoded(records.get(at)).trim().to_owned();
                // A mark of a comment or of the byte order stands before the first one.
                if raw.to_lowercase() == *name { raw } else { name.clone() }
            }
            _ => name.clone(),
        };
        self.names.iter().enumerate().map(written).collect()
    }

    /// How the rows stand in the file; call it before the first row.
    pub fn layout(&self) -> Layout {
        match self.shape {
            Shape::Plain if self.again => Layout::Headless,
            Shape::Plain => Layout::Plain,
            Shape::Blocks { .. } => Layout::Blocks,
            Shape::Matrix { .. } => Layout::Matrix,
        }
    }

    /// How many rows there are, where the file says so.
    pub fn total(&self) -> Option<u64> {
        match &self.source {
            Source::Columns(columns) => columns.total(),
            _ => None,
        }
    }

    /// Whether the rows come out of a matrix: then there are no times.
    pub fn is_matrix(&self) -> bool {
        matches!(self.shape, Shape::Matrix { .. })
    }

    /// The column that the recipe's key names.
    ///
    /// # Errors
    /// There is none, or two; names those that there are.
    pub fn column(&self, key: &str, name: &str) -> Result<usize> {
        let shown: Vec<&str> = self.names.iter().take(40).map(|n| n.get(..60).unwrap_or(n)).collect();
        let shown = shown.join(", ");
        let wanted = name.trim().to_lowercase();
        if self.names.iter().filter(|n| **n == wanted).count() > 1 {
            return Err(self.error(format!("there are two columns `{name}`; the columns are: {shown}")).next(format!(
                "rename one of them, or set data.table.{key} to its number, e.g. \"#1\" for the first"
            )));
        }
        position(&self.names, &wanted).ok_or_else(|| {
            let text = matches!(self.source, Source::Text(_));
            let next = match (advice(&self.names).filter(|_| text), &self.source) {
                (Some(next), _) => next,
                (None, _) if ["rating", "time"].contains(&key) => {
                    format!("set data.table.{key} to one of them, or to \"\" if the data has none")
                }
                (None, Source::Text(_)) => format!(
                    "set data.table.{key} to one of them, or check data.table.separator; where the first line is a row, \
                     name the columns by data.table.{}",
                    self.role.names_key()
                ),
                _ => format!("set data.table.{key} to one of them"),
            };
            self.error(format!("there is no column `{name}`; the columns are: {shown}")).next(next)
        })
    }

    /// Reads only these columns from now on, `time` as a time where it is typed as one; call it
    /// once, before the first row.
    pub fn select(&mut self, columns: &[usize], time: Option<usize>) -> Result<()> {
        let own: Vec<usize> = columns.iter().copied().filter(|&at| at < self.own()).collect();
        match &mut self.source {
            Source::Text(_) => Ok(()),
            Source::Json(nested) => {
                nested.select(&own, &self.names);
                Ok(())
            }
            Source::Columns(table) => table.select(&own, time.filter(|at| own.contains(at))),
        }
    }

    /// Columns of the file itself.
    fn own(&self) -> usize {
        self.names.len() - self.says.len()
    }

    /// The unit of a column that is typed as a time.
    pub fn time_unit(&self, column: usize) -> Option<TimeFormat> {
        match &self.source {
            Source::Columns(table) => table.unit(column),
            _ => None,
        }
    }

    /// The row's time, where the selected column is typed as one.
    pub fn typed_time(&self) -> Option<Time> {
        match &self.source {
            Source::Columns(table) => table.time(),
            _ => None,
        }
    }

    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool> {
        if let Shape::Matrix { items, at, .. } = &mut self.shape
            && let Source::Text(records) = &mut self.source
        {
            loop {
                // Behind the last item comes the first one of the next line.
                *at = at.wrapping_add(1);
                if *at >= items.len() {
                    *at = 0;
                    if !records.advance()? {
                        return Ok(false);
                    }
                }
                if items.get(*at).is_some_and(|(column, _)| !records.get(*column).trim_ascii().is_empty()) {
                    return Ok(true);
                }
            }
        }
        match &mut self.source {
            Source::Text(_) if std::mem::take(&mut self.again) => Ok(true),
            Source::Text(records) => {
                while records.advance()? {
                    let Shape::Blocks { item } = &mut self.shape else { return Ok(true) };
                    match block(records.get(0)).filter(|_| records.fields().len() == 1) {
                        Some(next) => *item = next.to_vec(),
                        None => return Ok(true),
                    }
                }
                Ok(false)
            }
            Source::Json(nested) => nested.objects.advance(),
            Source::Columns(columns) => columns.advance(),
        }
    }

    /// Makes the fields of the row ready.
    ///
    /// # Errors
    /// A row with too many or too few columns, or an object that is damaged.
    pub fn parse(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Text(records) if !records.is_whole() => Err(records.ragged()),
            Source::Json(nested) => nested.parse(),
            _ => Ok(()),
        }
    }

    /// One field of the row; empty where there is none.
    pub fn get(&self, column: usize) -> &[u8] {
        if let Some(value) = column.checked_sub(self.own()).and_then(|at| self.says.get(at)) {
            return value.as_bytes();
        }
        match (&self.source, &self.shape) {
            (Source::Text(_), Shape::Blocks { item }) if column == 3 => item,
            (Source::Text(records), Shape::Matrix { user, items, at }) => match (column, items.get(*at)) {
                (0, _) => records.get(*user),
                (1, Some((_, item))) => item,
                (_, Some((rating, _))) => records.get(*rating),
                (_, None) => &[],
            },
            (Source::Text(records), _) => records.get(column),
            (Source::Json(nested), _) => nested.get(column),
            (Source::Columns(columns), _) => columns.get(column),
        }
    }

    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        match &self.source {
            Source::Text(records) => records.report(monitor),
            Source::Json(nested) => nested.objects.report(monitor),
            Source::Columns(columns) => columns.report(monitor),
        }
    }
}

impl At for Rows {
    fn error(&self, what: String) -> Error {
        match &self.source {
            Source::Text(records) => records.error(what),
            Source::Json(nested) => nested.objects.error(what),
            Source::Columns(columns) => columns.error(what),
        }
    }
}

/// What to do where the first line of a text was not separated as it is meant.
pub fn advice(names: &[String]) -> Option<String> {
    let quoted = |mark: char| names.iter().any(|name| name.len() > 1 && name.starts_with(mark) && name.ends_with(mark));
    if let [one] = names {
        let other = [('\t', "\\t"), (';', ";"), ('|', "|")].iter().find(|(c, _)| one.contains(*c));
        return match other {
            Some((_, separator)) => Some(format!("set data.table.separator to \"{separator}\"")),
            None if one.contains(',') => Some(
                "set data.table.separator to \",\"; if it is so already, each line stands in quotes as a whole: take \
                 them off"
                    .into(),
            ),
            None => None,
        };
    }
    if quoted('\'') {
        return Some("set data.table.quote to \"'\"".into());
    }
    quoted('"').then(|| "blanks stand before the quotes: set data.table.separator to \", \"".into())
}

/// The column of this name or number. RecBole's names have a type behind a colon, which may be left
/// out.
pub fn position(names: &[String], wanted: &str) -> Option<usize> {
    let wanted = wanted.trim().to_lowercase();
    if wanted.is_empty() {
        return None;
    }
    let untyped = |name: &String| name.rsplit_once(':').is_some_and(|(name, _)| name == wanted);
    let numbered = || wanted.strip_prefix('#')?.parse::<usize>().ok()?.checked_sub(1).filter(|&at| at < names.len());
    names.iter().position(|name| *name == wanted).or_else(|| names.iter().position(untyped)).or_else(numbered)
}

/// The names that are given, and numbers for the columns behind them.
fn numbered(count: usize, given: &[String]) -> Vec<String> {
    let name = |at: usize| given.get(at).map_or_else(|| format!("#{}", at + 1), |name| name.trim().to_lowercase());
    (0..count).map(name).collect()
}

/// The item at the head of a block.
fn block(field: &[u8]) -> Option<&[u8]> {
    let id = field.trim_ascii().strip_suffix(b":")?;
    (!id.is_empty() && id.iter().all(u8::is_ascii_digit)).then_some(id)
}

/// The shape of a table with a column an item, where it is one: a column of users, none of items
/// and ratings, and nothing but ratings in the first row.
fn matrix_of(records: &mut Records, names: &[String], table: &TableSettings) -> Option<Shape> {
    let own = TableSettings::default();
    let untouched = [&table.item, &table.rating] == [&own.item, &own.rating];
    let user = position(names, &table.user)?;
    let others = [&table.item, &table.rating, &table.time].iter().any(|key| position(names, key).is_some());
    if !untouched || others || names.len() <= WIDE {
        return None;
    }
    let header: Vec<(usize, Vec<u8>)> =
        (0..names.len()).filter(|&at| at != user).map(|at| (at, records.get(at).trim_ascii().to_vec())).collect();
    Some(Shape::Matrix { user, items: header, at: usize::MAX - 1 })
}

/// Objects of JSON, as rows.
struct Nested {
    objects: Box<Objects>,
    /// The place of each column that is read.
    columns: HashMap<String, usize>,
    fields: Vec<Vec<u8>>,
}

impl Nested {
    /// The objects, and the names of all fields of the first ones.
    fn open(objects: Box<Objects>) -> Result<(Self, Vec<String>)> {
        let mut first = Objects::open(objects.path())?;
        let mut names = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let (mut met, mut by_columns) = (0, false);
        for _ in 0..LOOKED_AT {
            if !first.advance()? {
                break;
            }
            // A damaged object is told when its row is read.
            let Ok(object) = json::parse::<Value>(first.object()) else { continue };
            (met, by_columns) = (met + 1, is_by_columns(&object));
            walk(&object, &mut String::new(), &mut |name, _| {
                if seen.insert(name.to_owned()) {
                    names.push(name.to_owned());
                }
            });
        }
        if met == 1 && by_columns {
            return Err(Error::input(objects.path().display(), "is one JSON object with a list or an object a column")
                .next("write an object a row; in pandas: to_json(path, orient=\"records\", lines=True)"));
        }
        if names.is_empty() {
            return Err(Error::input(objects.path().display(), "holds no JSON objects with fields")
                .next("write one object a line, or an array of objects"));
        }
        Ok((Self { objects, columns: HashMap::new(), fields: Vec::new() }, names))
    }

    fn select(&mut self, columns: &[usize], names: &[String]) {
        self.columns = columns.iter().map(|&at| (names[at].clone(), at)).collect();
        self.fields = vec![Vec::new(); columns.iter().max().map_or(0, |last| last + 1)];
    }

    fn parse(&mut self) -> Result<()> {
        let object: Value = self.objects.parse()?;
        self.fields.iter_mut().for_each(Vec::clear);
        let (fields, columns) = (&mut self.fields, &self.columns);
        walk(&object, &mut String::new(), &mut |name, value| {
            let Some(&at) = columns.get(name) else { return };
            match value {
                Value::Null => {}
                Value::String(text) => fields[at].extend_from_slice(text.as_bytes()),
                other => fields[at].extend_from_slice(other.to_string().as_bytes()),
            }
        });
        Ok(())
    }

    fn get(&self, column: usize) -> &[u8] {
        self.fields.get(column).map_or(&[], Vec::as_slice)
    }
}

/// Whether an object has nothing but lists or objects of several entries each: columns, or rows by
/// their numbers, as pandas writes tables.
fn is_by_columns(object: &Value) -> bool {
    let several = |value: &Value| match value {
        Value::Array(entries) => entries.len() > 1,
        Value::Object(entries) => entries.len() > 1,
        _ => false,
    };
    object.as_object().is_some_and(|fields| fields.len() > 1 && fields.values().all(several))
}

/// Every field of an object with its name, in lower case; those of objects inside with dots
/// between.
fn walk(value: &Value, name: &mut String, take: &mut impl FnMut(&str, &Value)) {
    let Value::Object(fields) = value else { return };
    for (key, value) in fields {
        let length = name.len();
        if length > 0 {
            name.push('.');
        }
        name.push_str(key.trim());
        name.make_ascii_lowercase();
        match value {
            Value::Object(inner) if !inner.is_empty() => walk(value, name, take),
            value => take(name, value),
        }
        name.truncate(length);
    }
}
