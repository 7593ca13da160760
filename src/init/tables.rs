//! How the files of tables are written: separator, names of the columns, encoding; and which of
//! several files holds what.

use std::io::BufRead;
use std::path::Path;

use super::column::Column;
use super::roles::{self, Roles};
use crate::data::table::{Layout, Sample, Wanted, look};
use crate::data::{DataSettings, Kind, source};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// What may stand between the columns of text, in the order in which it is tried.
const SEPARATORS: [&str; 9] = [",", "\t", ";", "|", "::", "^", "\u{1}", "~", " "];
/// Rows that a separator is tried on.
const TRIED: usize = 1000;
/// Rows that a table is judged by.
pub const JUDGED: usize = 40_000;

/// A table of ratings, as it was found.
pub struct Table {
    /// What reads it: separator, header and so on are set, and which column is what is not.
    pub settings: DataSettings,
    /// Its file, folder or pattern in the folder.
    pub named: String,
    pub sample: Sample,
    pub columns: Vec<Column>,
    pub header: bool,
    pub roles: Roles,
}

impl Table {
    /// How recipes call a column.
    pub fn key(&self, at: usize) -> String {
        let Some(column) = self.columns.get(at) else { return String::new() };
        let same = |name: &str| self.columns.iter().filter(|c| c.name == name).count();
        if !self.header {
            return format!("#{}", at + 1);
        }
        match column.name.as_str() {
            "" => format!("#{}", at + 1),
            name if same(name) > 1 => format!("#{}", at + 1),
            // Without the type that RecBole writes.
            name if column.written.len() > name.len() => name.to_owned(),
            _ => column.written.clone(),
        }
    }
}

/// The names of the columns of a file, in lower case; none where it is no table.
pub fn names_of(folder: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for separator in [",", ";"] {
        let mut settings = DataSettings::new(Kind::TABLE, folder);
        settings.table.separator = separator.into();
        let wanted = Wanted { named: name, header: true, rows: 20, spread: false };
        if let Ok(sample) = look(&settings, wanted, &crate::Silent) {
            let columns = Column::all(&sample);
            found.extend(columns.into_iter().map(|c| c.name.trim_matches('"').to_owned()));
        }
    }
    found
}

/// The encoding that the first bytes of a file show, where it is neither UTF-8 nor Latin-1.
fn encoding(path: &Path) -> Option<&'static str> {
    let (mut reader, _) = source::open(path).ok()?;
    let head = reader.fill_buf().ok()?;
    let head = &head[..head.len().min(4096)];
    match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("utf-16"),
        _ => {}
    }
    // Every other byte of Latin letters in UTF-16 is zero.
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|&&b| b == 0).count() * 5 > head.len() * 2;
    match () {
        () if head.len() < 16 => None,
        () if zeros(1) && !zeros(0) => Some("utf-16le"),
        () if zeros(0) && !zeros(1) => Some("utf-16be"),
        () => None,
    }
}

/// Reads a table of ratings, trying what it may be written like; `None` where it holds no columns
/// that may be users and items.
///
/// # Errors
/// It cannot be read at all.
pub fn ratings(base: &DataSettings, named: &str, monitor: &dyn Monitor) -> Result<Option<Table>> {
    let mut settings = base.clone();
    let file = source::locate(&settings.path, named);
    let path = if settings.path.is_dir() || source::is_folder(&settings.path) { file } else { settings.path.clone() };
    if settings.table.query.is_empty()
        && path.is_file()
        && let Some(name) = encoding(&path)
    {
        settings.table.encoding = name.into();
    }
    // The first error is told where nothing can be read.
    let (mut best, mut refused): (Option<(i64, &str)>, Option<Error>) = (None, None);
    for separator in SEPARATORS {
        settings.table.separator = separator.into();
        let tried = Wanted { named, header: true, rows: TRIED, spread: false };
        let sample = match look(&settings, tried, monitor) {
            Ok(sample) => sample,
            Err(e) => {
                refused.get_or_insert(e);
                continue;
            }
        };
        if sample.form != "text" {
            best = Some((0, separator));
            break;
        }
        if matches!(sample.layout, Layout::Matrix | Layout::Blocks) {
            best = Some((i64::MAX, separator));
            break;
        }
        if sample.rows == 0 {
            refused.get_or_insert_with(|| {
                Error::input(path.display(), "has a line of names and no rows").next("give the file that has the rows")
            });
            continue;
        }
        let score = (|| {
            let columns = Column::all(&sample);
            let roles = roles::of(&sample, &columns)?;
            let ragged = sample.ragged as f64 / (sample.ragged + sample.rows).max(1) as f64;
            Some(i64::from(roles.score) * 10 + sample.width().min(12) as i64 - (ragged * 1000.0) as i64)
        })();
        if let Some(score) = score
            && best.is_none_or(|(other, _)| score > other)
        {
            best = Some((score, separator));
        }
    }
    let Some((_, separator)) = best else {
        return refused.map_or(Ok(None), Err);
    };
    settings.table.separator = separator.into();
    let wanted = |header| Wanted { named, header, rows: JUDGED, spread: true };
    let mut sample = look(&settings, wanted(true), monitor)?;
    let mut columns = Column::all(&sample);
    let told = matches!(sample.layout, Layout::Matrix | Layout::Blocks);
    let header = sample.form != "text" || told || (sample.layout == Layout::Plain && roles::has_header(&columns));
    if !header {
        sample = look(&settings, wanted(false), monitor)?;
        columns = Column::all(&sample);
        columns.iter_mut().for_each(|column| column.name.clear());
        settings.table.header = false;
    }
    if escapes(&sample) {
        settings.table.escape = "\\".into();
    }
    let Some(roles) = roles::of(&sample, &columns) else { return Ok(None) };
    Ok(Some(Table { settings, named: named.to_owned(), sample, columns, header, roles }))
}

/// Whether quotes inside of fields have a backslash before them.
fn escapes(sample: &Sample) -> bool {
    sample.form == "text"
        && sample.columns.iter().flatten().any(|value| value.ends_with('\\') && value.matches('\\').count() == 1)
        && sample.ragged > 0
}

/// A table of items or users that goes with the ratings.
pub struct Beside {
    pub named: String,
    pub columns: Vec<Column>,
    /// Its column of ids.
    pub id: usize,
    /// Share of the ratings' ids that were found in it.
    pub share: f64,
}

/// The table of a file whose ids are those of the ratings; `None` where it has no such column.
pub fn beside(
    ratings: &Table,
    base: &DataSettings,
    named: &str,
    column: usize,
    words: &str,
    monitor: &dyn Monitor,
) -> Option<Beside> {
    let wanted = Wanted { named, header: true, rows: 400_000, spread: false };
    let sample = look(base, wanted, monitor).ok()?;
    if !matches!(sample.layout, Layout::Plain) || sample.width() < 2 {
        return None;
    }
    let columns = Column::all(&sample);
    if sample.form == "text" && !roles::has_header(&columns) {
        return None;
    }
    let plain = |id: &str| id.strip_suffix(".0").unwrap_or(id).to_owned();
    let ids: std::collections::HashSet<String> =
        ratings.sample.columns.get(column)?.iter().map(|id| plain(id)).filter(|id| !id.is_empty()).collect();
    let wanted = ratings.columns.get(column)?;
    let stem = stem(named);
    let best = columns.iter().enumerate().filter_map(|(at, own)| {
        let there: std::collections::HashSet<String> = sample.columns[at].iter().map(|id| plain(id)).collect();
        let found = ids.iter().filter(|id| there.contains(*id)).count();
        let share = found as f64 / ids.len().max(1) as f64;
        let same = !wanted.name.is_empty() && own.name == wanted.name;
        // Small numbers are ids of anything: a name must say of what.
        let spoken = super::vocabulary::named(&own.name, words) >= 35
            || (super::vocabulary::has(&own.name, "id key") && super::vocabulary::named(&stem, words) >= 22);
        let wordy = own.letters > 0.9;
        let likely = same || spoken || wordy;
        let unique = own.distinct as f64 >= 0.9 * own.known as f64;
        (likely && share >= 0.2 && unique).then_some((at, share + if same { 0.5 } else { 0.0 }, share))
    });
    let (id, _, share) = best.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Beside { named: named.to_owned(), columns, id, share })
}

/// A file's name without folders and endings, in lower case.
pub fn stem(named: &str) -> String {
    let name = named.rsplit(['/', '\\']).next().unwrap_or(named).to_lowercase();
    name.split('.').next().unwrap_or_default().trim_end_matches('s').to_owned()
}
