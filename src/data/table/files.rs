//! The files and queries that a recipe names for its three tables.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::TableSettings;
use super::fetched::Fetched;
use super::form::Form;
use super::parts;
use crate::content::Content;
use crate::data::lines::read_error;
use crate::data::source;
use crate::database::Address;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Unwarned};

/// Which of the three tables a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ratings,
    Items,
    Users,
}

impl Role {
    /// The key that names the table's files.
    fn files_key(self) -> &'static str {
        match self {
            Self::Ratings => "ratings",
            Self::Items => "items",
            Self::Users => "users",
        }
    }

    /// The key that holds the table's query.
    fn query_key(self) -> &'static str {
        match self {
            Self::Ratings => "query",
            Self::Items => "item_query",
            Self::Users => "user_query",
        }
    }

    fn query(self, table: &TableSettings) -> &str {
        match self {
            Self::Ratings => &table.query,
            Self::Items => &table.item_query,
            Self::Users => &table.user_query,
        }
    }

    fn named(self, table: &TableSettings) -> &str {
        match self {
            Self::Ratings => &table.ratings,
            Self::Items => &table.items,
            Self::Users => &table.users,
        }
    }

    pub fn columns(self, table: &TableSettings) -> &[String] {
        match self {
            Self::Ratings => &table.columns,
            Self::Items => &table.item_columns,
            Self::Users => &table.user_columns,
        }
    }

    pub fn names_key(self) -> &'static str {
        match self {
            Self::Ratings => "columns",
            Self::Items => "item_columns",
            Self::Users => "user_columns",
        }
    }
}

/// A file of a table, with what the folders above it say of all its rows (`year=2024`); or the rows
/// of a query.
pub struct File {
    /// Where it lies; the address of a database.
    pub path: PathBuf,
    pub says: Vec<(String, String)>,
    fetched: Option<Arc<Fetched>>,
}

impl File {
    pub fn at(path: PathBuf, says: Vec<(String, String)>) -> Self {
        Self { path, says, fetched: None }
    }

    /// Whether there is nothing in it. A pipe is not looked at: what is read of it is gone.
    pub fn is_empty(&self) -> Result<bool> {
        if self.fetched.is_some() || source::is_pipe(&self.path) {
            return Ok(false);
        }
        let mut reader = source::open(&self.path)?.0;
        reader.fill_buf().map(<[u8]>::is_empty).map_err(|e| read_error(&self.path, self.path.display(), &e))
    }

    /// Opens it as what it is.
    pub fn open(&self, table: &TableSettings) -> Result<Form> {
        match &self.fetched {
            Some(rows) => Ok(Form::Columns(Box::new(rows.open()?))),
            None => Form::open(&self.path, table),
        }
    }

    /// What it holds.
    fn content(&self) -> Result<Content> {
        match &self.fetched {
            Some(rows) => Ok(rows.content().clone()),
            None => Content::of_path(&source::on_disk(&self.path)),
        }
    }
}

/// Where the queries of a recipe are run.
///
/// # Errors
/// An address that cannot be one, or that holds a password.
pub fn address(settings: &crate::data::DataSettings) -> Result<Address> {
    let named = &settings.table.database;
    if named.is_empty() {
        return Ok(Address::Sqlite(settings.path.clone()));
    }
    Address::parse(named, &settings.path)
}

/// The files of one table, or the rows of its query.
///
/// # Errors
/// There is no such file; what the database says.
pub fn of(settings: &crate::data::DataSettings, role: Role, monitor: &dyn Monitor) -> Result<Vec<File>> {
    let table = &settings.table;
    let (query, named) = (role.query(table), role.named(table));
    if query.trim().is_empty() {
        return if named.is_empty() { Ok(Vec::new()) } else { find(&settings.path, named, role.files_key()) };
    }
    let address = address(settings)?;
    let rows =
        Fetched::of(&address, query, monitor).map_err(|e| e.within(format!("data.table.{}", role.query_key())))?;
    Ok(vec![File { path: PathBuf::from(address.to_string()), says: Vec::new(), fetched: Some(rows) }])
}

/// All that a recipe's tables are read from, with the hash of each. What a query gave stays as it
/// is while this is kept.
pub struct Sources {
    contents: Vec<(String, Content)>,
    /// Keeps the rows of queries in use.
    _files: Vec<File>,
}

/// The files of one table; those of ratings with the parts of a split that is given.
fn read(settings: &crate::data::DataSettings, role: Role, monitor: &dyn Monitor) -> Result<Vec<File>> {
    match role {
        Role::Ratings => Ok(parts::files(settings, monitor)?.into_iter().map(|(_, file)| file).collect()),
        _ => of(settings, role, monitor),
    }
}

impl Sources {
    /// Looks at all of them.
    ///
    /// # Errors
    /// Those of [`of`], and files that cannot be read.
    pub fn find(settings: &crate::data::DataSettings, monitor: &dyn Monitor) -> Result<Self> {
        let (mut contents, mut all) = (Vec::new(), Vec::new());
        for role in [Role::Ratings, Role::Items, Role::Users] {
            for file in read(settings, role, &Unwarned(monitor))? {
                let name = match &file.fetched {
                    // Where the rows come from is no part of what they are.
                    Some(_) => String::new(),
                    None => file.path.strip_prefix(&settings.path).unwrap_or(&file.path).display().to_string(),
                };
                contents.push((format!("{} {name}", role.files_key()), file.content()?));
                all.push(file);
            }
        }
        Ok(Self { contents, _files: all })
    }

    /// What the tables are known by.
    pub fn content(&self) -> Content {
        Content::of_parts(self.contents.iter().map(|(name, content)| (name.as_str(), content.as_str())))
    }
}

/// The files that `named` means in a folder: a file, a folder of part files, a pattern, or several
/// of them.
///
/// # Errors
/// There is none, or an archive has several of one name.
pub fn find(folder: &Path, named: &str, key: &str) -> Result<Vec<File>> {
    let alone = |path: PathBuf| vec![File::at(path, Vec::new())];
    if source::is_pipe(folder) || (folder.is_file() && !source::is_folder(folder)) {
        return Ok(alone(folder.to_owned()));
    }
    let at = source::locate(folder, named);
    if at.is_file() || (source::exists(&at) && !source::is_folder(&folder.join(named))) {
        let same = source::same_named(folder, named);
        if same.len() > 1 {
            return Err(Error::input(
                folder.display(),
                format!("holds several files of this name: {}", same.join(", ")),
            )
            .next(format!("set data.table.{key} to one of them, with its folder")));
        }
        return Ok(alone(at));
    }
    let mut files = Vec::new();
    for part in named.split(SEVERAL).map(str::trim).filter(|part| !part.is_empty()) {
        let found = if part == named { several(folder, part)? } else { find(folder, part, key)? };
        if found.is_empty() {
            return Err(absent(folder, part, key));
        }
        files.extend(found);
    }
    if files.is_empty() { Err(absent(folder, named, key)) } else { Ok(files) }
}

/// The files of a folder or of a pattern.
fn several(folder: &Path, named: &str) -> Result<Vec<File>> {
    let at = folder.join(named);
    if source::is_folder(&at) {
        let names = source::names_below(&at)?;
        let data = names.iter().filter(|name| !name.rsplit('/').next().unwrap_or(name).starts_with('_'));
        return Ok(data.map(|name| File::at(at.join(name), partitions(name))).collect());
    }
    let pattern = named.contains(['*', '?', '[']).then(|| glob::Pattern::new(named).ok()).flatten();
    let Some(pattern) = pattern else { return Ok(Vec::new()) };
    let strict = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let names = source::names_below(folder)?;
    let fits = names.iter().filter(|name| pattern.matches_with(name, strict));
    Ok(fits.map(|name| File::at(folder.join(name), partitions(name))).collect())
}

fn absent(folder: &Path, named: &str, key: &str) -> Error {
    let names = match source::names(folder) {
        Ok(names) => names,
        Err(error) => return error,
    };
    if names.iter().any(|name| name == "[Content_Types].xml") {
        return Error::input(folder.display(), "is an Excel file, or another Office file")
            .next("save the sheet as CSV");
    }
    let there =
        if names.is_empty() { "nothing".into() } else { names.iter().take(12).cloned().collect::<Vec<_>>().join(", ") };
    Error::input(folder.join(named).display(), "is not there")
        .next(format!("set data.path and data.table.{key}; the folder holds: {there}"))
}

/// Stands between the names of several files.
const SEVERAL: char = ';';

/// Reads the name of a file, or a list of names.
pub fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Named {
        One(String),
        Several(Vec<String>),
    }
    match Named::deserialize(deserializer)? {
        Named::One(name) => Ok(name),
        Named::Several(names) => match names.iter().find(|name| name.contains(SEVERAL)) {
            Some(name) => Err(D::Error::custom(format!("`{name}`: a name in a list cannot hold a semicolon"))),
            None => Ok(names.join(&SEVERAL.to_string())),
        },
    }
}

/// What the folders of a path say, as Hive and Spark write it: `year=2024/month=5/part-0.parquet`.
fn partitions(name: &str) -> Vec<(String, String)> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    let known = |value: &str| if value == "__HIVE_DEFAULT_PARTITION__" { String::new() } else { unquoted(value) };
    pairs.map(|(key, value)| (key.to_lowercase(), known(value))).collect()
}

/// A name with `%20` and the like put right.
fn unquoted(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
