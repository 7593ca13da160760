//! Data sets and samples as files: magic, version, a JSON header with the tables and the lengths of
//! the columns, the columns as little-endian arrays, and a BLAKE3 checksum of all of it. A file is
//! written under a temporary name and renamed, so it is whole or absent.

use std::io::Write;
use std::path::Path;

use bytemuck::{AnyBitPattern, NoUninit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Dealt, Exception, Interaction, Item, Part, Rated, Sample, Samples, Split, User};
use super::{ItemIdx, UserIdx};
use crate::durable::Pending;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"RALLDATA";
/// Raised when the layout changes; older files are made again from the raw data.
const VERSION: u32 = 1;
/// Magic, version, length of the header.
const START: usize = 20;
const CHECKSUM: usize = 32;

const DATASET: &str = "a dataset";
const SAMPLES: &str = "samples";

/// The part of a header that says which of the two it is.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct DatasetHeader {
    kind: String,
    name: String,
    noun: String,
    scale: (f32, f32),
    has_times: bool,
    /// There is a column with the parts of a split that the data brings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    parts: bool,
    rows: usize,
    items: Vec<Item>,
    users: Vec<User>,
}

#[derive(Serialize, Deserialize)]
struct SamplesHeader {
    kind: String,
    users: usize,
    rated: usize,
    samples: usize,
    split: Split,
    exceptions: Vec<Exception>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dealt: Option<Dealt>,
}

impl Dataset {
    /// Writes the data set to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let header = DatasetHeader {
            kind: DATASET.into(),
            name: self.name.clone(),
            noun: self.noun.clone(),
            scale: self.scale,
            has_times: self.has_times,
            parts: self.brings_parts(),
            rows: self.interactions.len(),
            items: self.items.clone(),
            users: self.users.clone(),
        };
        let rows = &self.interactions;
        let mut file = Output::new(path, &header)?;
        file.column(rows.iter().map(|r| r.user.0))?;
        file.column(rows.iter().map(|r| r.item.0))?;
        file.column(rows.iter().map(|r| r.rating))?;
        file.column(rows.iter().map(|r| r.time))?;
        if self.brings_parts() {
            file.column(rows.iter().map(|r| r.part.map_or(0, |part| 1 + part as u8)))?;
        }
        file.finish()
    }

    /// Reads what [`Dataset::write`] wrote.
    ///
    /// # Errors
    /// A foreign, newer, truncated or damaged file, or rows that do not fit the tables.
    pub fn read(path: &Path) -> Result<Self> {
        let (header, mut file) = Input::<DatasetHeader>::open(path, DATASET)?;
        let n = header.rows;
        let (user, item) = (file.column::<u32>(n)?, file.column::<u32>(n)?);
        let (rating, time) = (file.column::<f32>(n)?, file.column::<i64>(n)?);
        let parts = if header.parts { file.column::<u8>(n)? } else { Vec::new() };
        file.end()?;
        file.below("user", &user, header.users.len())?;
        file.below("item", &item, header.items.len())?;
        file.finite(&rating)?;
        if parts.iter().any(|&part| part == 0 || usize::from(part) > Part::ALL.len()) {
            return Err(file.damaged("a row is of no part of the split"));
        }
        let interactions = (0..n)
            .map(|at| Interaction {
                user: UserIdx(user[at]),
                item: ItemIdx(item[at]),
                rating: rating[at],
                time: time[at],
                part: parts.get(at).map(|&part| Part::ALL[usize::from(part) - 1]),
            })
            .collect();
        Ok(Self {
            name: header.name,
            noun: header.noun,
            scale: header.scale,
            has_times: header.has_times,
            items: header.items,
            users: header.users,
            interactions,
        })
    }
}

impl Samples {
    /// Writes the samples to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let header = SamplesHeader {
            kind: SAMPLES.into(),
            users: self.timelines.len(),
            rated: self.timelines.iter().map(Vec::len).sum(),
            samples: self.samples.len(),
            split: self.split.clone(),
            exceptions: self.exceptions.clone(),
            dealt: self.dealt.clone(),
        };
        let rated = || self.timelines.iter().flatten();
        let rows = &self.samples;
        let mut file = Output::new(path, &header)?;
        file.column(self.timelines.iter().map(|t| t.len() as u32))?;
        file.column(rated().map(|r| r.item.0))?;
        file.column(rated().map(|r| r.rating))?;
        file.column(rated().map(|r| r.time))?;
        file.column(rows.iter().map(|s| s.user.0))?;
        file.column(rows.iter().map(|s| s.item.0))?;
        file.column(rows.iter().map(|s| s.rating))?;
        file.column(rows.iter().map(|s| u8::from(s.label)))?;
        file.column(rows.iter().map(|s| s.time))?;
        file.column(rows.iter().map(|s| s.position))?;
        file.finish()
    }

    /// Reads what [`Samples::write`] wrote.
    ///
    /// # Errors
    /// A foreign, newer, truncated or damaged file, or rows that do not fit each other.
    pub fn read(path: &Path) -> Result<Self> {
        let (header, mut file) = Input::<SamplesHeader>::open(path, SAMPLES)?;
        let lengths = file.column::<u32>(header.users)?;
        let (item, rating) = (file.column::<u32>(header.rated)?, file.column::<f32>(header.rated)?);
        let time = file.column::<i64>(header.rated)?;
        if lengths.iter().map(|&n| n as usize).sum::<usize>() != header.rated {
            return Err(file.damaged("the lengths of the timelines do not add up"));
        }
        file.finite(&rating)?;
        let mut at = 0;
        let mut timelines = Vec::with_capacity(header.users);
        for &n in &lengths {
            let rows = at..at + n as usize;
            at = rows.end;
            timelines.push(rows.map(|i| Rated { item: ItemIdx(item[i]), rating: rating[i], time: time[i] }).collect());
        }
        let n = header.samples;
        let (user, item, rating) = (file.column::<u32>(n)?, file.column::<u32>(n)?, file.column::<f32>(n)?);
        let (label, time, position) = (file.column::<u8>(n)?, file.column::<i64>(n)?, file.column::<u32>(n)?);
        file.end()?;
        file.below("user", &user, header.users)?;
        file.finite(&rating)?;
        if let Some(row) = (0..n).find(|&i| position[i] >= lengths[user[i] as usize] || label[i] > 1) {
            return Err(file.damaged(&format!("sample {row} does not fit its user's timeline")));
        }
        let Split { train, valid, test } = &header.split;
        let bounds = [0, train.start, train.end, valid.start, valid.end, test.start, test.end, n];
        if !bounds.is_sorted() {
            return Err(file.damaged("the split does not fit the samples"));
        }
        if let Some(dealt) = &header.dealt {
            let fits = |(&[train, valid], &rows): (&[u32; 2], &u32)| train <= valid && valid <= rows;
            if dealt.ends.len() != lengths.len() || !dealt.ends.iter().zip(&lengths).all(fits) {
                return Err(file.damaged("the parts of the timelines do not fit them"));
            }
        }
        let samples = (0..n)
            .map(|i| Sample {
                user: UserIdx(user[i]),
                item: ItemIdx(item[i]),
                rating: rating[i],
                label: label[i] == 1,
                time: time[i],
                position: position[i],
            })
            .collect();
        Ok(Self { timelines, samples, split: header.split, exceptions: header.exceptions, dealt: header.dealt })
    }
}

/// A file under way.
struct Output {
    path: std::path::PathBuf,
    file: Pending,
    checksum: blake3::Hasher,
}

impl Output {
    fn new(path: &Path, header: &impl Serialize) -> Result<Self> {
        let header = serde_json::to_vec(header)
            .map_err(|e| Error::failed(path.display(), format!("cannot write the header: {e}")))?;
        let mut output = Self { path: path.to_owned(), file: Pending::new(path)?, checksum: blake3::Hasher::new() };
        output.put(MAGIC)?;
        output.put(&VERSION.to_le_bytes())?;
        output.put(&(header.len() as u64).to_le_bytes())?;
        output.put(&header)?;
        Ok(output)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, "write", &e))
    }

    fn column<T: NoUninit>(&mut self, values: impl Iterator<Item = T>) -> Result<()> {
        let mut block = Vec::with_capacity(1 << 14);
        for value in values {
            block.push(value);
            if block.len() == block.capacity() {
                self.put(bytemuck::cast_slice(&block))?;
                block.clear();
            }
        }
        self.put(bytemuck::cast_slice(&block))
    }

    fn finish(mut self) -> Result<()> {
        let checksum = self.checksum.finalize();
        self.file.write_all(checksum.as_bytes()).map_err(|e| Error::io(&self.path, "write", &e))?;
        self.file.finish()
    }
}

/// A whole file, checked, with a place in it.
struct Input<H> {
    path: String,
    bytes: Vec<u8>,
    at: usize,
    header: std::marker::PhantomData<H>,
}

impl<H: DeserializeOwned> Input<H> {
    fn open(path: &Path, kind: &str) -> Result<(H, Self)> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", &e))?;
        let mut file = Self { path: path.display().to_string(), bytes, at: START, header: std::marker::PhantomData };
        if !file.bytes.starts_with(MAGIC) {
            return Err(Error::input(&file.path, format!("does not hold {kind} stored by this program"))
                .next("check the path, or run the data stage again"));
        }
        let Some((body, checksum)) = file.bytes.split_last_chunk::<CHECKSUM>().filter(|(body, _)| body.len() >= START)
        else {
            return Err(file.damaged("it is cut off"));
        };
        let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
        if version != VERSION {
            return Err(Error::input(
                &file.path,
                format!("has layout version {version}, this program reads {VERSION}"),
            )
            .next("run the data stage again with this version of the program"));
        }
        if blake3::hash(body).as_bytes() != checksum {
            return Err(file.damaged("its checksum does not match"));
        }
        let length = body[12..START].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let end = usize::try_from(length).ok().and_then(|n| START.checked_add(n)).filter(|&end| end <= body.len());
        let Some(end) = end else { return Err(file.damaged("the header is longer than the file")) };
        let head = &body[START..end];
        let Kind { kind: found } =
            serde_json::from_slice(head).map_err(|e| file.damaged(&format!("the header cannot be read: {e}")))?;
        if found != kind {
            return Err(Error::input(&file.path, format!("holds {found} and not {kind}")).next("check the path"));
        }
        let header: H =
            serde_json::from_slice(head).map_err(|e| file.damaged(&format!("the header cannot be read: {e}")))?;
        file.at = end;
        Ok((header, file))
    }

    fn column<T: AnyBitPattern + NoUninit>(&mut self, n: usize) -> Result<Vec<T>> {
        let end = n.checked_mul(size_of::<T>()).and_then(|length| self.at.checked_add(length));
        let last = self.bytes.len() - CHECKSUM;
        let Some(end) = end.filter(|&end| end <= last) else {
            return Err(self.damaged("a column is shorter than the header says"));
        };
        let values = self.bytes[self.at..end].chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
        self.at = end;
        Ok(values)
    }

    fn end(&self) -> Result<()> {
        if self.at == self.bytes.len() - CHECKSUM {
            return Ok(());
        }
        Err(self.damaged("it holds more than the header says"))
    }

    fn below(&self, what: &str, ids: &[u32], n: usize) -> Result<()> {
        match ids.iter().position(|&id| id as usize >= n) {
            None => Ok(()),
            Some(row) => Err(self.damaged(&format!("row {row} names {what} {} of {n}", ids[row]))),
        }
    }

    fn finite(&self, ratings: &[f32]) -> Result<()> {
        match ratings.iter().position(|r| !r.is_finite()) {
            None => Ok(()),
            Some(row) => Err(self.damaged(&format!("the rating of row {row} is not finite"))),
        }
    }

    fn damaged(&self, what: &str) -> Error {
        Error::input(&self.path, format!("the file is damaged: {what}"))
            .next("delete it and run the data stage again: it is made from the raw files")
    }
}
