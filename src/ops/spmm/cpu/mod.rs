//! Gathers on the CPU: a row's sum lives in registers; AVX-512, AVX2 or plain code is chosen at run
//! time and gives the same bits.

// Fixed-width loops over several arrays at once read best, and vectorise, with an index.
#![allow(clippy::needless_range_loop)]

mod filter;
mod stored;

use bytemuck::Zeroable;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Adjacency, LANE, Lane, Lines};
use crate::tensor::profile::timed;
use crate::tensor::simd::{Level, level};
use filter::{Bits, filter};
use stored::{Pair, Stored};

/// Lanes summed in one go; wider rows are done in blocks of columns.
const BLOCK: usize = 8;

/// How neighbours' rows are kept between the layers. Input, sums and result are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In 32 bits.
    #[default]
    F32,
    /// In 16 bits: half the bytes to gather; each gathered value is within 1/256 of itself.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

/// Buffers of [`propagate`], kept between calls.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    nodes: usize,
    dim: usize,
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
    F32(Layers<Lane>),
    Bf16(Layers<Pair>),
}

/// The rows that a layer reads, and those that it writes.
#[derive(Debug, Clone)]
struct Layers<S> {
    now: Vec<S>,
    next: Vec<S>,
}

impl<S: Stored> Layers<S> {
    fn new(nodes: usize, lanes: usize) -> Self {
        let lines = nodes * lanes.div_ceil(S::LANES);
        Self { now: vec![S::zeroed(); lines], next: vec![S::zeroed(); lines] }
    }
}

impl Workspace {
    /// For `nodes` rows of width `dim`.
    pub fn new(nodes: usize, dim: usize, precision: Precision) -> Self {
        let lanes = dim.div_ceil(LANE);
        let kept = match precision {
            Precision::F32 => Kept::F32(Layers::new(nodes, lanes)),
            Precision::Bf16 => Kept::Bf16(Layers::new(nodes, lanes)),
        };
        Self { nodes, dim, kept }
    }

    pub(super) fn precision(&self) -> Precision {
        match self.kept {
            Kept::F32(_) => Precision::F32,
            Kept::Bf16(_) => Precision::Bf16,
        }
    }
}

/// [`super::Sparse`] with flags that lie on the CPU.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sparse<'a> {
    pub outputs: Option<&'a [bool]>,
    pub inputs: Option<&'a [bool]>,
}

/// One piece of rows of one layer.
struct Task<'a, S> {
    first: usize,
    next: Option<&'a mut [S]>,
    total: &'a mut [Lane],
    /// Room for the neighbours of one row that are not zero.
    kept: Vec<u32>,
}

struct Layer<'a, S> {
    graph: &'a Adjacency,
    level: Level,
    z: &'a [S],
    /// Lanes of a row.
    lanes: usize,
    /// Values of a row's last lane that mean something.
    last: usize,
    /// Lines of a row of `z`.
    lines: usize,
    /// Rows that are wanted.
    wanted: Option<&'a [bool]>,
    /// Rows of `z` that are not zero.
    filled: Option<&'a Bits>,
    scale: f32,
}

impl<S: Stored> Layer<'_, S> {
    /// Lines `offset .. offset + N` of every row of `task`.
    fn columns<const N: usize>(&self, task: &mut Task<'_, S>, offset: usize) {
        let mut sums = [S::Lanes::zeroed(); N];
        // The last line of a row may hold fewer lanes than it could.
        let from = offset * S::LANES;
        let lanes = (self.lanes - from).min(N * S::LANES);
        for (i, total) in task.total.chunks_exact_mut(self.lanes).enumerate() {
            let r = task.first + i;
            if self.wanted.is_some_and(|wanted| !wanted[r]) {
                continue;
            }
            let mut neighbours = self.graph.neighbours(r);
            if let Some(filled) = self.filled {
                if task.kept.len() < neighbours.len() + 16 {
                    task.kept.resize(neighbours.len() + 16, 0);
                }
                // SAFETY: Adjacency holds columns < nodes, and there is a bit a node (asserted in
                // `propagate`).
                neighbours = unsafe { filter(self.level, filled, neighbours, &mut task.kept) };
            }
            // SAFETY: Adjacency holds columns < nodes, `z` has nodes * lines lines (asserted in
            // `propagate`), and offset + N <= lines.
            unsafe { S::sum(self.level, self.z.as_ptr().add(offset), self.lines, neighbours, &mut sums) };
            let sums = &mut bytemuck::cast_slice_mut::<_, Lane>(&mut sums)[..lanes];
            if S::LANES > 1 && from + lanes == self.lanes {
                // A zero beside another value does not read as zero, and padding must.
                sums[lanes - 1].0[self.last..].fill(0.0);
            }
            let s = self.graph.inv_sqrt()[r];
            for (total, sum) in total[from..from + lanes].iter_mut().zip(&*sums) {
                for l in 0..LANE {
                    total.0[l] = (total.0[l] + sum.0[l] * s) * self.scale;
                }
            }
            if let Some(next) = &mut task.next {
                for sum in &mut *sums {
                    for l in 0..LANE {
                        sum.0[l] *= s * s;
                    }
                }
                S::put(self.level, sums, &mut next[i * self.lines + offset..][..N]);
            }
        }
    }

    fn run(&self, task: &mut Task<'_, S>) {
        let mut offset = 0;
        while offset < self.lines {
            let width = (self.lines - offset).min(BLOCK / S::LANES);
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

/// As [`super::propagate`], which has checked the shapes.
pub(super) fn propagate(
    graph: &Adjacency,
    x: &Lines,
    layers: usize,
    sparse: Sparse<'_>,
    space: &mut Workspace,
    out: &mut Lines,
) {
    let _timed = timed("spmm", || super::cost(graph, x.dim(), layers, space.precision()));
    for (what, rows, dim) in
        [("x", x.rows(), x.dim()), ("out", out.rows(), out.dim()), ("workspace", space.nodes, space.dim)]
    {
        assert_eq!((rows, dim), (graph.nodes(), x.dim()), "propagate: {what} is not nodes x dim");
    }
    match &mut space.kept {
        Kept::F32(kept) => through(graph, x, layers, sparse, kept, out),
        Kept::Bf16(kept) => through(graph, x, layers, sparse, kept, out),
    }
}

/// [`propagate`] with one form of the kept rows.
fn through<S: Stored>(
    graph: &Adjacency,
    x: &Lines,
    layers: usize,
    sparse: Sparse<'_>,
    kept: &mut Layers<S>,
    out: &mut Lines,
) {
    let (nodes, lanes) = (graph.nodes(), x.lanes());
    let lines = lanes.div_ceil(S::LANES);
    assert!(kept.now.len() == nodes * lines && kept.next.len() == nodes * lines);
    let Sparse { outputs: wanted, inputs: filled } = sparse;
    assert!([wanted, filled].iter().flatten().all(|f| f.len() == nodes), "propagate: not one flag a node");
    let filled = filled.map(Bits::new);
    out.lines_mut().copy_from_slice(x.lines());
    if layers == 0 || lanes == 0 {
        return;
    }
    let level = level();
    kept.now.par_chunks_mut(lines * 256).enumerate().for_each(|(chunk, rows)| {
        let mut scaled = vec![Lane::ZERO; lanes];
        for (i, row) in rows.chunks_exact_mut(lines).enumerate() {
            let (r, s) = (chunk * 256 + i, graph.inv_sqrt()[chunk * 256 + i]);
            for (to, from) in scaled.iter_mut().zip(&x.lines()[r * lanes..(r + 1) * lanes]) {
                for l in 0..LANE {
                    to.0[l] = from.0[l] * s;
                }
            }
            S::put(level, &scaled, row);
        }
    });
    for layer in 1..=layers {
        let last = layer == layers;
        let scale = if last { 1.0 / (layers + 1) as f32 } else { 1.0 };
        let (mut total, mut next) = (out.lines_mut(), kept.next.as_mut_slice());
        let mut tasks = Vec::with_capacity(graph.pieces.len());
        for piece in &graph.pieces {
            let (t, n);
            (t, total) = total.split_at_mut(piece.len() * lanes);
            (n, next) = next.split_at_mut(piece.len() * lines);
            tasks.push(Task { first: piece.start, next: (!last).then_some(n), total: t, kept: Vec::new() });
        }
        let work = Layer {
            graph,
            level,
            z: &kept.now,
            lanes,
            last: x.dim() - (lanes - 1) * LANE,
            lines,
            wanted: wanted.filter(|_| last),
            filled: filled.as_ref().filter(|_| layer == 1),
            scale,
        };
        tasks.par_iter_mut().with_max_len(1).for_each(|task| work.run(task));
        std::mem::swap(&mut kept.now, &mut kept.next);
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

    /// What rounding may do: f32 sums, and 1/256 of every value gathered, once a layer.
    fn bound(graph: &Adjacency, x: &[f32], dim: usize, layers: usize, precision: Precision) -> Vec<f64> {
        let size: Vec<f64> = x.iter().map(|v| f64::from(v.abs())).collect();
        let rounding = if precision == Precision::Bf16 { 1.02 * layers as f64 / 256.0 } else { 0.0 };
        let sums = oracle::propagate(graph, &size, dim, layers);
        sums.iter().map(|s| rounding * s + 2e-6 * (1.0 + s)).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| f64::from(v)).collect()
    }

    proptest! {
        #![proptest_config(crate::testing::cases(96))]
        #[test]
        fn matches_the_definition(
            nodes in 2usize..40,
            edges in prop::collection::vec((0usize..100, 0usize..100), 0..200),
            dim in prop::sample::select(vec![1usize, 3, 16, 20, 31, 48, 64, 130, 160]),
            layers in 0usize..4,
            seed in 0u64..1000,
            precision in prop::sample::select(vec![Precision::F32, Precision::Bf16]),
        ) {
            let graph = graph(nodes, &edges);
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let x: Vec<f32> = (0..nodes * dim).map(|_| rng.normal()).collect();
            let near = |got: &Lines, x: &[f32]| -> Result<(), TestCaseError> {
                let want = oracle::propagate(&graph, &wide(x), dim, layers);
                let bound = bound(&graph, x, dim, layers, precision);
                for (i, (a, b)) in got.to_packed().iter().zip(&want).enumerate() {
                    prop_assert!((f64::from(*a) - b).abs() <= bound[i], "value {} is {} and not {}", i, a, b);
                }
                prop_assert!((0..nodes).all(|r| got.row(r)[dim..].iter().all(|&v| v == 0.0)), "padding was written");
                Ok(())
            };
            let mut space = Workspace::new(nodes, dim, precision);
            let (rows, mut out) = (Lines::from_packed(dim, &x), Lines::zeros(nodes, dim));
            propagate(&graph, &rows, layers, Sparse::default(), &mut space, &mut out);
            near(&out, &x)?;
            // The active rows alone must be the same bits.
            let active: Vec<bool> = (0..nodes).map(|r| r % 3 == 0).collect();
            let mut some = Lines::zeros(nodes, dim);
            propagate(&graph, &rows, layers, Sparse { outputs: Some(&active), inputs: None }, &mut space, &mut some);
            for r in (0..nodes).step_by(3) {
                prop_assert_eq!(some.row(r), out.row(r));
            }
            // Rows that are zero may be passed over.
            let mut few = rows.clone();
            (0..nodes).filter(|&r| !active[r]).for_each(|r| few.row_mut(r).fill(0.0));
            propagate(&graph, &few, layers, Sparse { outputs: None, inputs: Some(&active) }, &mut space, &mut some);
            near(&some, &few.to_packed())?;
        }
    }

    /// Half the bits are not all the bits: the two forms must differ, or the option does nothing.
    #[test]
    fn sixteen_bits_round() {
        let graph = graph(40, &[(1, 2), (3, 4), (1, 5), (6, 2)]);
        let mut rng = crate::rng::Rng::new(3, crate::rng::Use::Synthetic, 0, 0);
        let x: Vec<f32> = (0..40 * 32).map(|_| rng.normal()).collect();
        let x = Lines::from_packed(32, &x);
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
            let mut out = Lines::zeros(40, 32);
            propagate(&graph, &x, 2, Sparse::default(), &mut Workspace::new(40, 32, precision), &mut out);
            out
        });
        assert_ne!(exact, rounded);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let edges: Vec<(usize, usize)> = (0..5000).map(|i| (i * 7 % 311, i * 13 % 197)).collect();
        let graph = graph(400, &edges);
        let mut rng = crate::rng::Rng::new(3, crate::rng::Use::Synthetic, 0, 0);
        let x: Vec<f32> = (0..400 * 32).map(|_| rng.normal()).collect();
        let x = Lines::from_packed(32, &x);
        let run = |threads: usize, precision| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut out = Lines::zeros(400, 32);
                propagate(&graph, &x, 3, Sparse::default(), &mut Workspace::new(400, 32, precision), &mut out);
                out
            })
        };
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(run(1, precision), run(3, precision));
        }
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
