//! Gradient-boosted trees for a probability: second-order boosting of the log loss (Chen and
//! Guestrin, KDD 2016) over histograms of quantile bins. A baseline on a dozen features, so trees
//! of one depth and no missing values are enough. The same bits for any number of threads.

use rayon::prelude::*;

use super::logistic::{log_odds, sigmoid};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// How trees are grown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Trees.
    pub trees: usize,
    /// Splits between root and leaf.
    pub depth: u32,
    /// Share of each tree's step that is taken.
    pub rate: f64,
    /// Ridge on the leaves.
    pub ridge: f64,
    /// Least sum of `p (1 - p)` of a leaf.
    pub least: f64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { trees: 150, depth: 5, rate: 0.1, ridge: 5.0, least: 5.0 }
    }
}

/// Bins of a feature at most.
const BINS: usize = 64;

/// A split: rows with `feature <= at` go left. A leaf's nodes below are never reached.
#[derive(Debug, Clone, Copy)]
struct Node {
    feature: usize,
    at: f64,
    /// Step of a leaf; NaN of a split.
    value: f64,
}

/// Trees, each as a whole binary tree by levels.
#[derive(Debug, Clone)]
pub struct Boosted {
    base: f64,
    trees: Vec<Vec<Node>>,
}

/// Gradients and curvatures of the rows in a bin.
type Sums = [f64; 2];

fn add(a: Sums, b: Sums) -> Sums {
    [a[0] + b[0], a[1] + b[1]]
}

/// The best split of a node: gain, feature, bin.
type Split = Option<(f64, usize, usize)>;

impl Boosted {
    /// Fits to `x`, rows x `features` row-major, and `labels`.
    ///
    /// # Errors
    /// Shapes that do not agree, no or one-class rows, a feature that is not finite, a stop that
    /// was asked for.
    pub fn fit(x: &[f64], features: usize, labels: &[bool], growth: Growth, monitor: &dyn Monitor) -> Result<Self> {
        let n = labels.len();
        if features == 0 || n.checked_mul(features) != Some(x.len()) {
            return Err(Error::input("boosted trees", format!("{} values for {n} rows of {features}", x.len()))
                .next("give one row of features a label"));
        }
        if let Some(at) = x.iter().position(|v| !v.is_finite()) {
            let what = format!("feature {} is {}", at % features, x[at]);
            return Err(Error::input(format!("boosted trees, row {}", at / features), what)
                .next("find the stage that produced it"));
        }
        let yes = labels.iter().filter(|y| **y).count();
        if yes == 0 || yes == n {
            return Err(Error::input("boosted trees", format!("{yes} of {n} rows are liked"))
                .next("both classes are needed: use more rows"));
        }
        let cuts: Vec<Vec<f64>> = (0..features).map(|f| cuts(x.iter().skip(f).step_by(features))).collect();
        // Column by column, so that a histogram reads one after the other.
        let binned: Vec<Vec<u8>> = (cuts.par_iter().enumerate())
            .map(|(f, cuts)| x.iter().skip(f).step_by(features).map(|v| bin(cuts, *v)).collect())
            .collect();
        let base = log_odds(yes as f64 / n as f64);
        let mut score = vec![base; n];
        let mut trees = Vec::with_capacity(growth.trees);
        for _ in 0..growth.trees {
            monitor.check()?;
            let sums: Vec<Sums> = (score.iter().zip(labels))
                .map(|(s, y)| {
                    let p = sigmoid(*s);
                    [p - f64::from(u8::from(*y)), p * (1.0 - p)]
                })
                .collect();
            trees.push(tree(&binned, &cuts, &sums, growth, &mut score));
        }
        Ok(Self { base, trees })
    }

    /// Probability of one row of features.
    pub fn predict(&self, x: &[f64]) -> f64 {
        let step = |tree: &Vec<Node>| {
            let mut at = 0;
            while tree[at].value.is_nan() {
                at = 2 * at + 1 + usize::from(x[tree[at].feature] > tree[at].at);
            }
            tree[at].value
        };
        sigmoid(self.base + self.trees.iter().map(step).sum::<f64>())
    }

    /// Bytes that the trees hold.
    pub fn bytes(&self) -> usize {
        self.trees.iter().map(|tree| size_of_val(tree.as_slice())).sum()
    }
}

/// Upper bounds of all bins but the last: quantiles, each once.
fn cuts<'a>(values: impl Iterator<Item = &'a f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut cuts: Vec<f64> = (1..BINS).map(|b| sorted[(b * sorted.len() / BINS).min(sorted.len() - 1)]).collect();
    cuts.dedup();
    cuts
}

/// The first bin whose bound is not below the value.
fn bin(cuts: &[f64], value: f64) -> u8 {
    cuts.partition_point(|cut| *cut < value) as u8
}

/// Grows one tree and adds its steps to the scores.
fn tree(binned: &[Vec<u8>], cuts: &[Vec<f64>], sums: &[Sums], growth: Growth, score: &mut [f64]) -> Vec<Node> {
    let leaf = Node { feature: 0, at: 0.0, value: 0.0 };
    let mut nodes = vec![leaf; (2usize << growth.depth) - 1];
    let mut of_row = vec![0u32; score.len()];
    let mut totals = vec![sums.iter().copied().fold([0.0; 2], add)];
    for level in 0..=growth.depth {
        let (first, width) = ((1usize << level) - 1, 1usize << level);
        let splits =
            if level < growth.depth { best(binned, sums, &of_row, first, &totals, growth) } else { vec![None; width] };
        for (k, split) in splits.iter().enumerate() {
            nodes[first + k] = match split {
                Some((_, feature, bin)) => Node { feature: *feature, at: cuts[*feature][*bin], value: f64::NAN },
                None => Node { value: -growth.rate * totals[k][0] / (totals[k][1] + growth.ridge), ..leaf },
            };
        }
        if splits.iter().all(Option::is_none) {
            break;
        }
        totals = vec![[0.0; 2]; 2 * width];
        for (row, at) in of_row.iter_mut().enumerate() {
            let Some(k) = (*at as usize).checked_sub(first) else { continue };
            let Some((_, feature, bin)) = splits[k] else { continue };
            *at = 2 * *at + 1 + u32::from(usize::from(binned[feature][row]) > bin);
            let to = &mut totals[*at as usize - 2 * first - 1];
            *to = add(*to, sums[row]);
        }
    }
    for (score, at) in score.iter_mut().zip(&of_row) {
        *score += nodes[*at as usize].value;
    }
    nodes
}

/// The best split of every node of a level; features are looked at in parallel, and the first of
/// equals is taken.
fn best(
    binned: &[Vec<u8>],
    sums: &[Sums],
    of_row: &[u32],
    first: usize,
    totals: &[Sums],
    growth: Growth,
) -> Vec<Split> {
    let worth = |s: Sums| s[0] * s[0] / (s[1] + growth.ridge);
    let of_feature = |(feature, bins): (usize, &Vec<u8>)| -> Vec<Split> {
        let mut histogram = vec![[0.0; 2]; totals.len() * BINS];
        for ((at, bin), own) in of_row.iter().zip(bins).zip(sums) {
            // Rows of leaves above stay behind.
            if let Some(k) = (*at as usize).checked_sub(first) {
                let to = &mut histogram[k * BINS + usize::from(*bin)];
                *to = add(*to, *own);
            }
        }
        let node = |(k, total): (usize, &Sums)| {
            let (mut left, mut found): (Sums, Split) = ([0.0; 2], None);
            for bin in 0..BINS - 1 {
                left = add(left, histogram[k * BINS + bin]);
                let right = [total[0] - left[0], total[1] - left[1]];
                if left[1] < growth.least || right[1] < growth.least {
                    continue;
                }
                let gain = worth(left) + worth(right) - worth(*total);
                if gain > found.map_or(1e-9, |f| f.0) {
                    found = Some((gain, feature, bin));
                }
            }
            found
        };
        totals.iter().enumerate().map(node).collect()
    };
    let all: Vec<Vec<Split>> = binned.par_iter().enumerate().map(of_feature).collect();
    let better = |a: Split, b: Split| match (a, b) {
        (Some(x), Some(y)) if y.0 > x.0 => b,
        (None, b) => b,
        (a, _) => a,
    };
    (0..totals.len()).map(|k| all.iter().map(|of| of[k]).fold(None, better)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{auc, log_loss};
    use crate::monitor::Silent;
    use crate::rng::{Rng, Use};

    /// Rows whose label depends on a product, which no sum of single features tells, and a feature
    /// of noise.
    fn rows(seed: u64, n: usize) -> (Vec<f64>, Vec<bool>) {
        let mut rng = Rng::new(seed, Use::Rows, 1, 1);
        let mut unit = || f64::from(rng.below(1 << 20)) / f64::from(1u32 << 20);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let (a, b, noise) = (unit() - 0.5, unit() - 0.5, unit());
            x.extend([a, b, noise]);
            y.push(unit() < if a * b > 0.0 { 0.9 } else { 0.1 });
        }
        (x, y)
    }

    #[test]
    fn a_product_is_learnt_and_holds_on_new_rows() {
        let ((x, y), (new, labels)) = (rows(1, 4000), rows(2, 2000));
        let fitted = Boosted::fit(&x, 3, &y, Growth::default(), &Silent).unwrap();
        let p: Vec<f64> = new.chunks_exact(3).map(|row| fitted.predict(row)).collect();
        let (area, loss) = (auc(&labels, &p).unwrap().unwrap(), log_loss(&labels, &p).unwrap());
        // The best possible: AUC 0.9, log loss 0.325.
        assert!(area > 0.87 && area < 0.92 && loss < 0.37, "AUC {area}, log loss {loss}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = one.install(|| Boosted::fit(&x, 3, &y, Growth::default(), &Silent).unwrap());
        let same: Vec<f64> = new.chunks_exact(3).map(|row| again.predict(row)).collect();
        assert!(p == same, "the same bits on one thread");
    }

    #[test]
    fn a_feature_that_says_nothing_gives_the_share() {
        let labels: Vec<bool> = (0..400).map(|i| i % 4 == 0).collect();
        let fitted = Boosted::fit(&vec![3.0; 400], 1, &labels, Growth::default(), &Silent).unwrap();
        assert!((fitted.predict(&[3.0]) - 0.25).abs() <= 1e-9 && (fitted.predict(&[-7.0]) - 0.25).abs() <= 1e-9);
    }

    #[test]
    fn bad_input_is_refused() {
        let fit = |x: &[f64], y: &[bool]| Boosted::fit(x, 1, y, Growth::default(), &Silent);
        assert!(fit(&[1.0], &[true, false]).is_err() && fit(&[1.0, 2.0], &[true, true]).is_err());
        assert!(fit(&[1.0, f64::NAN], &[true, false]).unwrap_err().place().contains("row 1"));
        assert!(fit(&[], &[]).is_err());
    }
}
