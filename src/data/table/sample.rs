//! Rows from all over a table, for who wants to know what is in it without reading it in full.
//!
//! Large files of text are cut to an excerpt first: whole lines from many places. The excerpt is
//! read as any file is.

use std::fs::File as Plain;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::TableSettings;
use super::files::{self, File, Role};
use super::form::Form;
use super::rows::{Layout, Rows};
use crate::data::sets::fields::text;
use crate::data::time::TimeFormat;
use crate::data::{DataSettings, source};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Files of text up to this many bytes are read from their beginning.
const SMALL: u64 = 1 << 20;
/// Places of a larger file that lines are taken from, and most bytes of lines at each.
const PLACES: u64 = 32;
const CHUNK: u64 = 512 << 10;
/// How many times its size a compressed file is thought to unpack to, and most bytes between two
/// places of it, which must be read to be passed over.
const UNPACKED: u64 = 3;
const SKIPPED: u64 = 64 << 20;
/// Files of a folder or pattern that are looked into.
const FILES: usize = 8;
/// Bytes of a field that are kept.
const KEPT: usize = 400;

/// What [`look`] is to look at.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The files, as `data.table.ratings` names them, of [`Role::Ratings`]. Without effect where
    /// the settings have a query.
    pub named: &'a str,
    /// Whether the first line of text has the names of the columns.
    pub header: bool,
    /// Rows to read at most.
    pub rows: usize,
    /// Whether rows are wanted from all over the table, or from its beginning.
    pub spread: bool,
}

/// Some rows of a table.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// `text`, `JSON`, `Parquet or Arrow`, or `a query`.
    pub form: &'static str,
    /// The columns as the file writes them, `#1` and so on where nothing names them.
    pub names: Vec<String>,
    /// The values of each column, as text and shortened.
    pub columns: Vec<Vec<String>>,
    /// The unit of each column that is typed as a time.
    pub typed: Vec<Option<TimeFormat>>,
    /// How rows stand in the file.
    pub layout: Layout,
    /// Rows that were read, and rows that have other columns than the first one or are damaged.
    pub rows: usize,
    /// Rows with other columns than the first one, or damaged.
    pub ragged: usize,
    /// Whether these are all the rows there are.
    pub whole: bool,
    /// About how many rows there are.
    pub about: u64,
    /// Files that were found.
    pub files: usize,
}

impl Sample {
    /// Columns that there are.
    pub fn width(&self) -> usize {
        self.names.len()
    }
}

/// Reads rows of a table.
///
/// # Errors
/// Nothing is there, or what is there cannot be read as a table.
pub fn look(settings: &DataSettings, wanted: Wanted, monitor: &dyn Monitor) -> Result<Sample> {
    let mut table = settings.table.clone();
    table.header = wanted.header;
    let all = if table.query.trim().is_empty() {
        files::find(&settings.path, wanted.named, "ratings")?
    } else {
        files::of(settings, Role::Ratings, monitor)?
    };
    let count = all.len().min(FILES);
    let chosen: Vec<&File> = (0..count).filter_map(|at| all.get(at * all.len() / count)).collect();
    let mut sample = Sample { whole: count == all.len(), files: all.len(), ..Sample::default() };
    for file in &chosen {
        let limit = sample.rows + (wanted.rows - sample.rows.min(wanted.rows)).div_ceil(count);
        let (before, of_all) = (sample.rows, sample.about);
        one(file, &table, wanted, limit.min(wanted.rows), &mut sample, monitor)?;
        sample.about = of_all + (sample.about - of_all).max((sample.rows - before) as u64);
    }
    sample.about = sample.about * all.len() as u64 / count.max(1) as u64;
    Ok(sample)
}

fn one(
    file: &File,
    table: &TableSettings,
    wanted: Wanted,
    limit: usize,
    sample: &mut Sample,
    monitor: &dyn Monitor,
) -> Result<()> {
    let form = match file.open(table)? {
        Form::Columns(_) if table.query.trim().is_empty() => "Parquet or Arrow",
        Form::Columns(_) => "a query",
        Form::Json(_) => "JSON",
        Form::Text(_) => "text",
    };
    let excerpt = if wanted.spread && matches!(form, "text" | "JSON") {
        excerpt(&file.path, limit - sample.rows.min(limit))?
    } else {
        None
    };
    let part;
    let (opened, shrunk) = match &excerpt {
        Some((temporary, share)) => {
            part = File::at(temporary.path().to_owned(), file.says.clone());
            (&part, *share)
        }
        None => (file, 1.0),
    };
    let mut rows = Rows::open(opened, table, Role::Ratings, &crate::Silent)
        .map_err(|e| if excerpt.is_some() { e.within(file.path.display()) } else { e })?;
    let names = rows.written_names();
    if sample.names.is_empty() {
        let typed = (0..names.len()).map(|at| rows.time_unit(at)).collect();
        let columns = vec![Vec::new(); names.len()];
        *sample = Sample { form, names, typed, columns, layout: rows.layout(), ..std::mem::take(sample) };
    } else if names.len() != sample.names.len() {
        return Err(Error::input(
            file.path.display(),
            format!("has {} columns, and the files beside it have {}", names.len(), sample.names.len()),
        )
        .next("give a pattern that leaves it out"));
    }
    let all: Vec<usize> = (0..sample.names.len()).collect();
    rows.select(&all, None)?;
    let (begun, ragged, mut ended) = (sample.rows, sample.ragged, false);
    // A quarter of the rows from the first ones, the others from all over the rest.
    let total = rows.total();
    let stride = match total.filter(|&total| wanted.spread && total > limit as u64) {
        Some(total) => (total / (limit.max(1) as u64)).min(MOST_SKIPPED),
        None => 1,
    };
    let mut met = 0u64;
    while sample.rows < limit {
        match rows.advance() {
            Ok(true) => {}
            Ok(false) => {
                ended = true;
                break;
            }
            // What the excerpt tore apart is no fault of the file.
            Err(_) if excerpt.is_some() && sample.rows > begun => break,
            Err(e) => return Err(e),
        }
        met += 1;
        if met.is_multiple_of(4096) {
            monitor.check()?;
        }
        if !met.is_multiple_of(stride) {
            continue;
        }
        if rows.parse().is_err() {
            sample.ragged += 1;
            if sample.ragged > limit {
                break;
            }
            continue;
        }
        sample.rows += 1;
        for (at, column) in sample.columns.iter_mut().enumerate() {
            let field = rows.get(at);
            column.push(text(&field[..field.len().min(KEPT)]));
        }
    }
    // Lines at the seams may be torn.
    if excerpt.is_some() && sample.ragged - ragged <= 2 * PLACES as usize {
        sample.ragged = ragged;
    }
    sample.whole &= ended && excerpt.is_none();
    let read = (sample.rows - begun) as f64;
    sample.about += match total {
        Some(total) => total,
        None if ended => (read * shrunk) as u64,
        None => (read * shrunk).max(read + 1.0) as u64,
    };
    Ok(())
}

/// Rows of typed columns that are passed over between two that are taken: decoding them costs time.
const MOST_SKIPPED: u64 = 64;

/// An excerpt of a file of text with about so many rows, and how many times as long the file is.
/// `None` for one that is small, or whose records do not stand on lines.
fn excerpt(path: &Path, rows: usize) -> Result<Option<(tempfile::NamedTempFile, f64)>> {
    let plain = source::on_disk(path) == path && !source::is_pipe(path);
    let length = source::on_disk(path).metadata().map_or(0, |m| m.len());
    let (mut reader, _) = source::open(path)?;
    let begins = reader.fill_buf().map(<[u8]>::to_vec).unwrap_or_default();
    // An array of JSON may stand on one line.
    if begins.trim_ascii_start().starts_with(b"[") || begins.contains(&0) {
        return Ok(None);
    }
    let failed = |e: std::io::Error| Error::io(std::env::temp_dir(), "write a file in", &e);
    let unread = |e: std::io::Error| Error::io(path, "read", &e);
    let mut out = tempfile::NamedTempFile::new().map_err(failed)?;
    // A line more: the first one has the names.
    let each = rows / PLACES as usize + 1;
    // A line of JSON has no quote that closes on another line.
    let quotes = !begins.trim_ascii_start().starts_with(b"{");
    let same = plain && Plain::open(path).is_ok_and(|mut file| head_is(&mut file, &begins));
    if same {
        if length <= SMALL {
            return Ok(None);
        }
        drop(reader);
        let mut file = BufReader::new(Plain::open(path).map_err(unread)?);
        let mut kept = 0;
        for place in 0..PLACES {
            let at = length / PLACES * place;
            file.seek(SeekFrom::Start(at)).map_err(unread)?;
            match lines(&mut file, place > 0, quotes, each, &mut out).map_err(unread)? {
                Some(copied) => kept += copied,
                None => return Ok(None),
            }
        }
        return Ok(Some((out, length as f64 / kept.max(1) as f64)));
    }
    if length <= SMALL / UNPACKED {
        return Ok(None);
    }
    let (mut kept, mut passed) = (0, 0);
    let gap = (length / PLACES * UNPACKED).min(SKIPPED);
    for place in 0..PLACES {
        let Some(taken) = lines(&mut reader, place > 0, quotes, each, &mut out).map_err(unread)? else {
            return Ok(None);
        };
        if taken == 0 {
            break;
        }
        let skipped = std::io::copy(&mut (&mut reader).take(gap), &mut std::io::sink()).map_err(unread)?;
        (kept, passed) = (kept + taken, passed + taken + skipped);
    }
    Ok(Some((out, passed as f64 / kept.max(1) as f64)))
}

fn head_is(file: &mut Plain, begins: &[u8]) -> bool {
    let mut head = vec![0; begins.len().min(4096)];
    file.read_exact(&mut head).is_ok() && begins.starts_with(&head)
}

/// Copies whole lines, from the next one on where a line may be torn; returns their bytes. `None`
/// where a record goes on behind the end of its line.
fn lines(
    reader: &mut impl BufRead,
    torn: bool,
    quotes: bool,
    most: usize,
    out: &mut impl Write,
) -> std::io::Result<Option<u64>> {
    let mut line = Vec::new();
    if torn {
        reader.read_until(b'\n', &mut line)?;
    }
    let mut copied = 0;
    for _ in 0..most {
        line.clear();
        if copied >= CHUNK || reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if quotes && line.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        out.write_all(&line)?;
        copied += line.len() as u64;
    }
    out.flush()?;
    Ok(Some(copied))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Kind;

    /// The rating of a row tells where in the file it stands.
    fn written(name: &str, packed: bool) -> (tempfile::TempDir, Sample) {
        let folder = tempfile::tempdir().unwrap();
        let rows: String = (0..100_000).map(|n| format!("u{},i{n},{}\n", n % 977, n / 1000)).collect();
        let text = format!("user,item,rating\n{rows}");
        let path = folder.path().join(name);
        if packed {
            let mut file = flate2::write::GzEncoder::new(Plain::create(&path).unwrap(), flate2::Compression::fast());
            file.write_all(text.as_bytes()).unwrap();
            file.finish().unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
        let settings = DataSettings::new(Kind::TABLE, folder.path());
        let wanted = Wanted { named: name, header: true, rows: 4000, spread: true };
        let sample = look(&settings, wanted, &crate::Silent).unwrap();
        (folder, sample)
    }

    #[test]
    fn rows_come_from_all_over_a_large_file() {
        let (_folder, sample) = written("ratings.csv", false);
        assert_eq!((&*sample.names[2], sample.ragged, sample.whole), ("rating", 0, false));
        assert!((3900..=4000).contains(&sample.rows), "{}", sample.rows);
        let places: std::collections::BTreeSet<&String> = sample.columns[2].iter().collect();
        assert!(places.len() >= 32, "{places:?}");
        assert!((90_000..110_000).contains(&sample.about), "{}", sample.about);
    }

    #[test]
    fn rows_of_a_compressed_file_come_from_far_behind_its_beginning() {
        let (_folder, sample) = written("ratings.csv.gz", true);
        let last = sample.columns[2].iter().filter_map(|r| r.parse::<u32>().ok()).max();
        assert!(sample.ragged == 0 && last >= Some(50), "{last:?} of {} rows", sample.rows);
        assert!((50_000..200_000).contains(&sample.about), "{}", sample.about);
    }

    #[test]
    fn records_over_several_lines_are_not_torn() {
        let folder = tempfile::tempdir().unwrap();
        let rows: String =
            (0..40_000).map(|n| format!("u{},\"long\n{} text\",i{n}\n", n % 977, "and ".repeat(9))).collect();
        std::fs::write(folder.path().join("r.csv"), format!("user,text,item\n{rows}")).unwrap();
        let settings = DataSettings::new(Kind::TABLE, folder.path());
        let wanted = Wanted { named: "r.csv", header: true, rows: 2000, spread: true };
        let sample = look(&settings, wanted, &crate::Silent).unwrap();
        assert_eq!((sample.rows, sample.ragged), (2000, 0));
        assert!(sample.columns[1].iter().all(|text| text.starts_with("long\nand")));
    }
}
