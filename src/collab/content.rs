//! A prior of an item's ratings out of its words, for items of which few ratings are known: a ridge
//! regression of the items' mean ratings on vectors of their texts.
//!
//! It is cross-fitted by item: what is expected of an item comes from the ratings of items of the
//! other folds alone. So an item with many ratings has a prior as good as that of an item without
//! any, and what is learnt from the ones holds for the others.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::retrieval::Words;
use crate::retrieval::pca::Pca;
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;
use crate::text::ratings::RatingSummary;

/// Where the vectors of a content prior come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// No prior: little-known items are held at the mean of all.
    #[default]
    None,
    /// TF-IDF of title, genres and description.
    Tfidf,
    /// The language model's embeddings of the texts (`[embed]`).
    Embedding,
}

/// Vectors of the items' texts, each of length 1 or 0.
pub enum TextVectors {
    /// Weighed words.
    Words(Words),
    /// Rows of an embedding, brought to mean 0 and unit length.
    Rows(Matrix),
}

/// Dimensions that embeddings are reduced to.
const DIMENSIONS: usize = 128;
/// Folds of items.
const FOLDS: u32 = 5;
/// Steps of the conjugate gradient; each is a pass over the vectors.
const STEPS: usize = 60;
/// The residual, as a share of the first, at which it ends.
const CLOSE: f64 = 1e-5;
/// Ratings behind which an item's mean counts half.
const HALF: f64 = 20.0;

/// Ratings of an item.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rated {
    /// Number.
    pub count: f64,
    /// Share of likes.
    pub liked: f64,
    /// Mean.
    pub stars: f64,
}

impl TextVectors {
    /// Of an embedding (items x d): by its principal components.
    ///
    /// # Errors
    /// Values that are not finite.
    pub fn of_embedding(text: &Matrix) -> Result<Self> {
        let dims = DIMENSIONS.min(text.cols()).min(text.rows().saturating_sub(1).max(1));
        let mut rows = Pca::fit(text, dims)?.apply(text)?;
        for i in 0..rows.rows() {
            let length = rows.row(i).iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 {
                rows.row_mut(i).iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        }
        Ok(Self::Rows(rows))
    }

    /// Items.
    pub fn items(&self) -> usize {
        match self {
            Self::Words(words) => words.len(),
            Self::Rows(rows) => rows.rows(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Words(words) => words.vocabulary(),
            Self::Rows(rows) => rows.cols(),
        }
    }

    fn dot(&self, item: usize, by: &[f64]) -> f64 {
        match self {
            Self::Words(words) => words.of_item(item).iter().map(|(word, x)| f64::from(*x) * by[*word as usize]).sum(),
            Self::Rows(rows) => rows.row(item).iter().zip(by).map(|(x, b)| f64::from(*x) * b).sum(),
        }
    }

    /// `to += factor * vector of item`.
    fn add(&self, item: usize, factor: f64, to: &mut [f64]) {
        match self {
            Self::Words(words) => {
                words.of_item(item).iter().for_each(|(word, x)| to[*word as usize] += factor * f64::from(*x));
            }
            Self::Rows(rows) => rows.row(item).iter().zip(to).for_each(|(x, t)| *t += factor * f64::from(*x)),
        }
    }

    /// `argmin sum of w (y - x . b)^2 + ridge |b|^2` over (item, w, y), by conjugate gradients.
    fn ridge(&self, of: &[(usize, f64, f64)], ridge: f64) -> Vec<f64> {
        let width = self.width();
        let mut b = vec![0.0; width];
        let mut rest = vec![0.0; width];
        of.iter().for_each(|&(item, w, y)| self.add(item, w * y, &mut rest));
        let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
        let mut direction = rest.clone();
        let mut now = square(&rest);
        let end = now * CLOSE * CLOSE;
        for _ in 0..STEPS {
            if now <= end || now == 0.0 {
                break;
            }
            let mut image: Vec<f64> = direction.iter().map(|x| ridge * x).collect();
            of.iter().for_each(|&(item, w, _)| self.add(item, w * self.dot(item, &direction), &mut image));
            let step = now / direction.iter().zip(&image).map(|(a, b)| a * b).sum::<f64>();
            b.iter_mut().zip(&direction).for_each(|(b, d)| *b += step * d);
            rest.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
            let next = square(&rest);
            direction.iter_mut().zip(&rest).for_each(|(d, r)| *d = r + next / now * *d);
            now = next;
        }
        b
    }

    /// What is expected of every item, from the ratings of items of the other folds. `rated`: one
    /// an item; `global`: of all ratings.
    ///
    /// # Errors
    /// Another number of items.
    pub fn prior(&self, rated: &[Rated], global: RatingSummary, ridge: f64, seed: u64) -> Result<Vec<RatingSummary>> {
        if rated.len() != self.items() {
            let what = format!("{} texts for {} items", self.items(), rated.len());
            return Err(Error::failed("content prior", what));
        }
        let fold = |item: usize| Rng::new(seed, Use::Rows, item as u32, 0x6974_656d).below(FOLDS);
        let folds: Vec<u32> = (0..rated.len()).map(fold).collect();
        let of_fold = |own: u32| {
            let known = |value: &dyn Fn(&Rated) -> f64| -> Vec<(usize, f64, f64)> {
                let others = rated.iter().enumerate().filter(|(item, r)| folds[*item] != own && r.count > 0.0);
                others.map(|(item, r)| (item, r.count / (r.count + HALF), value(r))).collect()
            };
            let liked = self.ridge(&known(&|r| r.liked - global.liked), ridge);
            let stars = self.ridge(&known(&|r| r.stars - global.stars), ridge);
            let of = |item: usize| RatingSummary {
                // Held off 0 and 1, where log odds end.
                liked: (global.liked + self.dot(item, &liked)).clamp(0.01, 0.99),
                stars: global.stars + self.dot(item, &stars),
                count: 0,
            };
            (0..rated.len()).filter(|item| folds[*item] == own).map(|item| (item, of(item))).collect::<Vec<_>>()
        };
        let found: Vec<_> = (0..FOLDS).into_par_iter().map(of_fold).collect();
        let mut out = vec![global; rated.len()];
        found.into_iter().flatten().for_each(|(item, prior)| out[item] = prior);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Good items have one word, bad ones another; each has a word of its own.
    fn world(n: usize) -> (Words, Vec<Rated>) {
        let texts: Vec<String> =
            (0..n).map(|i| format!("{} w{i}", if i.is_multiple_of(2) { "splendid" } else { "dreadful" })).collect();
        let rated = (0..n).map(|i| {
            let good = if i.is_multiple_of(2) { 1.0 } else { 0.0 };
            Rated { count: 50.0, liked: 0.2 + 0.6 * good, stars: 2.0 + 2.0 * good }
        });
        (Words::of(texts.iter().map(String::as_str)), rated.collect())
    }

    const ALL: RatingSummary = RatingSummary { liked: 0.5, stars: 3.0, count: 100 };

    #[test]
    fn words_that_good_items_have_speak_for_an_item_without_ratings() {
        let (words, mut rated) = world(60);
        rated[0] = Rated::default();
        rated[1] = Rated::default();
        let vectors = TextVectors::Words(words);
        let prior = vectors.prior(&rated, ALL, 0.1, 1).unwrap();
        assert!(prior[0].liked > 0.6 && prior[0].stars > 3.3, "{:?}", prior[0]);
        assert!(prior[1].liked < 0.4 && prior[1].stars < 2.7, "{:?}", prior[1]);
        // A heavy ridge holds all at the mean.
        let held = vectors.prior(&rated, ALL, 1e9, 1).unwrap();
        assert!(held.iter().all(|p| (p.liked - 0.5).abs() <= 1e-6 && (p.stars - 3.0).abs() <= 1e-6));
    }

    #[test]
    fn an_items_own_ratings_have_no_part_in_its_prior() {
        let (words, rated) = world(40);
        let vectors = TextVectors::Words(words);
        let before = vectors.prior(&rated, ALL, 1.0, 3).unwrap();
        for item in [0, 7, 39] {
            let mut other = rated.clone();
            other[item] = Rated { count: 9.0, liked: 0.9, stars: 5.0 };
            let after = vectors.prior(&other, ALL, 1.0, 3).unwrap();
            assert_eq!(before[item], after[item]);
            assert_ne!(before, after, "those of other folds move");
        }
    }

    #[test]
    fn the_regression_solves_its_normal_equations() {
        let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
        let rows = Matrix::from_vec(30, 6, (0..180).map(|_| rng.normal()).collect()).unwrap();
        let of: Vec<(usize, f64, f64)> =
            (0..30).map(|i| (i, 0.1 + f64::from(rng.uniform()), f64::from(rng.normal()))).collect();
        let vectors = TextVectors::Rows(rows);
        let b = vectors.ridge(&of, 0.7);
        let mut left: Vec<f64> = b.iter().map(|x| 0.7 * x).collect();
        for &(item, w, y) in &of {
            vectors.add(item, w * (vectors.dot(item, &b) - y), &mut left);
        }
        assert!(left.iter().all(|x| x.abs() <= 1e-3), "{left:?}");
    }

    #[test]
    fn embeddings_are_brought_to_unit_length_and_other_numbers_of_items_are_refused() {
        let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
        let text = Matrix::from_vec(20, 8, (0..160).map(|_| 5.0 + rng.normal()).collect()).unwrap();
        let vectors = TextVectors::of_embedding(&text).unwrap();
        let TextVectors::Rows(rows) = &vectors else { panic!("rows") };
        for i in 0..20 {
            let length: f32 = rows.row(i).iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() <= 1e-4, "{length}");
        }
        assert!(vectors.prior(&[Rated::default(); 3], ALL, 1.0, 1).is_err());
    }
}
