//! Gathers on the CPU: a row's sum lives in registers, even and odd neighbours in two sets (they hide the latency of
//! the additions); AVX-512, AVX2 or plain code is chosen at run time and gives the same bits.

// Fixed-width loops over several arrays at once read best, and vectorise, with an index.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;

use super::filter::{Bits, filter};
use super::{Adjacency, LANE, Lane, Rows};
use crate::ops::profile::timed;
use crate::ops::simd::{Level, level};

/// Lanes summed in one go; wider rows are done in blocks of columns.
const BLOCK: usize = 8;

/// Buffers of [`propagate`], kept between calls.
#[derive(Debug, Clone)]
pub struct Workspace {
    now: Rows,
    next: Rows,
}

impl Workspace {
    /// For `nodes` rows of width `dim`.
    pub fn new(nodes: usize, dim: usize) -> Self {
        Self { now: Rows::zeros(nodes, dim), next: Rows::zeros(nodes, dim) }
    }
}

/// Rows that can be passed over.
#[derive(Debug, Clone, Copy)]
pub enum Sparse<'a> {
    /// None.
    No,
    /// Only these rows of the result are wanted; the others hold unspecified values.
    Outputs(&'a [bool]),
    /// Only these rows of `x` are not zero.
    Inputs(&'a [bool]),
}

/// Sums `x[c * stride + offset ..][..N]` over `c` in `columns`.
///
/// # Safety
/// Every column times `stride`, plus `offset + N`, must be within `x`.
#[inline(always)]
unsafe fn sum_plain<const N: usize>(x: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    let mut odd = [Lane::ZERO; N];
    *out = odd;
    for (i, &c) in columns.iter().enumerate() {
        let to = if i % 2 == 0 { &mut *out } else { &mut odd };
        for (n, to) in to.iter_mut().enumerate() {
            // SAFETY: by this function's contract.
            let from = unsafe { &*x.add(c as usize * stride + n) };
            for l in 0..LANE {
                to.0[l] += from.0[l];
            }
        }
    }
    for n in 0..N {
        for l in 0..LANE {
            out[n].0[l] += odd[n].0[l];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn sum_avx512<const N: usize>(x: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    use std::arch::x86_64::*;
    let (mut even, mut odd) = ([_mm512_setzero_ps(); N], [_mm512_setzero_ps(); N]);
    let (pairs, rest) = columns.as_chunks::<2>();
    // SAFETY: in bounds by the contract of `sum_plain`; a Lane is aligned to 64 bytes.
    unsafe {
        for &[a, b] in pairs {
            let (a, b) = (x.add(a as usize * stride).cast::<f32>(), x.add(b as usize * stride).cast::<f32>());
            for n in 0..N {
                even[n] = _mm512_add_ps(even[n], _mm512_load_ps(a.add(n * LANE)));
                odd[n] = _mm512_add_ps(odd[n], _mm512_load_ps(b.add(n * LANE)));
            }
        }
        for &a in rest {
            let a = x.add(a as usize * stride).cast::<f32>();
            for n in 0..N {
                even[n] = _mm512_add_ps(even[n], _mm512_load_ps(a.add(n * LANE)));
            }
        }
        for n in 0..N {
            _mm512_store_ps(out[n].0.as_mut_ptr(), _mm512_add_ps(even[n], odd[n]));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn sum_avx2<const N: usize>(x: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    // SAFETY: the same contract; compiled for AVX2, the plain loops become 256-bit code.
    unsafe { sum_plain(x, stride, columns, out) }
}

/// # Safety
/// As [`sum_plain`].
unsafe fn sum<const N: usize>(level: Level, x: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    // SAFETY: passed on; `level` was detected.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => sum_avx2(x, stride, columns, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => sum_avx512(x, stride, columns, out),
            _ => sum_plain(x, stride, columns, out),
        }
    }
}

/// One piece of rows of one layer.
struct Task<'a> {
    first: usize,
    next: Option<&'a mut [Lane]>,
    total: &'a mut [Lane],
    /// Room for the neighbours of one row that are not zero.
    kept: Vec<u32>,
}

struct Layer<'a> {
    graph: &'a Adjacency,
    level: Level,
    z: &'a [Lane],
    stride: usize,
    /// Rows that are wanted.
    wanted: Option<&'a [bool]>,
    /// Rows of `z` that are not zero.
    filled: Option<&'a Bits>,
    scale: f32,
}

impl Layer<'_> {
    /// Columns `offset .. offset + N` of every row of `task`.
    fn columns<const N: usize>(&self, task: &mut Task<'_>, offset: usize) {
        let mut sums = [Lane::ZERO; N];
        for (i, total) in task.total.chunks_exact_mut(self.stride).enumerate() {
            let r = task.first + i;
            if self.wanted.is_some_and(|wanted| !wanted[r]) {
                continue;
            }
            let mut neighbours = self.graph.neighbours(r);
            if let Some(filled) = self.filled {
                if task.kept.len() < neighbours.len() + 16 {
                    task.kept.resize(neighbours.len() + 16, 0);
                }
                // SAFETY: Adjacency holds columns < nodes, and there is a bit a node (asserted in `propagate`).
                neighbours = unsafe { filter(self.level, filled, neighbours, &mut task.kept) };
            }
            // SAFETY: Adjacency holds columns < nodes, `z` has nodes * stride lanes (asserted in `propagate`), and
            // offset + N <= stride.
            unsafe {
                sum(self.level, self.z.as_ptr().add(offset), self.stride, neighbours, &mut sums);
            }
            let s = self.graph.inv_sqrt()[r];
            for (n, total) in total[offset..offset + N].iter_mut().enumerate() {
                for l in 0..LANE {
                    total.0[l] = (total.0[l] + sums[n].0[l] * s) * self.scale;
                }
            }
            if let Some(next) = &mut task.next {
                let next = &mut next[i * self.stride + offset..][..N];
                for n in 0..N {
                    for l in 0..LANE {
                        next[n].0[l] = sums[n].0[l] * (s * s);
                    }
                }
            }
        }
    }

    fn run(&self, task: &mut Task<'_>) {
        let mut offset = 0;
        while offset < self.stride {
            let width = (self.stride - offset).min(BLOCK);
            match width {
                1 => self.columns::<1>(task, offset),
                2 => self.columns::<2>(task, offset),
                3 => self.columns::<3>(task, offset),
                4 => self.columns::<4>(task, offset),
                5 => self.columns::<5>(task, offset),
                6 => self.columns::<6>(task, offset),
                7 => self.columns::<7>(task, offset),
                _ => self.columns::<8>(task, offset),
            }
            offset += width;
        }
    }
}

/// `out = 1/(layers+1) * sum over l of A^l x`.
///
/// `x` and `out` are `nodes x dim`. Rows of the last layer that are not wanted are left out, since nothing else reads them;
/// neighbours that are zero are left out of the first.
pub fn propagate(
    graph: &Adjacency,
    x: &Rows,
    layers: usize,
    sparse: Sparse<'_>,
    space: &mut Workspace,
    out: &mut Rows,
) {
    let _timed = timed("spmm", || super::cost(graph, x.dim(), layers));
    let (nodes, stride) = (graph.nodes(), x.lanes());
    for (what, m) in [("x", x), ("out", &*out), ("workspace", &space.now), ("workspace", &space.next)] {
        assert_eq!((m.rows(), m.dim()), (nodes, x.dim()), "propagate: {what} is not nodes x dim");
    }
    let (wanted, filled) = match sparse {
        Sparse::No => (None, None),
        Sparse::Outputs(flags) => (Some(flags), None),
        Sparse::Inputs(flags) => (None, Some(flags)),
    };
    assert!(wanted.or(filled).is_none_or(|f| f.len() == nodes), "propagate: not one flag a node");
    let filled = filled.map(Bits::new);
    out.lines_mut().copy_from_slice(x.lines());
    if layers == 0 || stride == 0 {
        return;
    }
    let level = level();
    space.now.lines_mut().par_chunks_mut(stride * 256).enumerate().for_each(|(chunk, rows)| {
        for (i, row) in rows.chunks_exact_mut(stride).enumerate() {
            let (r, s) = (chunk * 256 + i, graph.inv_sqrt()[chunk * 256 + i]);
            for (to, from) in row.iter_mut().zip(&x.lines()[r * stride..(r + 1) * stride]) {
                for l in 0..LANE {
                    to.0[l] = from.0[l] * s;
                }
            }
        }
    });
    for layer in 1..=layers {
        let last = layer == layers;
        let scale = if last { 1.0 / (layers + 1) as f32 } else { 1.0 };
        let (mut total, mut next) = (out.lines_mut(), space.next.lines_mut());
        let mut tasks = Vec::with_capacity(graph.pieces.len());
        for piece in &graph.pieces {
            let (t, n);
            (t, total) = total.split_at_mut(piece.len() * stride);
            (n, next) = next.split_at_mut(piece.len() * stride);
            tasks.push(Task { first: piece.start, next: (!last).then_some(n), total: t, kept: Vec::new() });
        }
        let work = Layer {
            graph,
            level,
            z: space.now.lines(),
            stride,
            wanted: wanted.filter(|_| last),
            filled: filled.as_ref().filter(|_| layer == 1),
            scale,
        };
        tasks.par_iter_mut().with_max_len(1).for_each(|task| work.run(task));
        std::mem::swap(&mut space.now, &mut space.next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use super::*;
    use proptest::prelude::*;

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Adjacency {
        let half = nodes / 2;
        let pairs: Vec<(u32, u32)> = edges
            .iter()
            .map(|&(a, b)| ((a % half) as u32, (half + b % (nodes - half)) as u32))
            .flat_map(|(a, b)| [(a, b), (b, a)])
            .collect();
        Adjacency::new(nodes, pairs.iter().copied()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn matches_the_definition(
            nodes in 2usize..40,
            edges in prop::collection::vec((0usize..100, 0usize..100), 0..200),
            dim in prop::sample::select(vec![1usize, 3, 16, 31, 64, 130, 160]),
            layers in 0usize..4,
            seed in 0u64..1000,
        ) {
            let graph = graph(nodes, &edges);
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let x: Vec<f32> = (0..nodes * dim).map(|_| rng.normal()).collect();
            let want = oracle::propagate(&graph, &x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), dim, layers);
            let (rows, mut out) = (Rows::from_packed(dim, &x), Rows::zeros(nodes, dim));
            propagate(&graph, &rows, layers, Sparse::No, &mut Workspace::new(nodes, dim), &mut out);
            for (i, (a, b)) in out.to_packed().iter().zip(&want).enumerate() {
                prop_assert!((f64::from(*a) - b).abs() <= 2e-6 * (1.0 + b.abs()), "value {} is {} and not {}", i, a, b);
            }
            prop_assert!((0..nodes).all(|r| out.row(r)[dim..].iter().all(|&v| v == 0.0)), "padding was written");
            // The active rows alone must be the same bits.
            let active: Vec<bool> = (0..nodes).map(|r| r % 3 == 0).collect();
            let mut some = Rows::zeros(nodes, dim);
            propagate(&graph, &rows, layers, Sparse::Outputs(&active), &mut Workspace::new(nodes, dim), &mut some);
            for r in (0..nodes).step_by(3) {
                prop_assert_eq!(some.row(r), out.row(r));
            }
            // Rows that are zero may be passed over.
            let mut few = rows.clone();
            (0..nodes).filter(|&r| !active[r]).for_each(|r| few.row_mut(r).fill(0.0));
            let want = oracle::propagate(&graph, &few.to_packed().iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), dim, layers);
            propagate(&graph, &few, layers, Sparse::Inputs(&active), &mut Workspace::new(nodes, dim), &mut some);
            for (a, b) in some.to_packed().iter().zip(&want) {
                prop_assert!((f64::from(*a) - b).abs() <= 2e-6 * (1.0 + b.abs()), "{} and not {}", a, b);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut rng = crate::rng::Rng::new(3, crate::rng::Use::Synthetic, 0, 0);
        let x: Vec<f32> = (0..50 * 64).map(|_| rng.normal()).collect();
        let x = Rows::from_packed(64, &x);
        for count in [0usize, 1, 2, 7, 33] {
            let columns: Vec<u32> = (0..count).map(|_| rng.below(50)).collect();
            let (mut a, mut b) = ([Lane::ZERO; 4], [Lane::ZERO; 4]);
            // SAFETY: columns are below 50, the rows of x.
            unsafe {
                sum(Level::Scalar, x.lines().as_ptr(), 4, &columns, &mut a);
                sum(level(), x.lines().as_ptr(), 4, &columns, &mut b);
            }
            assert_eq!(a, b, "{count} neighbours");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let edges: Vec<(usize, usize)> = (0..5000).map(|i| (i * 7 % 311, i * 13 % 197)).collect();
        let graph = graph(400, &edges);
        let mut rng = crate::rng::Rng::new(3, crate::rng::Use::Synthetic, 0, 0);
        let x: Vec<f32> = (0..400 * 32).map(|_| rng.normal()).collect();
        let x = Rows::from_packed(32, &x);
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut out = Rows::zeros(400, 32);
                propagate(&graph, &x, 3, Sparse::No, &mut Workspace::new(400, 32), &mut out);
                out
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn coefficients_of_a_graph_done_by_hand() {
        // 2 users, 2 items, edges u1-i1, u1-i2, u2-i2.
        let pairs = [(0, 2), (0, 3), (1, 3), (2, 0), (3, 0), (3, 1)];
        let graph = Adjacency::new(4, pairs.into_iter()).unwrap();
        let s = graph.inv_sqrt();
        let close = |a: f32, b: f32| assert!((a - b).abs() <= 1e-5, "{a} and not {b}");
        close(s[0] * s[2], std::f32::consts::FRAC_1_SQRT_2);
        close(s[0] * s[3], 0.5);
        close(s[1] * s[3], std::f32::consts::FRAC_1_SQRT_2);
    }

    #[test]
    fn repeats_are_dropped_and_strangers_refused() {
        let graph = Adjacency::new(2, [(0, 1), (1, 0), (0, 1), (1, 0)].into_iter()).unwrap();
        assert_eq!((graph.nnz(), graph.neighbours(0)), (2, &[1u32][..]));
        let error = Adjacency::new(2, [(0, 2)].into_iter()).unwrap_err();
        assert!(error.to_string().contains("outside the 2 nodes"), "{error}");
    }
}
