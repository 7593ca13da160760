//! `embed`: item texts to vectors, pooled over their real tokens, each distinct text read once.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::data::Ground;
use super::describe::Described;
use super::language::{self, Language};
use super::scorer::{PASS, Scorer};
use crate::config::{Embed, Pooling, Recipe};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::generate;
use crate::generate::embed::Plan;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::matrices;
use crate::pipeline::run::{Run, Work};
use crate::tensor::Matrix;
use crate::text::item_text::{Genres, TextSource, texts};

/// Text embeddings.
pub struct Embedded {
    /// Items x width (hidden size, or twice that for `both`).
    pub text: Matrix,
    /// The artifact.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn embed(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    described: &Described,
    language: &mut super::Lazy<'_>,
) -> Result<Embedded> {
    let key = KeyBuilder::new(StageId::Embed.name(), 1)
        .input("data", &ground.artifact.key)
        .input("describe", &described.artifact.key)
        .settings("embed", &recipe.embed)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?.finish();
    let artifact =
        run.stage(StageId::Embed, &key, |work| work_out(work, recipe, device, ground, described, language.get()?))?;
    Ok(Embedded { text: matrices::read(&artifact.file("text.safetensors"), "text")?, artifact })
}

fn work_out(
    work: &Work<'_>,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    described: &Described,
    language: &Language,
) -> Result<()> {
    let all = texts(&ground.dataset, &described.descriptions, recipe.embed.source, Genres::First);
    let parts = all.first().map_or(1, Vec::len);
    let hidden = language.model.config().hidden;
    let tokens = token_ids(&recipe.embed, &all, language)?;
    let plan = Plan::new(&tokens);
    let path = work.folder.join("distinct.f32");
    let mut rows = read_rows(&path, hidden)?;
    rows.truncate(plan.distinct.len());
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|f| f.set_len((rows.len() * hidden * 4) as u64).map(|()| f))
        .map_err(|e| Error::io(&path, "open for appending", &e))?;
    let cost = |texts: &[&[u32]]| texts.iter().map(|text| plan.cost(text)).sum::<usize>() as u64;
    let (total, mut done) = (cost(&plan.distinct), cost(&plan.distinct[..rows.len()]));
    work.monitor.progress(done, total, "tokens");
    let pooling = match recipe.embed.pooling {
        Pooling::Mean => generate::Pooling::Mean,
        Pooling::Last => generate::Pooling::Last,
    };
    let model = Scorer::new(device, &language.model)?;
    while rows.len() < plan.distinct.len() {
        work.monitor.check()?;
        let left = &plan.distinct[rows.len()..];
        let mut size = 0;
        let fits = |text: &&&[u32]| {
            size += plan.cost(text);
            size <= PASS
        };
        // A text longer than a pass is one by itself.
        let batch = &left[..left.iter().take_while(fits).count().max(1)];
        let pooled = model.embed(plan.head, batch, pooling)?;
        for row in 0..batch.len() {
            let row = pooled.row(row).to_vec();
            file.write_all(bytemuck::cast_slice(&row)).map_err(|e| Error::io(&path, "append a row", &e))?;
            rows.push(row);
        }
        done += cost(batch);
        work.monitor.progress(done, total, "tokens");
    }
    let mut text = Matrix::zeros(all.len(), hidden * parts);
    for (i, &place) in plan.place.iter().enumerate() {
        let (item, part) = (i / parts, i % parts);
        text.row_mut(item)[part * hidden..(part + 1) * hidden].copy_from_slice(&rows[place]);
    }
    matrices::write(&work.folder.join("text.safetensors"), &[("text", &text)])?;
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove the working file", &e))
}

/// Tokens of every text, those of an item next to each other, cut to their limits.
fn token_ids(settings: &Embed, items: &[Vec<String>], language: &Language) -> Result<Vec<Vec<u32>>> {
    let limit = settings.max_tokens.min(language.model.config().context).max(1);
    let shorter = if settings.description_tokens == 0 { limit } else { limit.min(settings.description_tokens) };
    let mut tokens = Vec::with_capacity(items.iter().map(Vec::len).sum());
    for texts in items {
        for (part, text) in texts.iter().enumerate() {
            // Descriptions stand last; templated texts alone have no description behind them.
            let described = settings.source != TextSource::Plain && part + 1 == texts.len();
            let mut ids = language.tokenizer.encode(text, true)?;
            ids.truncate(if described { shorter } else { limit });
            tokens.push(ids);
        }
    }
    Ok(tokens)
}

/// Whole rows of an earlier try.
fn read_rows(path: &Path, width: usize) -> Result<Vec<Vec<f32>>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read the file", &e))?;
    Ok(bytes.chunks_exact(width * 4).map(bytemuck::pod_collect_to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_and_other_texts_have_limits_of_their_own_in_tokens() {
        let language = Language::load(crate::store::builtin::NAME, &Recipe::default()).unwrap();
        let text = "a long and winding story of a town by the sea and of all who lived there".to_owned();
        let whole = language.tokenizer.encode(&text, true).unwrap();
        assert!(whole.len() > 12, "{}", whole.len());
        let lengths = |source, max_tokens, description_tokens| {
            let settings = Embed { source, max_tokens, description_tokens, ..Embed::default() };
            let parts = if source == TextSource::Both { 2 } else { 1 };
            let items = vec![vec![text.clone(); parts]; 2];
            let found = token_ids(&settings, &items, &language).unwrap();
            assert!(found.iter().all(|ids| whole.starts_with(ids)), "the beginning is kept");
            assert_eq!(found[..parts], found[parts..]);
            found[..parts].iter().map(Vec::len).collect::<Vec<_>>()
        };
        let all = whole.len();
        assert_eq!(lengths(TextSource::Both, 512, 0), [all, all]);
        assert_eq!(lengths(TextSource::Both, 512, 5), [all, 5]);
        assert_eq!(lengths(TextSource::Both, 7, 5), [7, 5]);
        assert_eq!(lengths(TextSource::Both, 5, 7), [5, 5]);
        assert_eq!(lengths(TextSource::Description, 512, 5), [5]);
        assert_eq!(lengths(TextSource::Plain, 512, 5), [all]);
    }
}
