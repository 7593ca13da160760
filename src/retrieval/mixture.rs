//! The mixed embedding: blocks brought to one scale and put side by side.

use serde::{Deserialize, Serialize};

use super::pca::Pca;
use super::settings::RetrievalSettings;
use crate::data::ItemIdx;
use crate::error::{Error, Result};
use crate::ops::infonce::Similarity;
use crate::ops::topk::dot;
use crate::tensor::Matrix;

/// Embedding types, by the names that the method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Embedding {
    /// Plain text.
    Txt,
    /// Description.
    Text,
    /// LightGCN.
    Colla,
    /// Text and LightGCN.
    Mix,
    /// As `mix`, but the softmaxes of the two similarities are averaged.
    Mix2,
    /// Text, LightGCN and SSL.
    #[default]
    Mix3,
    /// Half of the list by text, half by LightGCN.
    Hybrid,
}

/// How a block is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Divided by the block's largest row norm: norms inside a block keep their proportions.
    #[default]
    MaxRowNorm,
    /// Each row divided by its own norm; zero rows stay.
    UnitRows,
}

/// The item embeddings at hand, one row an item.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// Of the plain text.
    pub plain: Option<&'a Matrix>,
    /// Of the description, or of title and description.
    pub text: Option<&'a Matrix>,
    /// LightGCN.
    pub colla: Option<&'a Matrix>,
    /// Aligned text.
    pub ssl: Option<&'a Matrix>,
}

/// Which source a block came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Plain text or description.
    Text,
    /// LightGCN.
    Colla,
    /// Aligned text.
    Ssl,
}

#[derive(Debug, Clone, PartialEq)]
struct Block {
    part: Part,
    rows: Matrix,
    squares: Vec<f32>,
}

/// Scaled blocks. The concatenation is never written out: inner products and squared norms add over
/// blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    embedding: Embedding,
    similarity: Similarity,
    items: usize,
    blocks: Vec<Block>,
}

impl Mixture {
    /// From the sources that `settings.embedding` needs.
    pub fn build(sources: &Sources<'_>, settings: &RetrievalSettings) -> Result<Self> {
        use Part::{Colla, Ssl, Text};
        let needed: &[(Part, &str, Option<&Matrix>)] = match settings.embedding {
            Embedding::Txt => &[(Text, "plain text", sources.plain)],
            Embedding::Text => &[(Text, "text", sources.text)],
            Embedding::Colla => &[(Colla, "collaborative", sources.colla)],
            Embedding::Mix | Embedding::Mix2 | Embedding::Hybrid => {
                &[(Text, "text", sources.text), (Colla, "collaborative", sources.colla)]
            }
            Embedding::Mix3 => {
                &[(Text, "text", sources.text), (Colla, "collaborative", sources.colla), (Ssl, "SSL", sources.ssl)]
            }
        };
        let reduce = settings.pca > 0 && (settings.embedding != Embedding::Txt || settings.pca_plain);
        let (mut blocks, mut items): (Vec<Block>, usize) = (Vec::new(), 0);
        for &(part, name, matrix) in needed {
            let matrix = matrix.ok_or_else(|| {
                Error::failed("mixture", format!("{:?} needs the {name} embedding", settings.embedding))
                    .next("run the stage that makes it, or choose another retrieval.embedding")
            })?;
            if let Some(first) = blocks.first()
                && first.rows.rows() != matrix.rows()
            {
                let what = format!("{name} has {} rows, the text embedding {}", matrix.rows(), first.rows.rows());
                return Err(Error::failed("mixture", what));
            }
            if let Some(at) = matrix.as_slice().iter().position(|v| !v.is_finite()) {
                let what = format!("{name} embedding of item {} has a value that is not finite", at / matrix.cols());
                return Err(Error::input("mixture", what).next("make the embeddings again"));
            }
            let mut rows = if part == Text && reduce && matrix.cols() > settings.pca {
                Pca::fit(matrix, settings.pca)?.apply(matrix)?
            } else {
                matrix.clone()
            };
            scale(&mut rows, settings.scale);
            items = rows.rows();
            let squares = (0..items).map(|i| dot(rows.row(i), rows.row(i))).collect();
            blocks.push(Block { part, rows, squares });
        }
        Ok(Self { embedding: settings.embedding, similarity: settings.similarity, items, blocks })
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The type it was built for.
    pub fn embedding(&self) -> Embedding {
        self.embedding
    }

    /// Similarity of two items by all blocks (`None`) or one; 0 where a vector is zero or the block
    /// is absent.
    pub fn similarity(&self, a: ItemIdx, b: ItemIdx, part: Option<Part>) -> f32 {
        let (mut product, mut square_a, mut square_b) = (0.0f32, 0.0f32, 0.0f32);
        for block in self.blocks.iter().filter(|block| part.is_none_or(|p| p == block.part)) {
            product += dot(block.rows.row(a.at()), block.rows.row(b.at()));
            square_a += block.squares[a.at()];
            square_b += block.squares[b.at()];
        }
        match self.similarity {
            Similarity::InnerProduct => product,
            Similarity::Cosine if square_a > 0.0 && square_b > 0.0 => product / (square_a.sqrt() * square_b.sqrt()),
            Similarity::Cosine => 0.0,
        }
    }

    /// Whether a block is there.
    pub fn has(&self, part: Part) -> bool {
        self.blocks.iter().any(|b| b.part == part)
    }

    /// The concatenation, items x (sum of block widths).
    pub fn concatenated(&self) -> Matrix {
        let mut out = Matrix::zeros(self.items, self.blocks.iter().map(|b| b.rows.cols()).sum());
        for i in 0..self.items {
            let mut at = 0;
            for block in &self.blocks {
                out.row_mut(i)[at..at + block.rows.cols()].copy_from_slice(block.rows.row(i));
                at += block.rows.cols();
            }
        }
        out
    }
}

fn scale(rows: &mut Matrix, how: Scale) {
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let largest = (0..rows.rows()).map(|i| norm(rows.row(i))).fold(0.0, f64::max);
    for i in 0..rows.rows() {
        let by = match how {
            Scale::MaxRowNorm => largest,
            Scale::UnitRows => norm(rows.row(i)),
        };
        if by > 0.0 {
            rows.row_mut(i).iter_mut().for_each(|v| *v = (f64::from(*v) / by) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[f32]]) -> Matrix {
        Matrix::from_vec(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    #[test]
    fn scaling_keeps_proportions_or_makes_units() {
        let mut m = matrix(&[&[3.0, 4.0], &[0.0, 1.0], &[0.0, 0.0]]);
        scale(&mut m, Scale::MaxRowNorm);
        assert_eq!(m.as_slice(), [0.6, 0.8, 0.0, 0.2, 0.0, 0.0]);
        scale(&mut m, Scale::UnitRows);
        assert_eq!(m.as_slice(), [0.6, 0.8, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn blocks_add_up_to_the_concatenation() {
        let text = matrix(&[&[1.0, 2.0, 0.5], &[2.0, -1.0, 1.0], &[0.3, 0.2, 0.1]]);
        let colla = matrix(&[&[1.0, 0.0], &[0.5, 0.5], &[0.0, 0.0]]);
        let ssl = matrix(&[&[0.1], &[-0.4], &[0.2]]);
        let sources = Sources { plain: None, text: Some(&text), colla: Some(&colla), ssl: Some(&ssl) };
        for similarity in [Similarity::Cosine, Similarity::InnerProduct] {
            let settings = RetrievalSettings { similarity, ..RetrievalSettings::default() };
            let mixture = Mixture::build(&sources, &settings).unwrap();
            let whole = mixture.concatenated();
            assert_eq!(whole.cols(), 6);
            for (a, b) in [(0, 1), (1, 2), (2, 2)] {
                let product =
                    |a: usize, b: usize| whole.row(a).iter().zip(whole.row(b)).map(|(x, y)| x * y).sum::<f32>();
                let want = match similarity {
                    Similarity::Cosine => product(a, b) / (product(a, a) * product(b, b)).sqrt(),
                    Similarity::InnerProduct => product(a, b),
                };
                let got = mixture.similarity(ItemIdx(a as u32), ItemIdx(b as u32), None);
                assert!((got - want).abs() <= 1e-6, "{a} {b}: {got} and not {want}");
            }
            assert_eq!(mixture.similarity(ItemIdx(0), ItemIdx(2), Some(Part::Colla)), 0.0);
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let text = matrix(&[&[1.0], &[f32::NAN]]);
        let short = matrix(&[&[1.0]]);
        let error = |sources: &Sources<'_>, embedding| {
            Mixture::build(sources, &RetrievalSettings { embedding, ..RetrievalSettings::default() })
                .unwrap_err()
                .to_string()
        };
        assert!(error(&Sources::default(), Embedding::Colla).contains("needs the collaborative"));
        assert!(error(&Sources { text: Some(&text), ..Default::default() }, Embedding::Text).contains("item 1"));
        let good = matrix(&[&[1.0], &[2.0]]);
        let sources = Sources { text: Some(&good), colla: Some(&short), ..Default::default() };
        assert!(error(&sources, Embedding::Mix).contains("1 rows"));
    }
}
