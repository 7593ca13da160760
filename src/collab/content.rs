//! What the words of items tell, for items of which few ratings are known.
//!
//! - A prior of an item's ratings: a ridge regression of the items' mean ratings on vectors of
//!   their texts.
//! - An estimate for one user: the user's ratings of items with like texts.
//!
//! The prior is cross-fitted by item: what is expected of an item comes from the ratings of items
//! of the other folds alone. So an item with many ratings has a prior as good as that of an item
//! without any, and what is learnt from the ones holds for the others.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::similar::weighed;
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
    /// Both, side by side.
    Both,
}

/// Vectors of the items' texts, each of length 1 or 0.
pub enum TextVectors {
    /// Weighed words.
    Words(Words),
    /// Rows of an embedding.
    Rows(Embedded),
    /// Both: in the regression side by side, in similarities apart.
    Both(Words, Embedded),
}

/// An embedding by its principal components, each row brought to length 1.
pub struct Embedded {
    /// As they are: what the regression reads.
    components: Matrix,
    /// Each brought to variance 1: what similarities are of. A language model's embeddings have a
    /// few directions in which all texts vary most, and which say little of what a text is about.
    whitened: Matrix,
}

/// Dimensions that embeddings are reduced to.
const DIMENSIONS: usize = 256;
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

impl Embedded {
    fn of(text: &Matrix) -> Result<Self> {
        let dims = DIMENSIONS.min(text.cols()).min(text.rows().saturating_sub(1).max(1));
        let components = Pca::fit(text, dims)?.apply(text)?;
        let mut spread = vec![0.0f64; components.cols()];
        for i in 0..components.rows() {
            components.row(i).iter().zip(&mut spread).for_each(|(x, s)| *s += f64::from(*x).powi(2));
        }
        // Components without variance are rounding errors.
        let least = spread.iter().copied().fold(0.0, f64::max) * 1e-10;
        let scale: Vec<f64> = spread.iter().map(|s| if *s > least { s.sqrt().recip() } else { 0.0 }).collect();
        let ones = vec![1.0; scale.len()];
        Ok(Self { whitened: unit_rows(&components, &scale), components: unit_rows(&components, &ones) })
    }
}

/// The rows with their columns scaled, brought to length 1.
fn unit_rows(rows: &Matrix, scale: &[f64]) -> Matrix {
    let mut out = Matrix::zeros(rows.rows(), rows.cols());
    for i in 0..rows.rows() {
        let scaled: Vec<f64> = rows.row(i).iter().zip(scale).map(|(x, s)| f64::from(*x) * s).collect();
        let length = scaled.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            out.row_mut(i).iter_mut().zip(scaled).for_each(|(to, x)| *to = (x / length) as f32);
        }
    }
    out
}

impl TextVectors {
    /// Of an embedding (items x d): by its principal components.
    ///
    /// # Errors
    /// Values that are not finite.
    pub fn of_embedding(text: &Matrix) -> Result<Self> {
        Embedded::of(text).map(Self::Rows)
    }

    /// Of words beside an embedding of the same items.
    ///
    /// # Errors
    /// Values that are not finite, another number of items.
    pub fn of_both(words: Words, text: &Matrix) -> Result<Self> {
        if words.len() != text.rows() {
            let what = format!("{} embeddings beside the words of {} items", text.rows(), words.len());
            return Err(Error::failed("content prior", what));
        }
        Ok(Self::Both(words, Embedded::of(text)?))
    }

    /// Items.
    pub fn items(&self) -> usize {
        match self {
            Self::Words(words) | Self::Both(words, _) => words.len(),
            Self::Rows(rows) => rows.components.rows(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Words(words) => words.vocabulary(),
            Self::Rows(rows) => rows.components.cols(),
            Self::Both(words, rows) => words.vocabulary() + rows.components.cols(),
        }
    }

    fn dot(&self, item: usize, by: &[f64]) -> f64 {
        let (words, rows) = self.blocks();
        let (of_words, of_rows) = by.split_at(words.map_or(0, Words::vocabulary));
        let sparse = words.map_or(0.0, |words| {
            words.of_item(item).iter().map(|(word, x)| f64::from(*x) * of_words[*word as usize]).sum()
        });
        sparse
            + rows
                .map_or(0.0, |rows| rows.components.row(item).iter().zip(of_rows).map(|(x, b)| f64::from(*x) * b).sum())
    }

    /// `to += factor * vector of item`.
    fn add(&self, item: usize, factor: f64, to: &mut [f64]) {
        let (words, rows) = self.blocks();
        let (to_words, to_rows) = to.split_at_mut(words.map_or(0, Words::vocabulary));
        if let Some(words) = words {
            words.of_item(item).iter().for_each(|(word, x)| to_words[*word as usize] += factor * f64::from(*x));
        }
        if let Some(rows) = rows {
            rows.components.row(item).iter().zip(to_rows).for_each(|(x, t)| *t += factor * f64::from(*x));
        }
    }

    fn blocks(&self) -> (Option<&Words>, Option<&Embedded>) {
        match self {
            Self::Words(words) => (Some(words), None),
            Self::Rows(rows) => (None, Some(rows)),
            Self::Both(words, rows) => (Some(words), Some(rows)),
        }
    }

    /// What a user's ratings of items with like texts say of a target: the mean of the residuals of
    /// the most alike, weighed by the cosine and held near zero; in the rating's scale. By words
    /// and by embedding; 0 by what is not there. `residuals`: (item, rating less what was
    /// expected), without the target's own.
    pub fn near(&self, target: usize, residuals: &[(usize, f64)]) -> [f64; 2] {
        if target >= self.items() {
            return [0.0; 2];
        }
        let (words, rows) = self.blocks();
        let of =
            |alike: &dyn Fn(usize) -> f64| weighed(residuals.iter().map(|&(item, rest)| (alike(item), rest)).collect());
        let dense = |rows: &Matrix, item: usize| -> f64 {
            rows.row(target).iter().zip(rows.row(item)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        [
            words.map_or(0.0, |words| of(&|item| words.cosine(target, item))),
            rows.map_or(0.0, |rows| of(&|item| dense(&rows.whitened, item))),
        ]
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
        let vectors = TextVectors::Rows(Embedded { components: rows.clone(), whitened: rows });
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
        for rows in [&rows.components, &rows.whitened] {
            for i in 0..20 {
                let length: f32 = rows.row(i).iter().map(|x| x * x).sum();
                assert!((length - 1.0).abs() <= 1e-4, "{length}");
            }
        }
        assert!(vectors.prior(&[Rated::default(); 3], ALL, 1.0, 1).is_err());
        assert!(TextVectors::of_both(world(3).0, &text).is_err());
    }

    #[test]
    fn words_and_embedding_side_by_side_solve_one_regression_and_are_near_apart() {
        let (words, _) = world(30);
        let mut rng = Rng::new(8, Use::Synthetic, 0, 0);
        let text = Matrix::from_vec(30, 4, (0..120).map(|_| rng.normal()).collect()).unwrap();
        let rated = [(4, 1.0), (7, -0.5), (9, 2.0)];
        let one = TextVectors::of_embedding(&text).unwrap().near(2, &rated);
        let other = TextVectors::Words(world(30).0).near(2, &rated);
        let both = TextVectors::of_both(words, &text).unwrap();
        assert_eq!((both.near(2, &rated), one[0], other[1]), ([other[0], one[1]], 0.0, 0.0));
        assert!(other[0] > 0.0 && one[1] != 0.0);
        let of: Vec<(usize, f64, f64)> = (0..30).map(|i| (i, 1.0, f64::from(rng.normal()))).collect();
        let b = both.ridge(&of, 0.5);
        let mut left: Vec<f64> = b.iter().map(|x| 0.5 * x).collect();
        of.iter().for_each(|&(item, w, y)| both.add(item, w * (both.dot(item, &b) - y), &mut left));
        assert!(left.len() == both.width() && left.iter().all(|x| x.abs() <= 1e-3), "{left:?}");
    }

    #[test]
    fn ratings_of_items_with_like_texts_speak_and_an_unknown_target_hears_nothing() {
        let vectors = TextVectors::Words(world(6).0);
        let rated = [(2, 1.0), (3, -1.0)];
        assert!(vectors.near(0, &rated)[0] > 0.0 && vectors.near(1, &rated)[0] < 0.0);
        assert_eq!((vectors.near(0, &[]), vectors.near(9, &rated)), ([0.0; 2], [0.0; 2]));
    }
}
