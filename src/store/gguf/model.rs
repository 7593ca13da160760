//! The model in a GGUF file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::Mmap;

use super::blocks::Type;
use super::file::{Entry, File, let_go};
use super::{rope, tokenizer};
use crate::error::{Error, Result};
use crate::models::decoder::check::check;
use crate::models::decoder::families::Windows;
use crate::models::decoder::parts::{LayerPart, Part};
use crate::models::decoder::{Config, Family};
use crate::ops::linear::{InFile, Quantised, Storage, Weight, convert};
use crate::store::ChatTemplate;
use crate::store::assemble::{Source, assemble};
use crate::store::loader::{Described, Format, LoadOptions, Loaded, ModelInfo, ask_for_memory};
use crate::tensor::Dtype;

/// Rows of which there is a copy before the pages that they came from are let go of: a tensor may
/// be a tenth of the file.
const STRIP: usize = 256;
const ROPE_TABLE: &str = "rope_freqs.weight";

/// Rows of a tensor, read where they are.
struct Rows {
    map: Arc<Mmap>,
    entry: Entry,
    /// Bytes of a row.
    width: usize,
    /// How many were read.
    count: AtomicUsize,
}

impl Rows {
    /// Rows between two times that the pages are let go of: the system maps 16 of them at a time.
    const HELD: usize = 256;
}

impl InFile for Rows {
    fn read_row(&self, row: usize, out: &mut [f32]) {
        let from = self.entry.start + row * self.width;
        self.entry.kind.dequantise(&self.map[from..from + self.width], out);
        if self.count.fetch_add(1, Ordering::Relaxed) % Self::HELD == Self::HELD - 1 {
            let_go(&self.map, self.entry.span());
        }
    }

    fn bytes(&self) -> usize {
        self.entry.len
    }
}

struct Model<'a> {
    file: &'a File,
    config: &'a Config,
    dtype: Option<Dtype>,
}

impl Model<'_> {
    fn place(&self, name: &str) -> String {
        format!("{}: tensor {name}", self.file.path.display())
    }

    /// Whether rows of a part in blocks are looked up and never multiplied: embeddings, where the
    /// model has a head besides.
    fn looked_up(&self, part: Part) -> bool {
        part == Part::Embed && !self.config.tied && self.dtype.is_none()
    }
}

fn entry<'a>(file: &'a File, name: &str, dims: &[usize]) -> Result<&'a Entry> {
    let place = format!("{}: tensor {name}", file.path.display());
    let Some(entry) = file.tensors.get(name) else {
        return Err(Error::input(place, "is missing").next("download the file again"));
    };
    // Trailing lengths of 1 mean nothing.
    let trimmed = entry.dims.iter().rposition(|&d| d != 1).map_or(0, |last| last + 1).max(dims.len());
    if entry.dims.get(..trimmed) != Some(dims) {
        return Err(Error::input(place, format!("the shape is {:?}, expected {dims:?}", entry.dims))
            .next("the file is damaged or not a Llama-type model"));
    }
    Ok(entry)
}

fn values(file: &File, name: &str, len: usize, dtype: Dtype) -> Result<Vec<f32>> {
    let entry = entry(file, name, &[len])?;
    let mut out = vec![0.0; len];
    entry.kind.dequantise(&file.map[entry.start..entry.start + entry.len], &mut out);
    convert::round_vector(out, dtype, &format!("{}: tensor {name}", file.path.display()))
}

/// The row in the file of row `row` in the half-split layout. The converter stores q and k of the
/// Llama architecture so that the two rows of a rotary pair are neighbours.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + 2 * (within % half) + within / half
}

impl Source for Model<'_> {
    fn name(&self, part: Part) -> String {
        part.gguf()
    }

    fn names(&self) -> Vec<String> {
        self.file.tensors.keys().cloned().collect()
    }

    fn matrix(&self, part: Part, (rows, cols): (usize, usize)) -> Result<Weight> {
        let name = part.gguf();
        let entry = entry(self.file, &name, &[cols, rows])?;
        let permuted = self.config.family.gguf_pairs_rows
            && matches!(part, Part::Layer(_, LayerPart::Q) | Part::Layer(_, LayerPart::K));
        let bytes = &self.file.map[entry.start..entry.start + entry.len];
        let row_bytes = cols / entry.kind.block() * entry.kind.bytes();
        let head_dim = self.config.head_dim;
        let stored = |row: usize| {
            let from = if permuted { interleaved(row, head_dim) } else { row };
            &bytes[from * row_bytes..(from + 1) * row_bytes]
        };
        let want = match (self.dtype, entry.kind, entry.kind.form()) {
            // Without a head of their own embeddings are multiplied too.
            (None, _, Some(_)) if self.looked_up(part) => {
                let map = Arc::clone(&self.file.map);
                let rows_of = Rows { map, entry: entry.clone(), width: row_bytes, count: AtomicUsize::new(0) };
                return Weight::new(rows, cols, Storage::InFile(Arc::new(rows_of)));
            }
            (None, kind, Some(form)) => {
                let values = Quantised::build(rows, cols, form, |row, out| {
                    kind.split(stored(row), out);
                    if row % STRIP == STRIP - 1 {
                        let start = entry.start + (row + 1 - STRIP) * row_bytes;
                        let_go(&self.file.map, start..start + STRIP * row_bytes);
                    }
                });
                let values = values.map_err(|e| e.within(self.place(&name)))?;
                let_go(&self.file.map, entry.span());
                return Weight::new(rows, cols, Storage::Quantised(Arc::new(values)));
            }
            (Some(dtype), ..) | (None, Type::Plain(dtype), _) => dtype,
            (None, _, None) => Dtype::F32,
        };
        let aligned = (self.file.map.as_ptr() as usize + entry.start).is_multiple_of(want.size());
        if entry.kind == Type::Plain(want) && !permuted && aligned && cfg!(target_endian = "little") {
            let storage = Storage::Mapped { file: Arc::clone(&self.file.map), offset: entry.start, dtype: want };
            return Weight::new(rows, cols, storage).map_err(|e| e.within(self.place(&name)));
        }
        let storage = convert::build(rows, cols, want, |row, out| entry.kind.dequantise(stored(row), out));
        let_go(&self.file.map, entry.span());
        Weight::new(rows, cols, storage.map_err(|e| e.within(self.place(&name)))?)
    }

    fn vector(&self, part: Part, len: usize) -> Result<Vec<f32>> {
        values(self.file, &part.gguf(), len, self.dtype.unwrap_or(Dtype::F32))
    }

    fn norms_from_one(&self) -> bool {
        false
    }

    fn ignorable(&self, name: &str) -> bool {
        name == ROPE_TABLE
    }

    fn place(&self) -> String {
        self.file.path.display().to_string()
    }
}

/// What scores are divided by the square root of. GGUF files do not say: it is the head width but
/// for Gemma's 27B models, which llama.cpp knows by their number of layers.
fn query_scalar(family: &Family, layers: usize, hidden: usize, heads: usize) -> Option<f64> {
    let largest = [(Family::GEMMA2, 46), (Family::GEMMA3, 62)].contains(&(family, layers));
    largest.then(|| hidden as f64 / heads as f64)
}

/// The configuration, from the metadata and the shapes.
fn config(file: &File) -> Result<Config> {
    let meta = &file.metadata;
    let architecture =
        meta.text("general.architecture")?.ok_or_else(|| meta.bad("general.architecture", "is missing"))?;
    let key = |name: &str| format!("{architecture}.{name}");
    let window = meta.count(&key("attention.sliding_window"))?.filter(|&n| n > 0);
    let family = Family::of_gguf(architecture, window.is_some()).ok_or_else(|| {
        meta.bad("general.architecture", format!("{architecture} is not supported"))
            .next(format!("use a model of architecture {}", Family::list(|f| f.gguf)))
    })?;
    let refused = |name: &str, what: &str| meta.bad(&key(name), what).next("use a model without it");
    // Everything that would change the arithmetic and is not implemented.
    for name in ["logit_scale", "embedding_scale", "residual_scale", "attention.scale", "rope.scale_linear"] {
        if meta.number(&key(name))?.is_some_and(|x| x != 1.0) {
            return Err(refused(name, "is not supported"));
        }
    }
    if meta.count(&key("expert_count"))?.is_some_and(|n| n > 0) {
        return Err(refused("expert_count", "is not supported"));
    }
    if window.is_some() && family.windows == Windows::Never {
        return Err(refused("attention.sliding_window", "is not supported"));
    }
    if meta.flag(&key("attention.causal"))? == Some(false) {
        return Err(refused("attention.causal", "only causal attention is supported"));
    }
    if let Some(kind) = meta.text(&key("rope.scaling.type"))?.filter(|&kind| kind != "none") {
        return Err(refused("rope.scaling.type", &format!("rope scaling of type {kind} is not supported")));
    }
    let hidden = meta.need(&key("embedding_length"))?;
    let heads = meta.need(&key("attention.head_count"))?;
    let head_dim = match meta.count(&key("attention.key_length"))? {
        Some(width) => width,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(meta.bad(&key("attention.head_count"), format!("{heads} heads do not divide {hidden}"))),
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = meta.count(&key(name))?.filter(|&width| width != head_dim) {
            return Err(refused(
                name,
                &format!("{other} differs from the head width {head_dim}, which is not supported"),
            ));
        }
    }
    let layers = meta.need(&key("block_count"))?;
    let cap = |name: &str, default: Option<f64>| -> Result<Option<f64>> {
        let named = meta.number(&key(name))?.filter(|_| family.scales);
        Ok(named.or(default).filter(|&cap| cap != 0.0))
    };
    let embed = Part::Embed.gguf();
    let vocab = match file.tensors.get(&embed).map(|e| e.dims.as_slice()) {
        Some([_, rows]) => *rows,
        Some([_]) => 1,
        Some(dims) => {
            return Err(Error::input(
                format!("{}: tensor {embed}", file.path.display()),
                format!("the shape is {dims:?}"),
            )
            .next("the file is damaged"));
        }
        None => {
            return Err(Error::input(format!("{}: tensor {embed}", file.path.display()), "is missing")
                .next("download the file again"));
        }
    };
    let mut config = Config {
        family,
        vocab,
        hidden,
        intermediate: meta.need(&key("feed_forward_length"))?,
        layers,
        heads,
        kv_heads: meta.count(&key("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        norm_eps: meta
            .number(&key("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| meta.bad(&key("attention.layer_norm_rms_epsilon"), "is missing"))?,
        rope_theta: meta.number(&key("rope.freq_base"))?.unwrap_or(family.defaults.rope_theta),
        rope_scaling: None,
        window,
        full_every: match (window, family.windows) {
            (Some(_), Windows::AllButEvery(every)) => {
                Some(meta.count(&key("attention.sliding_window_pattern"))?.unwrap_or(every))
            }
            _ => None,
        },
        local_rope_theta: match (window, family.defaults.local_rope_theta) {
            (Some(_), Some(default)) => Some(meta.number(&key("rope.freq_base_swa"))?.unwrap_or(default)),
            _ => None,
        },
        query_scalar: query_scalar(family, layers, hidden, heads).filter(|&scalar| scalar != head_dim as f64),
        score_cap: cap("attn_logit_softcapping", family.defaults.score_cap)?,
        logit_cap: cap("final_logit_softcapping", family.defaults.logit_cap)?,
        context: meta.need(&key("context_length"))?,
        tied: !file.tensors.contains_key(&Part::Head.gguf()),
        bos: None,
        eos: tokenizer::end_tokens(meta)?,
    };
    check(&config, &file.path.display().to_string())?;
    if file.tensors.contains_key(ROPE_TABLE) {
        let table = values(file, ROPE_TABLE, head_dim / 2, Dtype::F32)?;
        let original = meta.count(&key("rope.scaling.original_context_length"))?;
        config.rope_scaling = rope::recognise(&config, &table, original).map_err(|what| {
            Error::input(format!("{}: tensor {ROPE_TABLE}", file.path.display()), what)
                .next("use the model's Hugging Face folder, whose config.json names the rope scaling")
        })?;
    }
    Ok(config)
}

fn open(path: &Path) -> Result<(Described, File)> {
    let file = File::open(path)?;
    let config = config(&file)?;
    let mut info = ModelInfo::new(path, Format::Gguf, &[path.to_owned()])?;
    for entry in file.tensors.values() {
        *info.stored.entry(entry.kind.name().to_owned()).or_default() += entry.dims.iter().product::<usize>() as u64;
    }
    let made = tokenizer::build(&file.metadata, &mut info.notes)?;
    let chat = match file.metadata.text("tokenizer.chat_template")? {
        Some(source) => ChatTemplate::of_file(path, source, &made)?,
        None => ChatTemplate::chatml(&made).map_err(|e| e.within(path.display()))?,
    };
    Ok((Described::new(config, made, chat, info)?, file))
}

/// Reads everything but the weights.
pub(crate) fn describe(path: &Path) -> Result<Described> {
    open(path).map(|(described, _)| described)
}

/// Loads a GGUF file.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    let (described, file) = open(path)?;
    let model = Model { file: &file, config: &described.config, dtype: options.dtype };
    let embeddings = file.tensors.get(&Part::Embed.gguf()).filter(|e| e.kind.form().is_some());
    let stays = embeddings.filter(|_| model.looked_up(Part::Embed)).map_or(0, |e| e.len as u64);
    ask_for_memory(&described.source, options, stays)?;
    let weights = assemble(&described.config, &model)?;
    Ok(described.with(weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The converter's permutation of a head: (2, half) becomes (half, 2).
    #[test]
    fn unpermuting_undoes_the_converter() {
        let (heads, head_dim) = (3, 8);
        let half = head_dim / 2;
        let mut stored = vec![0; heads * head_dim];
        for head in 0..heads {
            for pair in 0..2 {
                for j in 0..half {
                    stored[head * head_dim + j * 2 + pair] = head * head_dim + pair * half + j;
                }
            }
        }
        for row in 0..heads * head_dim {
            assert_eq!(stored[interleaved(row, head_dim)], row);
        }
    }
}
