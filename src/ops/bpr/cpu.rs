//! Two parallel passes: scores and coefficients over triples, then gradients over touched rows.

use rayon::prelude::*;

use super::{Batch, Choice, Stream, UserItems};
use crate::error::Result;
use crate::ops::spmm::{LANE, Lines};
use crate::rng::Rng;
use crate::tensor::profile::timed;

/// No further entry in a row's list.
const END: u32 = u32::MAX;
/// Triples of one parallel piece.
const PIECE: usize = 128;

/// Draws a negative for each of `users`, each of whom lacks an item (checked by the caller).
pub(super) fn negatives(
    of: &UserItems<'_>,
    users: &[u32],
    stream: Stream,
    choice: Choice<'_>,
    out: &mut Vec<u32>,
) -> Result<()> {
    out.resize(users.len(), 0);
    let drawn = |rng: &mut Rng, taken: &[u32]| loop {
        let node = of.users as u32 + rng.below(of.items);
        if taken.binary_search(&node).is_err() {
            break node;
        }
    };
    let (candidates, rows) = match choice {
        Choice::Uniform => (1, None),
        Choice::Hardest { candidates, e } => (candidates, Some(e.lines()?)),
    };
    let _timed = rows.as_ref().map(|rows| timed("bpr", || super::hardest_cost(users.len(), candidates, rows.dim())));
    out.par_iter_mut().with_min_len(64).enumerate().for_each(|(i, negative)| {
        let (taken, mut rng) = (of.graph.neighbours(users[i] as usize), stream.of(i));
        *negative = drawn(&mut rng, taken);
        let Some(rows) = &rows else { return };
        let user = rows.row(users[i] as usize);
        let mut highest = dot(user, rows.row(*negative as usize));
        for _ in 1..candidates {
            let node = drawn(&mut rng, taken);
            let score = dot(user, rows.row(node as usize));
            if score > highest {
                (highest, *negative) = (score, node);
            }
        }
    });
    Ok(())
}

/// Buffers of the operator, kept between batches.
#[derive(Debug, Clone)]
pub(super) struct Bpr {
    pub(super) batch: Batch,
    head: Vec<u32>,
    next: Vec<u32>,
    touched: Vec<u32>,
    flags: Vec<bool>,
    weight: Vec<f32>,
    terms: Vec<Term>,
}

/// A triple's share: derivative by (s_neg - s_pos), and its part of the loss.
#[derive(Debug, Clone, Copy, Default)]
struct Term {
    slope: f32,
    loss: f64,
}

/// Rows that several threads write, each thread its own.
struct Shared(*mut f32);
// SAFETY: used only for disjoint rows, see `backward`.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// The range must be in bounds and nobody else may hold it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, r: usize, width: usize) -> &mut [f32] {
        // SAFETY: by contract.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(r * width), width) }
    }
}

/// Inner product in sixteen running sums, added up in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANE];
    for (a, b) in a.as_chunks::<LANE>().0.iter().zip(b.as_chunks::<LANE>().0) {
        for l in 0..LANE {
            sums[l] += a[l] * b[l];
        }
    }
    let mut half = LANE / 2;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}

impl Bpr {
    /// For graphs of `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            batch: Batch::default(),
            head: vec![END; nodes],
            next: Vec::new(),
            touched: Vec::new(),
            flags: vec![false; nodes],
            weight: vec![0.0; nodes],
            terms: Vec::new(),
        }
    }

    /// Registers [`Self::batch`]: afterwards [`active`](Self::active) says which output rows it
    /// reads.
    pub fn begin(&mut self, lambda: f32) {
        let batch = &self.batch;
        for &r in &self.touched {
            self.head[r as usize] = END;
            self.flags[r as usize] = false;
            self.weight[r as usize] = 0.0;
        }
        self.touched.clear();
        let size = batch.users.len();
        assert_eq!((batch.positives.len(), batch.negatives.len()), (size, size), "bpr: batch of unequal lists");
        self.next.clear();
        self.next.resize(3 * size, END);
        let penalty = lambda / size as f32;
        // From the back, so that every row's list runs in batch order.
        for entry in (0..3 * size).rev() {
            let list = [&batch.users, &batch.positives, &batch.negatives][entry % 3];
            let row = list[entry / 3] as usize;
            if !self.flags[row] {
                self.flags[row] = true;
                self.touched.push(row as u32);
            }
            self.weight[row] += 1.0;
            self.next[entry] = self.head[row];
            self.head[row] = entry as u32;
        }
        // Counted first: a popular item's many small terms would round one by one.
        for &row in &self.touched {
            self.weight[row as usize] *= penalty;
        }
    }

    /// One flag a node: the batch reads its output row.
    pub fn active(&self) -> &[bool] {
        &self.flags
    }

    /// One number a node: the penalty's gradient is this times the layer-0 row.
    pub fn penalty(&self) -> &[f32] {
        &self.weight
    }

    /// Loss of the batch that [`begin`](Self::begin) registered; writes the gradient by `e` into
    /// `gradient`, whose other rows become zero.
    pub fn backward(&mut self, e: &Lines, e0: &Lines, lambda: f32, gradient: &mut Lines) -> f64 {
        let batch = &self.batch;
        let _timed = timed("bpr", || super::cost(batch.users.len(), e.dim()));
        let size = batch.users.len();
        assert_eq!((e.rows(), e.dim()), (gradient.rows(), gradient.dim()), "bpr: gradient shape");
        assert_eq!((e.rows(), e.dim()), (e0.rows(), e0.dim()), "bpr: layer-0 shape");
        assert!(e.rows() == self.flags.len() && self.next.len() == 3 * size, "bpr: begin was given another batch");
        self.terms.clear();
        self.terms.resize(size, Term::default());
        let half_lambda = f64::from(lambda) / 2.0;
        self.terms.par_chunks_mut(PIECE).enumerate().for_each(|(piece, terms)| {
            for (i, term) in terms.iter_mut().enumerate() {
                let b = piece * PIECE + i;
                let rows = [batch.users[b] as usize, batch.positives[b] as usize, batch.negatives[b] as usize];
                let [user, positive, negative] = rows.map(|r| e.row(r));
                let x = f64::from(dot(user, negative)) - f64::from(dot(user, positive));
                let norms: f64 = rows.iter().map(|&r| f64::from(dot(e0.row(r), e0.row(r)))).sum();
                term.slope = (1.0 / (1.0 + (-x).exp()) / size as f64) as f32;
                term.loss = x.max(0.0) + (-x.abs()).exp().ln_1p() + half_lambda * norms;
            }
        });
        gradient.values_mut().par_chunks_mut(1 << 16).for_each(|v| v.fill(0.0));
        let width = gradient.lanes() * LANE;
        let shared = Shared(gradient.values_mut().as_mut_ptr());
        self.touched.par_iter().with_min_len(32).for_each(|&row| {
            // SAFETY: `touched` holds each row once (flags), and rows are below the rows of
            // `gradient`.
            let to = unsafe { shared.row(row as usize, width) };
            let mut entry = self.head[row as usize];
            while entry != END {
                let (b, role) = (entry as usize / 3, entry % 3);
                let c = self.terms[b].slope;
                let user = e.row(batch.users[b] as usize);
                match role {
                    0 => {
                        let (p, n) = (e.row(batch.positives[b] as usize), e.row(batch.negatives[b] as usize));
                        for ((to, p), n) in to.iter_mut().zip(p).zip(n) {
                            *to += c * (n - p);
                        }
                    }
                    role => {
                        let c = if role == 1 { -c } else { c };
                        for (to, u) in to.iter_mut().zip(user) {
                            *to += c * u;
                        }
                    }
                }
                entry = self.next[entry as usize];
            }
        });
        self.terms.iter().map(|t| t.loss).sum::<f64>() / size as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use crate::rng::Use;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    proptest! {
        #![proptest_config(crate::testing::cases(48))]
        #[test]
        fn matches_the_oracle(
            nodes in 1u32..30, dim in 1usize..40, size in 1usize..300, scale in 0.1f32..8.0, seed in 0u64..1000,
        ) {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let mut random = |scale: f32| -> Vec<f32> {
                (0..nodes as usize * dim).map(|_| rng.normal() * scale).collect()
            };
            let (e, e0) = (random(scale), random(0.5));
            let mut draw = || -> Vec<u32> { (0..size).map(|_| rng.below(nodes)).collect() };
            let batch = Batch { users: draw(), positives: draw(), negatives: draw() };
            let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let (loss, by_e, by_e0) = oracle::bpr(&wide(&e), &wide(&e0), dim, &batch, 0.1);
            let (rows, rows0) = (Lines::from_packed(dim, &e), Lines::from_packed(dim, &e0));
            let mut op = Bpr::new(nodes as usize);
            let mut gradient = Lines::from_packed(dim, &e);
            // A batch before this one must leave no trace.
            op.batch = Batch { users: vec![0; 5], positives: vec![0; 5], negatives: vec![0; 5] };
            op.begin(0.1);
            op.batch = batch;
            op.begin(0.1);
            let got = op.backward(&rows, &rows0, 0.1, &mut gradient);
            prop_assert!((got - loss).abs() <= 1e-5 * (1.0 + loss.abs()), "loss {} and not {}", got, loss);
            let gradient = gradient.to_packed();
            for i in 0..e.len() {
                let tolerance = 1e-5 * (1.0 + f64::from(scale));
                prop_assert!((f64::from(gradient[i]) - by_e[i]).abs() <= tolerance, "by e, {}", i);
                let penalty = f64::from(op.penalty()[i / dim]) * f64::from(e0[i]);
                prop_assert!((penalty - by_e0[i]).abs() <= 1e-6, "by e0, {}", i);
            }
        }
    }
}
