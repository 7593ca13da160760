//! Bayesian personalised ranking (Rendle et al. 2009) on a batch of triples (user, positive,
//! negative): `loss = mean softplus(s_neg - s_pos) + lambda/(2 B) * sum (|e0_user|^2 + |e0_pos|^2 +
//! |e0_neg|^2)`, scores being inner products of output rows `e`, the penalty on the layer-0 rows
//! `e0`.
//!
//! Gives the gradient of the first term with respect to `e`, only in touched rows, and a weight a
//! row for the second, whose gradient is `weight[r] * e0[r]`. Contributions to a row are added in
//! batch order by one thread, so the bits do not depend on the number of threads.
//!
//! The negative of a triple is drawn uniformly, or it is the one of several that scores highest
//! ([`Choice`]).
//!
//! A batch is set first ([`Bpr::given`], [`Bpr::drawn`]): then it is known which rows it reads, and
//! the propagation that makes `e` may leave out the others.
//!
//! Cost: about `14 B d` FLOP and `24 B d` bytes of gathers.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

use super::spmm::{Adjacency, At, Flags, Nodes};
use crate::device::{Buffer, Device, Place, mixed};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::tensor::Cost;

/// A batch; node ids share one space (users first, then items).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Users.
    pub users: Vec<u32>,
    /// An item the user has an edge to.
    pub positives: Vec<u32>,
    /// An item the user has no edge to.
    pub negatives: Vec<u32>,
}

/// Which draws the negatives of a batch are: triple `i` takes those of `(seed, epoch, first + i)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Of the run.
    pub seed: u64,
    /// From 1.
    pub epoch: u32,
    /// Number of the batch's first edge in the epoch's order.
    pub first: u32,
}

impl Stream {
    fn of(self, triple: usize) -> Rng {
        Rng::new(self.seed, Use::Negative, self.epoch, self.first.wrapping_add(triple as u32))
    }
}

/// What items each user has, at the place where negatives are drawn.
#[derive(Debug)]
pub struct UserItems<'a> {
    graph: &'a Adjacency,
    users: usize,
    items: u32,
    on_device: Option<kernel::DeviceItems>,
}

impl<'a> UserItems<'a> {
    /// Of a graph whose first `users` nodes are users and the next `items` items. Items beyond the
    /// graph's nodes belong to nobody.
    ///
    /// # Errors
    /// More users than nodes, no items, a device without room.
    pub fn new(device: &Device, graph: &'a Adjacency, users: usize, items: usize) -> Result<Self> {
        let count = u32::try_from(items).ok().filter(|&n| n > 0 && u32::try_from(users + items).is_ok());
        let (Some(count), true) = (count, users <= graph.nodes()) else {
            let what = format!("{users} users and {items} items of a graph of {} nodes", graph.nodes());
            return Err(Error::failed("bpr", what));
        };
        let on_device = match device {
            Device::Cpu => None,
            Device::Kernels(device) => {
                let (mut starts, mut nodes) = (vec![0u64], Vec::new());
                for user in 0..users {
                    nodes.extend_from_slice(graph.neighbours(user));
                    starts.push(nodes.len() as u64);
                }
                Some(kernel::DeviceItems::new(device, &starts, &nodes, users as u32, count)?)
            }
        };
        Ok(Self { graph, users, items: count, on_device })
    }

    /// Whether a negative exists for each of `users`.
    fn all_lack_one(&self, users: &[u32]) -> Result<()> {
        let lacks = |u: u32| (u as usize) < self.users && self.graph.neighbours(u as usize).len() < self.items as usize;
        match users.iter().find(|&&u| !lacks(u)) {
            None => Ok(()),
            Some(u) => Err(Error::failed("bpr", format!("user {u} is unknown, or has every item: no negative exists"))),
        }
    }
}

/// Which of the items that a user lacks becomes the negative.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// One at random, each as likely as the others.
    Uniform,
    /// Of so many at random the one with the highest score: dynamic negative sampling (Zhang et al.
    /// 2013). It is what the user would be shown by mistake, so there is more to learn from it.
    Hardest {
        /// How many are drawn, at least 1.
        candidates: u32,
        /// The rows whose inner products are the scores, one a node.
        e: &'a Nodes,
    },
}

impl Choice<'_> {
    /// The scores exist for every user and item, at the place where they are read.
    fn check(&self, device: &Device, of: &UserItems<'_>) -> Result<()> {
        let Choice::Hardest { candidates, e } = self else { return Ok(()) };
        if *candidates == 0 || e.rows() < of.users + of.items as usize {
            let what = format!("{candidates} candidates among {} rows for {} items", e.rows(), of.items);
            return Err(Error::failed("bpr", what));
        }
        let same = matches!(device, Device::Cpu) == matches!(e.at, At::Cpu(_));
        if !same { Err(mixed("bpr", &[Place::of(device), e.place()])) } else { Ok(()) }
    }

    fn cost(&self, n: usize) -> Cost {
        match self {
            Choice::Uniform => negatives_cost(n),
            Choice::Hardest { candidates, e } => hardest_cost(n, *candidates, e.dim()),
        }
    }
}

/// Negatives of a batch's users: nodes of items that the user has no edge to.
///
/// # Errors
/// A user who has every item, lists or rows at another place, a device that fails.
pub fn negatives(
    device: &Device,
    of: &UserItems<'_>,
    users: &[u32],
    stream: Stream,
    choice: Choice<'_>,
) -> Result<(Vec<u32>, Cost)> {
    of.all_lack_one(users)?;
    choice.check(device, of)?;
    match (device, &of.on_device) {
        (Device::Cpu, None) => {
            let mut out = Vec::new();
            cpu::negatives(of, users, stream, choice, &mut out)?;
            Ok((out, choice.cost(users.len())))
        }
        (Device::Kernels(device), Some(lists)) => {
            let mut batch = kernel::DeviceBatch::new(device, users, users)?;
            let cost = kernel::chosen(lists, &mut batch, stream, choice)?;
            Ok((device.download(&batch.negatives)?, cost))
        }
        _ => Err(Error::failed("bpr", "the users' items lie on another device")),
    }
}

/// Buffers of the operator at the place where it works, with the batch that it was given last.
#[derive(Debug)]
pub struct Bpr {
    nodes: usize,
    lambda: f32,
    at: Buffers,
}

#[expect(clippy::large_enum_variant, reason = "few of them live at a time, and none is moved in a loop")]
#[derive(Debug)]
enum Buffers {
    Cpu(Box<cpu::Bpr>),
    Kernels { batch: Option<kernel::DeviceBatch>, weights: Buffer<f32>, active: Buffer<u32> },
}

/// A factor for each row: the penalty's gradient is this times the layer-0 row.
#[derive(Debug, Clone, Copy)]
pub enum Penalty<'a> {
    /// On the CPU.
    Cpu(&'a [f32]),
    /// On a device.
    Kernels(&'a Buffer<f32>),
}

impl Bpr {
    /// For graphs of `nodes` nodes and a penalty of this weight.
    ///
    /// # Errors
    /// A device without room.
    pub fn new(device: &Device, nodes: usize, lambda: f32) -> Result<Self> {
        let at = match device {
            Device::Cpu => Buffers::Cpu(Box::new(cpu::Bpr::new(nodes))),
            Device::Kernels(device) => Buffers::Kernels {
                batch: None,
                weights: device.zeros(nodes, "penalty")?,
                active: device.zeros(nodes.div_ceil(32), "active rows")?,
            },
        };
        Ok(Self { nodes, lambda, at })
    }

    /// Sets the batch.
    ///
    /// # Errors
    /// Lists of different lengths, nodes that do not exist, a device without room.
    pub fn given(&mut self, batch: &Batch) -> Result<()> {
        let (n, nodes) = (batch.users.len(), self.nodes);
        let lists = [&batch.users, &batch.positives, &batch.negatives];
        let inside = lists.iter().all(|l| l.len() == n && l.iter().all(|&node| (node as usize) < nodes));
        if !inside || n > u32::MAX as usize / 4 {
            return Err(Error::failed("bpr", format!("lists of unequal length, or nodes beyond the {nodes}")));
        }
        match &mut self.at {
            Buffers::Cpu(op) => {
                op.batch.clone_from(batch);
                op.begin(self.lambda);
            }
            Buffers::Kernels { batch: on_device, weights, active } => {
                let device = weights.device().clone();
                let mut triples = kernel::DeviceBatch::new(&device, &batch.users, &batch.positives)?;
                device.write(&mut triples.negatives, &batch.negatives)?;
                kernel::mark(&triples, active)?;
                *on_device = Some(triples);
            }
        }
        Ok(())
    }

    /// Sets the batch of these users and positives, and draws its negatives where they are wanted.
    ///
    /// # Errors
    /// As [`negatives`] and [`given`](Self::given).
    pub fn drawn(
        &mut self,
        of: &UserItems<'_>,
        users: &[u32],
        positives: &[u32],
        stream: Stream,
        choice: Choice<'_>,
    ) -> Result<Cost> {
        of.all_lack_one(users)?;
        match &self.at {
            Buffers::Cpu(_) => choice.check(&Device::Cpu, of)?,
            Buffers::Kernels { weights, .. } => choice.check(&Device::Kernels(weights.device().clone()), of)?,
        }
        let (n, nodes) = (users.len(), self.nodes);
        let known = users.iter().chain(positives).all(|&node| (node as usize) < nodes);
        if positives.len() != n || n > u32::MAX as usize / 4 || !known || of.users + of.items as usize > nodes {
            return Err(Error::failed("bpr", format!("lists of unequal length, or nodes beyond the {nodes}")));
        }
        match (&mut self.at, &of.on_device) {
            (Buffers::Cpu(op), None) => {
                op.batch.users.clear();
                op.batch.users.extend_from_slice(users);
                op.batch.positives.clear();
                op.batch.positives.extend_from_slice(positives);
                cpu::negatives(of, users, stream, choice, &mut op.batch.negatives)?;
                op.begin(self.lambda);
                Ok(choice.cost(n))
            }
            (Buffers::Kernels { batch, weights, active }, Some(lists)) => {
                let mut triples = kernel::DeviceBatch::new(weights.device(), users, positives)?;
                let mut cost = kernel::chosen(lists, &mut triples, stream, choice)?;
                cost += kernel::mark(&triples, active)?;
                *batch = Some(triples);
                Ok(cost)
            }
            _ => Err(Error::failed("bpr", "the users' items lie on another device")),
        }
    }

    /// One flag a node, whether the batch that was set reads its output row.
    pub fn active(&self) -> Flags<'_> {
        match &self.at {
            Buffers::Cpu(op) => Flags::Cpu(op.active()),
            Buffers::Kernels { active, .. } => Flags::Kernels(active),
        }
    }

    /// The penalty's factors, after [`backward`].
    pub fn penalty(&self) -> Penalty<'_> {
        match &self.at {
            Buffers::Cpu(op) => Penalty::Cpu(op.penalty()),
            Buffers::Kernels { weights, .. } => Penalty::Kernels(weights),
        }
    }
}

/// Loss of the batch; writes its gradient by `e` into `gradient`, whose other rows become zero, and
/// keeps the penalty's factors ([`Bpr::penalty`]). `e` may be stored in bf16 on a device with
/// kernels.
///
/// # Errors
/// Rows of other shapes or at another place; no batch; a device that fails.
pub fn backward(device: &Device, op: &mut Bpr, e: &Nodes, e0: &Nodes, gradient: &mut Nodes) -> Result<(f64, Cost)> {
    let (shape, lambda) = ((op.nodes, e.dim()), op.lambda);
    if [(e.rows(), e.dim()), (e0.rows(), e0.dim()), (gradient.rows(), gradient.dim())] != [shape; 3] {
        return Err(Error::failed("bpr", format!("e, e0 or the gradient is not {} x {}", shape.0, shape.1)));
    }
    let places = [Place::of(device), e.place(), e0.place(), gradient.place()];
    match (device, &mut op.at, &e.at, &e0.at, &mut gradient.at) {
        (Device::Cpu, Buffers::Cpu(op), At::Cpu(e), At::Cpu(e0), At::Cpu(gradient)) => {
            let cost = cost(op.batch.users.len(), e.dim());
            Ok((op.backward(e, e0, lambda, gradient), cost))
        }
        (
            Device::Kernels(_),
            Buffers::Kernels { batch: Some(batch), weights, .. },
            e,
            At::F32(e0),
            At::F32(gradient),
        ) => match e {
            At::F32(e) => kernel::backward(batch, e, e0, lambda, gradient, weights),
            At::Bf16(e) => kernel::backward(batch, e, e0, lambda, gradient, weights),
            At::Cpu(_) => Err(mixed("bpr", &places)),
        },
        (Device::Kernels(_), Buffers::Kernels { batch: None, .. }, ..) => Err(Error::failed("bpr", "no batch was set")),
        _ => Err(mixed("bpr", &places)),
    }
}

/// Cost of one batch of `n` triples at width `dim`.
pub fn cost(n: usize, dim: usize) -> Cost {
    Cost { bytes: 24.0 * (n * dim) as f64, flops: 14.0 * (n * dim) as f64 }
}

/// Cost of [`negatives`] for `n` triples.
pub fn negatives_cost(n: usize) -> Cost {
    Cost { bytes: 32.0 * n as f64, flops: 0.0 }
}

/// Cost of the hardest of `candidates` for `n` triples at width `dim`: each row is gathered once.
pub fn hardest_cost(n: usize, candidates: u32, dim: usize) -> Cost {
    let (n, m, d) = (n as f64, f64::from(candidates), dim as f64);
    Cost { bytes: n * (32.0 * m + 4.0 * (m + 1.0) * d), flops: 2.0 * n * m * d }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User 0 has 7 of 8 items, user 1 all, user 2 two.
    fn graph() -> Adjacency {
        let edges = (0..7).map(|i| (0, i)).chain((0..8).map(|i| (1, i))).chain([(2, 0), (2, 5)]);
        let both = edges.flat_map(|(u, i)| [(u, 3 + i), (3 + i, u)]).collect::<Vec<(u32, u32)>>();
        Adjacency::new(11, both.into_iter()).unwrap()
    }

    #[test]
    fn negatives_are_uniform_over_free_items_and_exist() {
        let graph = graph();
        let of = UserItems::new(&Device::Cpu, &graph, 3, 8).unwrap();
        let stream = Stream { seed: 9, epoch: 0, first: 0 };
        let mut count = [0u32; 11];
        for node in negatives(&Device::Cpu, &of, &[2; 12_000], stream, Choice::Uniform).unwrap().0 {
            count[node as usize] += 1;
        }
        for (node, &n) in count.iter().enumerate().skip(3) {
            let free = node != 3 && node != 8;
            assert!(if free { (1800..2200).contains(&n) } else { n == 0 }, "node {node} drawn {n} times");
        }
        let only = negatives(&Device::Cpu, &of, &[0; 9], stream, Choice::Uniform).unwrap().0;
        assert_eq!(only, [3 + 7; 9], "user 0 has one free item");
        assert!(
            negatives(&Device::Cpu, &of, &[2, 1], stream, Choice::Uniform).unwrap_err().to_string().contains("user 1")
        );
        assert!(negatives(&Device::Cpu, &of, &[3], stream, Choice::Uniform).is_err(), "no such user");
        assert!(
            UserItems::new(&Device::Cpu, &graph, 12, 1).is_err() && UserItems::new(&Device::Cpu, &graph, 3, 0).is_err()
        );
    }

    #[test]
    fn the_hardest_of_the_candidates_is_taken_and_of_one_it_is_the_uniform_one() {
        let graph = graph();
        let of = UserItems::new(&Device::Cpu, &graph, 3, 8).unwrap();
        let stream = Stream { seed: 9, epoch: 0, first: 0 };
        // The score of an item for user 2 is its number.
        let values: Vec<f32> = (0..11).map(|node| if node < 3 { 1.0 } else { node as f32 }).collect();
        let e = Nodes::from_lines(&Device::Cpu, super::super::spmm::Lines::from_packed(1, &values), "e").unwrap();
        let users = [2; 4000];
        let drawn = |choice| negatives(&Device::Cpu, &of, &users, stream, choice).unwrap().0;
        assert_eq!(drawn(Choice::Hardest { candidates: 1, e: &e }), drawn(Choice::Uniform));
        // The largest of 4 among nodes 4 to 7, 9 and 10 with equal chances.
        let mut count = [0.0; 11];
        drawn(Choice::Hardest { candidates: 4, e: &e }).iter().for_each(|&node| count[node as usize] += 1.0 / 4000.0);
        for (place, node) in [4, 5, 6, 7, 9, 10].into_iter().enumerate() {
            let at_most = |n: usize| (n as f64 / 6.0).powi(4);
            let want = at_most(place + 1) - at_most(place);
            // Five standard deviations.
            let tolerance = 5.0 * (want * (1.0 - want) / 4000.0_f64).sqrt();
            assert!((count[node] - want).abs() <= tolerance, "node {node}: {} and not {want}", count[node]);
        }
        let few = Nodes::zeros(&Device::Cpu, 10, 1, "few").unwrap();
        for (candidates, e) in [(0, &e), (2, &few)] {
            assert!(negatives(&Device::Cpu, &of, &users, stream, Choice::Hardest { candidates, e }).is_err());
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let mut op = Bpr::new(&Device::Cpu, 4, 0.1).unwrap();
        let batch = |users: &[u32]| Batch { users: users.to_vec(), positives: vec![2], negatives: vec![3] };
        assert!(op.given(&batch(&[0, 1])).is_err() && op.given(&batch(&[4])).is_err());
        op.given(&batch(&[0])).unwrap();
        let rows = |n, dim| Nodes::zeros(&Device::Cpu, n, dim, "rows").unwrap();
        let (e, mut to) = (rows(4, 3), rows(4, 3));
        assert!(backward(&Device::Cpu, &mut op, &e, &rows(4, 2), &mut to).is_err());
        assert!(backward(&Device::Cpu, &mut op, &e, &e, &mut rows(5, 3)).is_err());
        let host = Device::Kernels(crate::device::KernelDevice::host(0));
        assert!(backward(&host, &mut op, &e, &e, &mut to).unwrap_err().to_string().contains("different places"));
        assert!(backward(&Device::Cpu, &mut op, &e, &e, &mut to).is_ok());
    }
}
