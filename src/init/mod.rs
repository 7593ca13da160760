//! A first recipe: looks at files or tables of a database, guesses which column says what, and
//! writes a recipe with comments.
//!
//! The rows are read by the reader of [`crate::data::table`], from all over a table and not in
//! full. What is small enough is then read in full with the recipe that came out, as a run would.

mod column;
mod database;
mod guess;
mod kinds;
mod recipe;
mod roles;
mod tables;
mod vocabulary;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use roles::Sure;

use crate::data::{self, DataSettings, Dataset, Kind, source};
use crate::database::{Address, SQLITE_MAGIC, is_postgres};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Unwarned};

/// Files of a folder that are looked at.
const MOST_FILES: usize = 40;
/// Bytes on the disk up to which a table is read in full.
const READ_IN_FULL: u64 = 64 << 20;
/// Rows of a database up to which a table is read in full.
pub(crate) const FETCHED_IN_FULL: u64 = 500_000;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// A file, a folder, a pattern of names, an SQLite file or the address of a database.
    pub source: String,
    /// A table of the database.
    pub table: Option<String>,
    /// A SELECT, in its place.
    pub query: Option<String>,
    /// The name of the recipe; not set: after the source.
    pub name: Option<String>,
    /// The folder that the recipe will lie in: its paths are meant from there.
    pub folder: PathBuf,
}

/// One thing that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The key of the recipe.
    pub key: String,
    /// Its value.
    pub value: String,
    /// How sure this is.
    pub sure: Sure,
    /// What it was told by.
    pub why: String,
}

/// A recipe, and what it was made of.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// The recipe's name.
    pub name: String,
    /// What was looked at, in a line.
    pub looked_at: String,
    pub findings: Vec<Finding>,
    /// What a user should know or decide.
    pub notes: Vec<String>,
    /// Counts of the whole table, where it was read in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The recipe itself.
    #[serde(skip)]
    pub text: String,
}

/// Counts of a table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Counts {
    pub ratings: usize,
    pub users: usize,
    pub items: usize,
}

/// What has been found so far.
pub(crate) struct Draft {
    pub settings: DataSettings,
    pub looked_at: String,
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
    /// Comments for keys, beside their values.
    pub sizes: Option<Counts>,
}

impl Draft {
    pub fn found(&mut self, key: &str, value: impl Into<String>, sure: Sure, why: impl Into<String>) {
        self.findings.push(Finding { key: key.into(), value: value.into(), sure, why: why.into() });
    }
}

/// Looks at what is asked for and proposes a recipe.
///
/// # Errors
/// Nothing is there, it holds no users and items, or what was guessed does not read it: the error
/// says why.
pub fn propose(asked: &Asked, monitor: &dyn Monitor) -> Result<Proposal> {
    let (mut draft, name) = if is_postgres(&asked.source) {
        let address = Address::parse(&asked.source, Path::new(""))?;
        (database::look(&address, asked, monitor)?, database::name_of(&asked.source))
    } else {
        let path = PathBuf::from(&asked.source);
        if source::is_pipe(&path) {
            return Err(Error::usage(path.display(), "is a pipe, which can be read only once")
                .next("write it into a file first, and give that"));
        }
        if path.is_file() && is_sqlite(&path) {
            (database::look(&Address::Sqlite(path.clone()), asked, monitor)?, name_of(&path))
        } else if asked.table.is_some() || asked.query.is_some() {
            return Err(Error::usage(path.display(), "is no database, so it has no tables and runs no query")
                .next("leave out --table and --query, or give an SQLite file or postgresql://host/name"));
        } else {
            (files(&path, monitor)?, name_of(&path))
        }
    };
    let name = asked.name.clone().unwrap_or(name);
    verify(&mut draft, monitor)?;
    draft.settings.path = meant_from(&asked.folder, &draft.settings.path);
    let text = recipe::text(&name, &asked.source, &draft);
    // What is written must be a recipe.
    crate::config::parse(&text, "the recipe that was made", &[])?;
    let Draft { looked_at, findings, notes, sizes, .. } = draft;
    Ok(Proposal { name, looked_at, findings, notes, counts: sizes, text })
}

fn is_sqlite(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 16];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *SQLITE_MAGIC
}

/// A name for a recipe, after a file or folder.
fn name_of(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let named = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = named(whole.file_name());
    let stem = if path.is_dir() { stem.as_str() } else { stem.split('.').next().unwrap_or_default() };
    let plain = plain_name(stem);
    // `ratings.csv` in `shop` is about the shop.
    let dull = ["ratings", "rating", "events", "interactions", "reviews", "data", "train", "u", "log", "part"];
    if dull.contains(&plain.as_str()) || plain.is_empty() {
        let folder = plain_name(&named(whole.parent().and_then(Path::file_name)));
        if !folder.is_empty() {
            return folder;
        }
    }
    if plain.is_empty() { "mine".into() } else { plain }
}

/// A path as a recipe in `folder` names it.
fn meant_from(folder: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() || path.is_absolute() {
        return path.to_owned();
    }
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (from, to) = (whole(&Path::new(".").join(folder)), whole(path));
    if from == whole(Path::new(".")) {
        return path.to_owned();
    }
    match to.strip_prefix(&from) {
        Ok(inside) if inside.as_os_str().is_empty() => PathBuf::from("."),
        Ok(inside) => inside.to_owned(),
        Err(_) => to,
    }
}

/// Letters, digits and hyphens of a name.
fn plain_name(text: &str) -> String {
    let kept: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Where the files are that a path or a pattern means: the folder, and the file or pattern in it.
fn place(path: &Path) -> Result<(PathBuf, Option<String>)> {
    if source::is_folder(path) {
        return Ok((path.to_owned(), None));
    }
    let text = path.to_string_lossy();
    if !source::exists(path) && text.contains(['*', '?', '[']) {
        // The folders before the first part with a wildcard.
        let parts: Vec<_> = path.components().collect();
        let wild = parts.iter().position(|part| part.as_os_str().to_string_lossy().contains(['*', '?', '[']));
        let (before, behind) = parts.split_at(wild.unwrap_or(parts.len()));
        let folder: PathBuf = before.iter().collect();
        let pattern: PathBuf = behind.iter().collect();
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        return Ok((folder, Some(pattern.to_string_lossy().into_owned())));
    }
    if !source::exists(path) {
        return Err(Error::input(path.display(), "is not there").next(
            "give a file of ratings, a folder, a pattern in quotes ('logs/*.csv'), an SQLite file or postgresql://host/name",
        ));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    Ok((folder.to_owned(), name))
}

/// Looks at files.
fn files(path: &Path, monitor: &dyn Monitor) -> Result<Draft> {
    let (folder, file) = place(path)?;
    if let Some(kind) = kinds::of(&folder, file.as_deref()) {
        return Ok(known(kind, &folder));
    }
    let base = DataSettings::new(Kind::TABLE, &folder);
    let names = match &file {
        Some(name) => vec![name.clone()],
        None => candidates(&folder)?,
    };
    let (mut best, mut refused): (Option<tables::Table>, Option<Error>) = (None, None);
    for name in &names {
        monitor.check()?;
        match tables::ratings(&base, name, monitor) {
            Ok(Some(table)) => {
                let better = best.as_ref().is_none_or(|other| rank(&table) > rank(other));
                if better {
                    best = Some(table);
                }
            }
            Ok(None) => {}
            Err(e) => drop(refused.get_or_insert(e)),
        }
    }
    let Some(table) = best else {
        let there = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
        let nothing = Error::input(path.display(), "holds no table with a column of users and one of items");
        let next = if file.is_some() {
            "give a file whose rows have a user and an item each; docs/your-data.md shows how to write a recipe by hand"
                .into()
        } else {
            format!(
                "give the file of ratings itself; the folder holds: {}",
                if there.is_empty() { "nothing" } else { &there }
            )
        };
        return Err(refused.unwrap_or_else(|| nothing.next(next)));
    };
    let others: Vec<String> = if source::is_folder(&folder) {
        candidates(&folder)?.into_iter().filter(|name| *name != table.named).collect()
    } else {
        Vec::new()
    };
    Ok(guess::draft(table, &others, monitor))
}

/// How well a table of a folder fits as the ratings: a part that is for training before others.
fn rank(table: &tables::Table) -> (i32, u64) {
    let stem = tables::stem(&table.named);
    let word = |words: &[&str]| words.iter().any(|word| stem.contains(word));
    let by_name = if word(&["rating", "review", "interaction", "event", "click", "log", "train", "inter", "play"]) {
        15
    } else {
        0
    };
    let held = if word(&["test", "valid", "val", "dev", "sample_submission"]) { -30 } else { 0 };
    (table.roles.score + by_name + held, table.sample.about)
}

/// The files and folders of part files that may be tables.
fn candidates(folder: &Path) -> Result<Vec<String>> {
    const ENDS: [&str; 16] = [
        "csv", "tsv", "txt", "dat", "data", "json", "jsonl", "ndjson", "parquet", "pq", "feather", "arrow", "inter",
        "item", "user", "tab",
    ];
    const PACKED: [&str; 6] = ["gz", "zst", "bz2", "xz", "lz4", "zip"];
    let may_be = |name: &String| {
        let mut parts = name.rsplit('.');
        let end = parts.next().unwrap_or_default().to_lowercase();
        let end = if PACKED.contains(&&*end) { parts.next().unwrap_or_default().to_lowercase() } else { end };
        ENDS.contains(&&*end)
    };
    let all = source::names_below(folder)?;
    let is_archive = !folder.is_dir();
    let mut found: Vec<String> = Vec::new();
    for name in all.iter().filter(|name| may_be(name)) {
        // Part files of one folder are one table.
        let one = match name.split_once('/') {
            Some((below, _)) if !is_archive => below.to_owned(),
            _ => name.clone(),
        };
        if !found.contains(&one) {
            found.push(one);
        }
    }
    if let Some(pattern) = parts(&found) {
        return Ok(vec![pattern]);
    }
    found.truncate(MOST_FILES);
    Ok(found)
}

/// The pattern of part files: all names are alike but for a number.
fn parts(names: &[String]) -> Option<String> {
    let bare = |name: &String| name.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let (first, rest) = names.split_first()?;
    if rest.is_empty() || rest.iter().any(|name| bare(name) != bare(first)) {
        return None;
    }
    let at = first.find(|c: char| c.is_ascii_digit())?;
    let end = first.rfind(|c: char| c.is_ascii_digit())? + 1;
    Some(format!("{}*{}", &first[..at], &first[end..]))
}

/// The recipe of a data set with a kind of its own.
fn known(kind: Kind, folder: &Path) -> Draft {
    let mut draft = Draft {
        settings: DataSettings::new(kind, folder),
        looked_at: format!("{}: {}", folder.display(), kind.set().about),
        findings: Vec::new(),
        notes: Vec::new(),
        sizes: None,
    };
    draft.found("data.kind", kind.name(), Sure::High, "by the names of its files, and what stands in them");
    draft
}

/// Bytes of the files that are read.
fn bytes(settings: &DataSettings) -> u64 {
    let table = &settings.table;
    let own = |path: &Path| path.metadata().map_or(0, |m| m.len());
    if !source::is_folder(&settings.path) || !settings.path.is_dir() {
        return own(&settings.path);
    }
    let names = source::names_below(&settings.path).unwrap_or_default();
    let named = |name: &&String| {
        settings.kind != Kind::TABLE
            || [&table.ratings, &table.items, &table.users].iter().any(|own| {
                let start = own.split('*').next().unwrap_or_default();
                !own.is_empty() && name.starts_with(start)
            })
    };
    names.iter().filter(named).map(|name| own(&settings.path.join(name))).sum()
}

/// Reads what is small in full, as a run would, and changes what cannot be read so.
fn verify(draft: &mut Draft, monitor: &dyn Monitor) -> Result<()> {
    if draft.settings.table.queries() {
        if draft.sizes.is_none_or(|counts| counts.ratings as u64 > FETCHED_IN_FULL) {
            draft.sizes = None;
            return Ok(());
        }
        draft.sizes = None;
    } else if bytes(&draft.settings) > READ_IN_FULL {
        draft.notes.push(
            "the files are large: rows from all over them were looked at, and `rallrec data inspect` reads them in full".into(),
        );
        return Ok(());
    }
    let dataset = match read(&draft.settings, monitor) {
        Ok(dataset) => dataset,
        Err(first) if first.kind() == crate::error::Kind::Stopped => return Err(first),
        Err(first) if draft.settings.damaged == data::Damaged::Auto => {
            draft.settings.damaged = data::Damaged::Skip;
            let dataset = read(&draft.settings, monitor).map_err(|_| unread(&first))?;
            draft.found("data.damaged", "skip", Sure::High, format!("{}: {}", first.place(), first.what()));
            dataset
        }
        Err(e) => return Err(unread(&e)),
    };
    draft.sizes =
        Some(Counts { ratings: dataset.interactions.len(), users: dataset.users.len(), items: dataset.items.len() });
    fit_split(draft, &dataset)
}

fn unread(error: &Error) -> Error {
    let next = format!("{}; or write a recipe by hand: docs/your-data.md", error.next_step());
    Error::input(error.place(), format!("{}, as the table was understood; nothing is written", error.what())).next(next)
}

fn read(settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    data::open(settings, &Unwarned(monitor))
}

/// Chooses the first rule of the split, and the longest history, that leave no part empty.
fn fit_split(draft: &mut Draft, dataset: &Dataset) -> Result<()> {
    use data::By;
    let implicit = draft.settings.is_implicit();
    let own = draft.settings.clone();
    let histories: &[usize] = if implicit { &[1] } else { &[5, 3, 2, 1] };
    let mut rules = vec![own.split.by];
    if own.split.by != By::Auto || own.kind != Kind::TABLE {
        rules.push(By::Auto);
    }
    rules.extend([By::Chance, By::UserChance]);
    let mut refused = None;
    for by in rules {
        for &min_history in histories {
            let mut settings = own.clone();
            (settings.split.by, settings.min_history) = (by, min_history);
            let made = data::build_samples(dataset, &settings)
                .and_then(|samples| if implicit { Ok(()) } else { data::two_classes(&samples) });
            match made {
                Ok(()) => {
                    if min_history != own.min_history && !implicit {
                        draft.notes.push(format!(
                            "users have few ratings: data.min_history is {min_history}, so a history may be as short as that"
                        ));
                        draft.settings.min_history = min_history;
                    }
                    draft.settings.split.by = by;
                    return Ok(());
                }
                Err(e) => drop(refused.get_or_insert(e)),
            }
        }
    }
    refused.map_or(Ok(()), |e| Err(unread(&e)))
}
