//! Area under the ROC curve, its variance and the test between two scores of the same rows, by
//! DeLong, DeLong and Clarke-Pearson (1988) in the O(n log n) form of Sun and Xu (2014): everything
//! follows from midranks. Where rows come in clusters, as those of one user do, the variance is
//! that of Obuchowski (Biometrics 53, 1997); with every row by itself it is DeLong's. Where rows
//! are clustered by user and by item, it is the sum of both less that by their pairs (Cameron,
//! Gelbach and Miller, Journal of Business & Economic Statistics 29, 2011).

use super::check;
use super::clusters::{Clusters, Partition};
use super::metrics::Estimate;
use crate::error::Result;

/// 0.975 quantile of the standard normal: half the width of a 95 % interval in standard errors.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Midranks, from 1: tied values share the mean of the ranks they cover. Values must be finite.
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let value = values[order[from] as usize];
        // `==`, not `total_cmp`: 0.0 and -0.0 are one value.
        let run = order[from..].iter().take_while(|&&i| values[i as usize] == value).count();
        let rank = (2 * from + run + 1) as f64 / 2.0;
        for &i in &order[from..from + run] {
            ranks[i as usize] = rank;
        }
        from += run;
    }
    ranks
}

/// Probability that a positive row scores above a negative one, ties one half. `None` when one
/// class is missing.
///
/// # Errors
/// Empty input, different lengths, a score that is not finite.
pub fn auc(labels: &[bool], scores: &[f64]) -> Result<Option<f64>> {
    check::scores("AUC", labels, scores)?;
    Ok(area(labels, &midranks(scores)))
}

fn area(labels: &[bool], ranks: &[f64]) -> Option<f64> {
    let m = labels.iter().filter(|&&y| y).count() as f64;
    let n = labels.len() as f64 - m;
    // Midranks are halves of integers, so the sum is exact.
    let sum: f64 = labels.iter().zip(ranks).filter(|(y, _)| **y).map(|(_, r)| r).sum();
    (m > 0.0 && n > 0.0).then(|| (sum - m * (m + 1.0) / 2.0) / (m * n))
}

/// Structural components, one a row: for a positive row the share of negatives below it, for a
/// negative row the share of positives above it. The mean of each class is the AUC.
fn components(labels: &[bool], scores: &[f64]) -> Vec<f64> {
    let all = midranks(scores);
    let mut found = vec![0.0; labels.len()];
    for class in [true, false] {
        let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        let own = midranks(&rows.iter().map(|&i| scores[i]).collect::<Vec<_>>());
        let others = (labels.len() - rows.len()) as f64;
        for (&i, own) in rows.iter().zip(own) {
            let below = (all[i] - own) / others;
            found[i] = if class { below } else { 1.0 - below };
        }
    }
    found
}

/// The variance of the AUC, or of a difference of two, from the components less their mean
/// (`residuals`). `None` where one of the groupings has none ([`variance_by`]).
fn variance(labels: &[bool], residuals: &[f64], clusters: &Clusters) -> Option<f64> {
    let of = |part: &Partition| variance_by(labels, residuals, part);
    let by_user = of(clusters.users())?;
    let Some(crossed) = clusters.crossed() else { return Some(by_user) };
    let (by_item, by_pair) = (of(&crossed.items)?, of(&crossed.pairs)?);
    // Rows of one pair are in both sums. What is left may fall below either by chance; an interval
    // over users and items is never narrower than one over users, or over items.
    Some((by_user + by_item - by_pair).max(by_user).max(by_item))
}

/// The same for rows in independent groups. `None` where a class is in fewer than two of them, and
/// where the estimate is below zero, as it can come out when a class is in few groups.
fn variance_by(labels: &[bool], residuals: &[f64], part: &Partition) -> Option<f64> {
    // Of each group: (sum over its positive rows, over its negative rows, has such rows).
    let mut sums = vec![([0.0f64; 2], [false; 2]); part.count()];
    for ((&label, &residual), &cluster) in labels.iter().zip(residuals).zip(part.of_rows()) {
        let (sum, there) = &mut sums[cluster as usize];
        sum[usize::from(!label)] += residual;
        there[usize::from(!label)] = true;
    }
    let positives = labels.iter().filter(|&&y| y).count();
    let rows = [positives as f64, (labels.len() - positives) as f64];
    let mut total = 0.0;
    for class in 0..2 {
        let with = sums.iter().filter(|(_, there)| there[class]).count() as f64;
        if with < 2.0 {
            return None;
        }
        let squares: f64 = sums.iter().map(|(sum, _)| sum[class] * sum[class]).sum();
        total += with / (with - 1.0) * squares / (rows[class] * rows[class]);
    }
    let all = part.count() as f64;
    let products: f64 = sums.iter().map(|(sum, _)| sum[0] * sum[1]).sum();
    total += 2.0 * all / (all - 1.0) * products / (rows[0] * rows[1]);
    (total >= 0.0).then_some(total)
}

/// AUC with its 95 % interval from the clustered variance, cut to 0..=1. `None` when one class is
/// missing; no interval where the variance cannot be estimated, as when a class has a single row.
///
/// # Errors
/// As [`auc`].
pub fn delong(labels: &[bool], scores: &[f64], clusters: &Clusters) -> Result<Option<Estimate>> {
    let Some(value) = auc(labels, scores)? else { return Ok(None) };
    let residuals: Vec<f64> = components(labels, scores).iter().map(|v| v - value).collect();
    let Some(variance) = variance(labels, &residuals, clusters) else { return Ok(Some(Estimate::point(value))) };
    let half = Z95 * variance.sqrt();
    Ok(Some(Estimate { value, low: Some((value - half).max(0.0)), high: Some((value + half).min(1.0)) }))
}

/// What DeLong's test finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DelongTest {
    /// AUC of the first scores minus AUC of the second.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// Two-sided p value; 1 when difference and error are both zero.
    pub p: f64,
}

/// Two-sided test that two scores of the same rows have the same AUC. `None` where it is undefined:
/// a variance that cannot be estimated, or a difference whose estimated error is zero.
///
/// # Errors
/// As [`auc`], for either score.
pub fn delong_test(labels: &[bool], first: &[f64], second: &[f64], clusters: &Clusters) -> Result<Option<DelongTest>> {
    let (Some(a), Some(b)) = (auc(labels, first)?, auc(labels, second)?) else { return Ok(None) };
    let difference = a - b;
    // The variance of the difference taken directly: subtracting first keeps it from going below
    // zero by rounding.
    let both = components(labels, first).into_iter().zip(components(labels, second));
    let residuals: Vec<f64> = both.map(|(x, y)| x - y - difference).collect();
    let Some(variance) = variance(labels, &residuals, clusters) else { return Ok(None) };
    let standard_error = variance.sqrt();
    let p = if difference == 0.0 {
        1.0
    } else if standard_error > 0.0 {
        // Both tails of the standard normal distribution.
        libm::erfc(difference.abs() / standard_error * std::f64::consts::FRAC_1_SQRT_2)
    } else {
        return Ok(None);
    };
    Ok(Some(DelongTest { difference, standard_error, p }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    /// The definition: count over all pairs, in halves.
    fn pairs(labels: &[bool], s: &[f64]) -> Option<f64> {
        let (mut halves, mut total) = (0u64, 0u64);
        for i in 0..s.len() {
            for j in 0..s.len() {
                if labels[i] && !labels[j] {
                    total += 2;
                    halves += if s[i] > s[j] { 2 } else { u64::from(s[i] == s[j]) };
                }
            }
        }
        (total > 0).then(|| halves as f64 / total as f64)
    }

    /// DeLong's variance of a difference by the quadratic definition.
    fn slow_variance(labels: &[bool], a: &[f64], b: &[f64]) -> f64 {
        let kernel = |s: &[f64], i: usize, j: usize| if s[i] > s[j] { 1.0 } else { f64::from(s[i] == s[j]) / 2.0 };
        let class = |c: bool| (0..labels.len()).filter(|&i| labels[i] == c).collect::<Vec<_>>();
        let (pos, neg) = (class(true), class(false));
        let d = |i: usize, j: usize| kernel(a, i, j) - kernel(b, i, j);
        let v = |xs: Vec<f64>| {
            let mean = xs.iter().sum::<f64>() / xs.len() as f64;
            xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (xs.len() as f64 - 1.0) / xs.len() as f64
        };
        v(pos.iter().map(|&i| neg.iter().map(|&j| d(i, j)).sum::<f64>() / neg.len() as f64).collect())
            + v(neg.iter().map(|&j| pos.iter().map(|&i| d(i, j)).sum::<f64>() / pos.len() as f64).collect())
    }

    fn rows() -> impl Strategy<Value = Vec<(bool, i8, i8)>> {
        proptest::collection::vec((any::<bool>(), -6i8..6, -6i8..6), 1..80)
    }

    proptest! {
        #[test]
        fn equals_the_count_over_pairs(rows in rows()) {
            let y: Vec<bool> = rows.iter().map(|r| r.0).collect();
            let s: Vec<f64> = rows.iter().map(|r| f64::from(r.1) / 7.0).collect();
            match (auc(&y, &s).unwrap(), pairs(&y, &s)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-12, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        #[test]
        fn delong_equals_its_definition(rows in rows()) {
            let y: Vec<bool> = rows.iter().map(|r| r.0).collect();
            let a: Vec<f64> = rows.iter().map(|r| f64::from(r.1)).collect();
            let b: Vec<f64> = rows.iter().map(|r| f64::from(r.2)).collect();
            let positives = y.iter().filter(|y| **y).count();
            prop_assume!(positives >= 2 && y.len() - positives >= 2);
            let constant = vec![0.0; a.len()];
            let one = delong(&y, &a, &Clusters::single(y.len())).unwrap().unwrap();
            let want = slow_variance(&y, &a, &constant).sqrt() * Z95;
            prop_assert!((one.high.unwrap() - (one.value + want).min(1.0)).abs() <= 1e-12);
            prop_assert!((one.low.unwrap() - (one.value - want).max(0.0)).abs() <= 1e-12);
            if let Some(t) = delong_test(&y, &a, &b, &Clusters::single(y.len())).unwrap() {
                prop_assert!((t.standard_error.powi(2) - slow_variance(&y, &a, &b)).abs() <= 1e-12);
                prop_assert!((0.0..=1.0).contains(&t.p));
                let back = delong_test(&y, &b, &a, &Clusters::single(y.len())).unwrap().unwrap();
                prop_assert!((back.p - t.p).abs() <= 1e-12 && (back.difference + t.difference).abs() <= 1e-12);
            }
        }

        #[test]
        fn a_monotone_map_changes_nothing_and_a_flip_mirrors(rows in rows()) {
            let y: Vec<bool> = rows.iter().map(|r| r.0).collect();
            let s: Vec<f64> = rows.iter().map(|r| f64::from(r.1)).collect();
            let mapped: Vec<f64> = s.iter().map(|x| x.exp()).collect();
            let flipped: Vec<f64> = s.iter().map(|x| -x).collect();
            if let Some(a) = auc(&y, &s).unwrap() {
                prop_assert!((auc(&y, &mapped).unwrap().unwrap() - a).abs() <= 1e-12);
                prop_assert!((auc(&y, &flipped).unwrap().unwrap() + a - 1.0).abs() <= 1e-12);
            }
        }
    }

    /// Rows of `users` users, five to nine each, whose scores and labels lean the user's way.
    fn leaning(users: u32, seed: u64) -> (Vec<bool>, Vec<f64>, Vec<f64>, Vec<u32>) {
        let mut rng = Rng::new(seed, Use::Rows, 0, 0);
        let (mut y, mut a, mut b, mut of) = (vec![], vec![], vec![], vec![]);
        for user in 0..users {
            let mut normal = || f64::from(rng.normal());
            let (taste, shown) = (normal(), normal());
            for _ in 0..5 + user % 5 {
                let quality = normal();
                y.push(quality + taste + normal() > 0.0);
                a.push(quality + taste + 2.0 * shown + normal());
                b.push(quality + 2.0 * normal());
                of.push(user);
            }
        }
        (y, a, b, of)
    }

    /// The variance by leaving out a cluster at a time, in closed form of nothing but [`auc`].
    fn jackknife(users: &[u32], of: impl Fn(&[usize]) -> f64) -> f64 {
        let count = users.iter().max().unwrap() + 1;
        let without = |user: u32| of(&(0..users.len()).filter(|&i| users[i] != user).collect::<Vec<_>>());
        let values: Vec<f64> = (0..count).map(without).collect();
        let (n, mean) = (f64::from(count), values.iter().sum::<f64>() / f64::from(count));
        (n - 1.0) / n * values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
    }

    #[test]
    fn clustered_variances_are_those_of_the_jackknife() {
        for seed in 0..4 {
            let (y, a, b, users) = leaning(200, seed);
            let clusters = Clusters::by_user(&users);
            let at = |s: &[f64], rows: &[usize]| {
                let of: Vec<f64> = rows.iter().map(|&i| s[i]).collect();
                auc(&rows.iter().map(|&i| y[i]).collect::<Vec<_>>(), &of).unwrap().unwrap()
            };
            let one = delong(&y, &a, &clusters).unwrap().unwrap();
            let error = (one.high.unwrap() - one.low.unwrap()) / 2.0 / Z95;
            let want = jackknife(&users, |rows| at(&a, rows)).sqrt();
            // They agree to the first order in 1 / clusters.
            assert!((error / want - 1.0).abs() <= 0.02, "{error} {want}");
            let rows = delong(&y, &a, &Clusters::single(y.len())).unwrap().unwrap();
            assert!(rows.high.unwrap() - rows.low.unwrap() < 0.9 * (one.high.unwrap() - one.low.unwrap()));
            let test = delong_test(&y, &a, &b, &clusters).unwrap().unwrap();
            let want = jackknife(&users, |rows| at(&a, rows) - at(&b, rows)).sqrt();
            assert!((test.standard_error / want - 1.0).abs() <= 0.02, "{test:?} {want}");
        }
    }

    #[test]
    fn a_known_test_value() {
        // Two scores that differ in one pair of four: AUC 1 and 0.75.
        let y = [true, true, false, false];
        let (a, b, each) = ([4.0, 3.0, 2.0, 1.0], [4.0, 2.0, 3.0, 1.0], Clusters::single(4));
        let t = delong_test(&y, &a, &b, &each).unwrap().unwrap();
        // Differences of components: positives 0, 1/2; negatives 1/2, 0: each variance 1/8, over 2
        // rows 1/16.
        assert!((t.difference - 0.25).abs() <= 1e-12 && (t.standard_error - 0.125f64.sqrt()).abs() <= 1e-12);
        // z = 0.70711, two-sided p = 0.47950.
        assert!((t.p - 0.479_500_122).abs() <= 1e-8, "{}", t.p);
    }

    #[test]
    fn degenerate_input_is_said_to_be_so() {
        assert_eq!(auc(&[true, true], &[0.1, 0.2]).unwrap(), None);
        let two = Clusters::single(2);
        assert_eq!(delong(&[true, false], &[0.1, 0.2], &two).unwrap(), Some(Estimate::point(0.0)));
        assert_eq!(delong_test(&[true, false], &[0.1, 0.2], &[0.1, 0.2], &two).unwrap(), None);
        let (y, s) = ([true, false, true, false], [0.4, 0.2, 0.1, 0.3]);
        let one_user = delong(&y, &s, &Clusters::by_user(&[1; 4])).unwrap().unwrap();
        assert_eq!((one_user.value, one_user.low), (0.5, None), "one user tells nothing of others");
        for (y, s) in [(&[][..], &[][..]), (&[true][..], &[][..]), (&[true, false][..], &[0.1, f64::NAN][..])] {
            assert!(!auc(y, s).unwrap_err().next_step().is_empty());
        }
        assert_eq!(auc(&[true, false], &[0.0, -0.0]).unwrap(), Some(0.5));
    }
}
