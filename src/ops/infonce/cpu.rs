//! Tiles of scores, exponentials on the tile, a second product for the gradient: no matrix of all
//! pairs.
//!
//! Cosines bound the scores by 1/tau: while 2/tau < 80 that constant is subtracted instead of a
//! maximum, and one exponential serves both directions. The sums of rows and of columns then come
//! out of one pass. Otherwise a first pass finds the maxima, a direction at a time.
//!
//! Cost: 2 n^2 d FLOP for the sums (twice as much a direction without a bound), and 4 n^2 d for the
//! gradient of each side.

use rayon::prelude::*;

use super::exp::{exp_shifted, weigh};
use super::{Params, Similarity};
use crate::error::{Error, Result};
use crate::ops::linear::tile::{Left, To, add_nn, nt};
use crate::tensor::profile::timed;
use crate::tensor::simd::vectorized;

/// Rows of one parallel piece: a sixteenth of all, within these. More of them pay for packing the
/// other side better. That of the sums of columns depends on it, so it depends on n alone.
const ROWS: (usize, usize) = (64, 256);
/// Columns of one tile: with 256 rows of 256 values, the scores, the rows and their gradients fill
/// three quarters of a second-level cache of 1 MB.
const COLS: usize = 192;
/// Rows whose exponentials are added up in f32.
const RUN: usize = 32;

/// Gradients by the raw rows, n x d each, and by tau.
#[derive(Debug, Default)]
pub(super) struct By {
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    pub tau: f64,
}

/// Rows as they enter the product, and 1 / norm (0 for a zero row).
struct Unit {
    rows: Vec<f32>,
    inverse: Vec<f32>,
}

fn unit(raw: &[f32], dim: usize, similarity: Similarity) -> Unit {
    let mut rows = raw.to_vec();
    let mut inverse = vec![1.0; raw.len() / dim];
    if similarity == Similarity::Cosine {
        rows.par_chunks_mut(dim).zip(&mut inverse).for_each(|(row, inverse)| {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            *inverse = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * f64::from(*inverse)) as f32);
        });
    }
    Unit { rows, inverse }
}

/// One side seen from the other: `a`'s rows are the pieces, `b`'s the columns; scores are `a b^T /
/// tau`.
struct Side<'a> {
    a: &'a [f32],
    b: &'a [f32],
    dim: usize,
    inverse_tau: f32,
}

impl Side<'_> {
    fn len(&self) -> usize {
        self.a.len() / self.dim
    }

    /// Rows of a piece.
    fn piece(&self) -> usize {
        (self.len() / 16 / 8 * 8).clamp(ROWS.0, ROWS.1)
    }

    /// First row and number of rows of each piece.
    fn pieces(&self) -> impl IndexedParallelIterator<Item = (usize, usize)> + use<> {
        let (n, piece) = (self.len(), self.piece());
        (0..n.div_ceil(piece)).into_par_iter().map(move |p| (p * piece, piece.min(n - p * piece)))
    }

    /// Calls `body(first column, tile)` with the scores of rows `first ..` of `a`, tile by tile.
    fn tiles(&self, first: usize, rows: usize, mut body: impl FnMut(usize, &mut [f32])) {
        let a: Vec<f32> =
            self.a[first * self.dim..(first + rows) * self.dim].iter().map(|v| v * self.inverse_tau).collect();
        let mut scores = vec![0.0f32; rows * COLS];
        for (t, b) in self.b.chunks(COLS * self.dim).enumerate() {
            let columns = b.len() / self.dim;
            let tile = &mut scores[..rows * columns];
            nt(Left { values: &a, width: self.dim }, b, To { values: tile, columns, stride: columns });
            body(t * COLS, tile);
        }
    }

    /// Largest score of every row.
    fn maxima(&self) -> Vec<f32> {
        self.pieces()
            .flat_map_iter(|(first, rows)| {
                let mut max = vec![f32::NEG_INFINITY; rows];
                self.tiles(first, rows, |_, tile| {
                    for (max, row) in max.iter_mut().zip(tile.chunks_exact(tile.len() / rows)) {
                        *max = row.iter().fold(*max, |m, &v| m.max(v));
                    }
                });
                max
            })
            .collect()
    }

    /// `logsumexp` of every row, given what to subtract.
    fn log_sums(&self, shift: &[f32]) -> Vec<f64> {
        self.pieces()
            .flat_map_iter(|(first, rows)| {
                let mut sums = vec![0.0f64; rows];
                self.tiles(first, rows, |_, tile| {
                    let cols = tile.len() / rows;
                    for (r, row) in tile.chunks_exact_mut(cols).enumerate() {
                        exp_shifted(row, shift[first + r]);
                        sums[r] += sum(row);
                    }
                });
                (0..rows).map(|r| f64::from(shift[first + r]) + sums[r].ln()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// `logsumexp` of every row and of every column, where no score is above `bound`.
    fn both_log_sums(&self, bound: f32) -> [Vec<f64>; 2] {
        let n = self.len();
        let (mut of_rows, mut of_columns) = (Vec::with_capacity(n), vec![0.0f64; n]);
        let pieces: Vec<_> = self.pieces().collect();
        // A few pieces at a time, since each holds sums of all columns; added up in their order.
        for some in pieces.chunks(2 * rayon::current_num_threads()) {
            let parts: Vec<[Vec<f64>; 2]> =
                some.par_iter().map(|&(first, rows)| self.sums_of_piece(first, rows, bound)).collect();
            for [rows, columns] in parts {
                of_rows.extend(rows);
                of_columns.iter_mut().zip(columns).for_each(|(all, part)| *all += part);
            }
        }
        [of_rows, of_columns].map(|sums| sums.into_iter().map(|s| f64::from(bound) + s.ln()).collect())
    }

    fn sums_of_piece(&self, first: usize, rows: usize, bound: f32) -> [Vec<f64>; 2] {
        let (mut of_rows, mut of_columns) = (vec![0.0f64; rows], vec![0.0f64; self.len()]);
        self.tiles(first, rows, |column, tile| {
            let cols = tile.len() / rows;
            let mut run = [0.0f32; COLS];
            for (tile, of_rows) in tile.chunks_mut(RUN * cols).zip(of_rows.chunks_mut(RUN)) {
                let run = &mut run[..cols];
                run.fill(0.0);
                for (row, of_row) in tile.chunks_exact_mut(cols).zip(of_rows) {
                    exp_shifted(row, bound);
                    *of_row += sum(row);
                    add(run, row);
                }
                of_columns[column..].iter_mut().zip(run).for_each(|(all, run)| *all += f64::from(*run));
            }
        });
        [of_rows, of_columns]
    }

    /// Gradient by the rows of `a` as they enter the product, and per row `sum_j G_ij s_ij`, where
    /// `G_ij = weight (e^(s_ij - own_i) + e^(s_ij - other_j) - 2 [i = j])`.
    fn gradient(&self, own: &[f64], other: &[f64], weight: f64, bound: Option<f32>) -> (Vec<f32>, Vec<f64>) {
        let (dim, piece) = (self.dim, self.piece());
        // With a bound c both terms are e^(s - c) times a factor of the row or column.
        let factor = |lse: &[f64], c: f32| -> Vec<f32> {
            lse.iter().map(|l| (weight * (f64::from(c) - l).exp()) as f32).collect()
        };
        let factors = bound.map(|c| (c, factor(own, c), factor(other, c)));
        let (mut out, mut dots) = (vec![0.0f32; self.a.len()], vec![0.0f64; self.len()]);
        let pieces = out.par_chunks_mut(piece * dim).zip(dots.par_chunks_mut(piece)).enumerate();
        pieces.for_each(|(p, (out, dots))| {
            let (first, rows) = (p * piece, dots.len());
            let mut kept = vec![0.0f32; 2 * COLS];
            self.tiles(first, rows, |column, tile| {
                let cols = tile.len() / rows;
                for (r, row) in tile.chunks_exact_mut(cols).enumerate() {
                    let i = first + r;
                    let at = (column..column + cols).contains(&i).then(|| (i - column, row[i - column]));
                    if let Some((c, own, other)) = &factors {
                        dots[r] += f64::from(weigh(row, *c, own[i], &other[column..column + cols]));
                    } else {
                        let (scores, second) = kept.split_at_mut(COLS);
                        let (scores, second) = (&mut scores[..cols], &mut second[..cols]);
                        scores.copy_from_slice(row);
                        for ((q, &s), o) in second.iter_mut().zip(&*scores).zip(&other[column..column + cols]) {
                            *q = (f64::from(s) - o) as f32;
                        }
                        for (p, &s) in row.iter_mut().zip(&*scores) {
                            *p = (f64::from(s) - own[i]) as f32;
                        }
                        exp_shifted(second, 0.0);
                        exp_shifted(row, 0.0);
                        row.iter_mut().zip(&*second).for_each(|(p, q)| *p = (*p + q) * weight as f32);
                        dots[r] += f64::from(crate::ops::topk::dot(row, scores));
                    }
                    if let Some((c, score)) = at {
                        row[c] -= (2.0 * weight) as f32;
                        dots[r] -= 2.0 * weight * f64::from(score);
                    }
                }
                let b = &self.b[column * dim..(column + cols) * dim];
                add_nn(Left { values: tile, width: cols }, b, To { values: out, columns: dim, stride: dim });
            });
            out.iter_mut().for_each(|v| *v *= self.inverse_tau);
        });
        (out, dots)
    }
}

vectorized! {
    fn add(to: &mut [f32], values: &[f32]) {
        for (to, v) in to.iter_mut().zip(values) {
            *to += v;
        }
    }
}

vectorized! {
    /// Sixteen running sums, then f64.
    fn sum(row: &[f32]) -> f64 {
        let mut sums = [0.0f32; 16];
        let (chunks, rest) = row.as_chunks::<16>();
        for chunk in chunks {
            for l in 0..16 {
                sums[l] += chunk[l];
            }
        }
        sums.iter().chain(rest).map(|&v| f64::from(v)).sum()
    }
}

/// Through the normalisation: `g - (g . u) u`, over the norm.
fn by_raw(mut g: Vec<f32>, unit: &Unit, dim: usize, similarity: Similarity) -> Vec<f32> {
    if similarity == Similarity::Cosine {
        g.par_chunks_mut(dim).zip(unit.rows.par_chunks(dim)).zip(&unit.inverse).for_each(|((g, u), inverse)| {
            let along = g.iter().zip(u).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
            g.iter_mut().zip(u).for_each(|(g, u)| *g = (*g - along * u) * inverse);
        });
    }
    g
}

/// Loss, and gradients when `backward`, as [`super::infonce`], which has checked the shapes.
pub(super) fn infonce(x: &[f32], y: &[f32], dim: usize, params: &Params, backward: bool) -> Result<(f64, By)> {
    let cost = if backward { super::cost } else { super::loss_cost };
    let _timed = timed("infonce", || cost(x.len() / dim.max(1), dim));
    let n = x.len() / dim;
    let (ux, uy) = (unit(x, dim, params.similarity), unit(y, dim, params.similarity));
    let inverse_tau = 1.0 / params.tau;
    let rows = Side { a: &ux.rows, b: &uy.rows, dim, inverse_tau };
    let cols = Side { a: &uy.rows, b: &ux.rows, dim, inverse_tau };
    let bound = (params.similarity == Similarity::Cosine && 2.0 * inverse_tau < 80.0).then_some(inverse_tau);
    let [row_sums, col_sums] = match bound {
        Some(bound) => rows.both_log_sums(bound),
        None => [&rows, &cols].map(|side| side.log_sums(&side.maxima())),
    };
    let mut loss = 0.0;
    for (i, (a, b)) in ux.rows.chunks_exact(dim).zip(uy.rows.chunks_exact(dim)).enumerate() {
        let positive: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        loss += row_sums[i] + col_sums[i] - 2.0 * positive / f64::from(params.tau);
    }
    let weight = f64::from(params.weight) / n as f64;
    loss *= weight;
    if !loss.is_finite() {
        return Err(Error::failed("infonce", format!("the loss is {loss}"))
            .next("check the embeddings for NaN; a smaller learning rate or a larger tau may help"));
    }
    if !backward {
        return Ok((loss, By::default()));
    }
    let (gx, dots) = rows.gradient(&row_sums, &col_sums, weight, bound);
    let (gy, _) = cols.gradient(&col_sums, &row_sums, weight, bound);
    let by = By {
        x: by_raw(gx, &ux, dim, params.similarity),
        y: by_raw(gy, &uy, dim, params.similarity),
        tau: -dots.iter().sum::<f64>() / f64::from(params.tau),
    };
    Ok((loss, by))
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use super::*;
    use crate::device::Device;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| f64::from(v)).collect()
    }

    proptest! {
        #![proptest_config(crate::testing::cases(32))]
        #[test]
        fn matches_the_oracle(
            n in prop::sample::select(vec![1usize, 2, 37, 64, 65, 200, 600]), dim in 1usize..24,
            tau in prop::sample::select(vec![0.01f32, 0.07, 0.1, 1.0]), cosine in any::<bool>(), seed in 0u64..1000,
        ) {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let x: Vec<f32> = (0..n * dim).map(|_| rng.normal()).collect();
            let y: Vec<f32> = x.iter().map(|v| 0.5 * v + rng.normal()).collect();
            let similarity = if cosine { Similarity::Cosine } else { Similarity::InnerProduct };
            let params = Params { similarity, tau, weight: 1.0 };
            let (loss, gx, gy, by_tau) = oracle::infonce(&wide(&x), &wide(&y), dim, &params);
            let (got_loss, got) = infonce(&x, &y, dim, &params, true).unwrap();
            let (alone, _) = infonce(&x, &y, dim, &params, false).unwrap();
            prop_assert_eq!(alone.to_bits(), got_loss.to_bits(), "the loss alone differs");
            // f32 scores s carry an error of about 1e-7 |s|, and |s| grows with 1 / tau.
            let largest = if cosine { 1.0 } else { 40.0 } / f64::from(tau);
            let tolerance = 2e-6 * (1.0 + largest);
            prop_assert!((got_loss - loss).abs() <= tolerance * (1.0 + loss.abs()), "loss {} and not {}", got_loss, loss);
            // The gradient of tau is a mean of (probability error) x score / tau.
            let reach = largest / f64::from(tau) + by_tau.abs();
            prop_assert!((got.tau - by_tau).abs() <= tolerance * reach, "tau {} and not {}", got.tau, by_tau);
            // A probability is off by that tolerance; the gradient multiplies it by a row over tau
            // (and over a norm).
            let norm = |r: &[f32]| r.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let norms = || x.chunks_exact(dim).chain(y.chunks_exact(dim)).map(norm);
            let reach =
                if cosine { 1.0 / norms().fold(f64::INFINITY, f64::min) } else { norms().fold(0.0, f64::max) };
            let scale = reach / f64::from(tau) / n as f64;
            for (a, b) in got.x.iter().chain(&got.y).zip(gx.iter().chain(&gy)) {
                prop_assert!((f64::from(*a) - b).abs() <= tolerance * scale, "{} and not {}", a, b);
            }
        }
    }

    #[test]
    fn the_oracle_agrees_with_finite_differences() {
        let (n, dim) = (5, 3);
        let mut rng = Rng::new(4, Use::Synthetic, 0, 0);
        let mut draw = || -> Vec<f64> { (0..n * dim).map(|_| f64::from(rng.normal())).collect() };
        let (x, y) = (draw(), draw());
        for similarity in [Similarity::Cosine, Similarity::InnerProduct] {
            let params = Params { similarity, tau: 0.5, weight: 0.5 };
            let (_, gx, gy, by_tau) = oracle::infonce(&x, &y, dim, &params);
            let h = 1e-5;
            for i in 0..n * dim {
                let at = |d: f64, second: bool| {
                    let (mut x, mut y) = (x.clone(), y.clone());
                    if second {
                        y[i] += d
                    } else {
                        x[i] += d
                    }
                    oracle::infonce(&x, &y, dim, &params).0
                };
                for (g, second) in [(&gx, false), (&gy, true)] {
                    let want = (at(h, second) - at(-h, second)) / (2.0 * h);
                    assert!((g[i] - want).abs() <= 1e-7, "{similarity:?} {i}: {} and not {want}", g[i]);
                }
            }
            let at = |tau: f32| oracle::infonce(&x, &y, dim, &Params { tau, ..params }).0;
            let want = (at(0.5 + 0.0009765625) - at(0.5 - 0.0009765625)) / (2.0 * 0.0009765625);
            assert!((by_tau - want).abs() <= 1e-4 * (1.0 + want.abs()), "tau: {by_tau} and not {want}");
        }
    }

    #[test]
    fn zero_rows_are_harmless_and_nonsense_is_refused() {
        let params = Params { similarity: Similarity::Cosine, tau: 0.1, weight: 1.0 };
        let (_, got) = infonce(&[0.0, 0.0, 1.0, 0.0], &[1.0, 1.0, 0.0, 0.0], 2, &params, true).unwrap();
        assert!(got.x[..2] == [0.0, 0.0] && got.y[2..] == [0.0, 0.0] && got.x.iter().all(|v| v.is_finite()));
        let infonce = |x: &[f32], y: &[f32], params| {
            super::super::infonce(&Device::Cpu, (x, 1).into(), (y, 1).into(), params).is_err()
        };
        assert!(!infonce(&[1.0], &[1.0], &params));
        assert!(infonce(&[f32::NAN], &[1.0], &params) && infonce(&[], &[], &params));
        assert!(infonce(&[1.0], &[1.0, 2.0], &params));
        assert!(infonce(&[1.0], &[1.0], &Params { tau: 0.0, ..params }));
    }
}
