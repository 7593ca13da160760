//! Memory-mapped safetensors: one file or shards with an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype as Stored, SafeTensors};

use crate::error::{Error, Result};
use crate::ops::linear::{Storage, Weight, convert};
use crate::tensor::Dtype;

/// Where one tensor is.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    file: usize,
    start: usize,
    end: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
}

/// All tensors of a model, mapped.
pub(crate) struct Tensors {
    files: Vec<(PathBuf, Arc<Mmap>)>,
    entries: BTreeMap<String, Entry>,
}

/// Maps a file for reading.
///
/// The mapping stays valid only while nobody truncates the file; a model file is not rewritten in
/// use.
pub(crate) fn map(path: &Path) -> Result<Arc<Mmap>> {
    let file = crate::content::open_plain(path).map_err(|e| Error::io(path, "open", &e))?;
    let meta = file.metadata().map_err(|e| Error::io(path, "read", &e))?;
    if !meta.is_file() {
        return Err(Error::input(path.display(), "is not a regular file").next("give a model file"));
    }
    if meta.len() == 0 {
        return Err(Error::input(path.display(), "the file is empty").next("download it again"));
    }
    // SAFETY: read-only; see above for the one assumption.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "map into memory", &e))?;
    Ok(Arc::new(map))
}

/// The storage type of a safetensors type, where this engine has one.
pub(crate) fn dtype(stored: Stored) -> Option<Dtype> {
    match stored {
        Stored::F32 => Some(Dtype::F32),
        Stored::BF16 => Some(Dtype::Bf16),
        Stored::F16 => Some(Dtype::F16),
        _ => None,
    }
}

impl Tensors {
    /// Opens the given files; a tensor in two of them is an error.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self { files: Vec::new(), entries: BTreeMap::new() };
        for path in paths {
            let map = map(path)?;
            let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| {
                Error::input(path.display(), format!("not a sound safetensors file: {e}"))
                    .next("download it again; it may be cut short")
            })?;
            // The data start after the length (8 bytes) and the header.
            let base = header + 8;
            for (name, info) in metadata.tensors() {
                let entry = Entry {
                    file: all.files.len(),
                    start: base + info.data_offsets.0,
                    end: base + info.data_offsets.1,
                    shape: info.shape.clone(),
                    stored: info.dtype,
                };
                if entry.end > map.len() {
                    return Err(Error::input(path.display(), format!("tensor {name} ends behind the end of the file"))
                        .next("download it again; it may be cut short"));
                }
                if let Some(first) = all.entries.insert(name.clone(), entry) {
                    let other = all.files.get(first.file).map_or(path, |f| &f.0);
                    return Err(Error::input(path.display(), format!("tensor {name} is also in {}", other.display()))
                        .next("keep one set of weights in the folder"));
                }
            }
            all.files.push((path.clone(), map));
        }
        Ok(all)
    }

    /// Names and entries.
    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    fn find(&self, name: &str) -> Result<(&Entry, &Path, &Arc<Mmap>)> {
        let entry = self.entries.get(name).ok_or_else(|| {
            let place = self.files.first().map_or_else(String::new, |f| f.0.display().to_string());
            Error::input(place, format!("tensor {name} is missing")).next("download the model again, all of its files")
        })?;
        let (path, map) = &self.files[entry.file];
        Ok((entry, path, map))
    }

    fn expect(&self, name: &str, shape: &[usize]) -> Result<(&Entry, &Path, &Arc<Mmap>, Dtype)> {
        let (entry, path, map) = self.find(name)?;
        let place = format!("{}: tensor {name}", path.display());
        if entry.shape != shape {
            return Err(Error::input(place, format!("the shape is {:?}, expected {shape:?}", entry.shape))
                .next("config.json and weights must belong together"));
        }
        let dtype = dtype(entry.stored).ok_or_else(|| {
            Error::input(place, format!("values of type {:?} are not supported", entry.stored))
                .next("use a model stored as bfloat16, float16 or float32")
        })?;
        Ok((entry, path, map, dtype))
    }

    /// A matrix of exactly (rows, cols) in `want`, or as stored. Shares the mapping where nothing
    /// has to change.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize, want: Option<Dtype>) -> Result<Weight> {
        let (entry, path, map, stored) = self.expect(name, &[rows, cols])?;
        let want = want.unwrap_or(stored);
        let aligned = (map.as_ptr() as usize + entry.start).is_multiple_of(stored.size());
        let storage = if want == stored && aligned && cfg!(target_endian = "little") {
            Storage::Mapped { file: Arc::clone(map), offset: entry.start, dtype: stored }
        } else {
            let bytes = &map[entry.start..entry.end];
            let row_bytes = cols * stored.size();
            convert::build(rows, cols, want, |row, out| {
                convert::widen(&bytes[row * row_bytes..(row + 1) * row_bytes], stored, out);
            })
            .map_err(|e| e.within(format!("{}: tensor {name}", path.display())))?
        };
        Weight::new(rows, cols, storage).map_err(|e| e.within(path.display()))
    }

    /// A tensor of exactly this shape as f32, rounded to `dtype`, all finite.
    pub(crate) fn values(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<Vec<f32>> {
        let (entry, path, map, stored) = self.expect(name, shape)?;
        let bytes = &map[entry.start..entry.end];
        let mut out = vec![0.0; bytes.len() / stored.size()];
        convert::widen(bytes, stored, &mut out);
        convert::round_vector(out, dtype, &format!("{}: tensor {name}", path.display()))
    }
}
