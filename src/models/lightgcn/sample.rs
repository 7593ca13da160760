//! Order of the edges of an epoch and the stream of its negatives, a pure function of (seed,
//! epoch).

use super::{Draw, Graph};
use crate::data::UserIdx;
use crate::error::{Error, Result};
use crate::ops::bpr::{Batch, Stream};
use crate::rng::{Rng, Use};

/// Batches of triples: every edge once an epoch in a shuffled order, each with one negative drawn
/// uniformly from the items its user has no edge to. Where edges weigh, or users are drawn
/// ([`Draw::Users`]), an epoch has as many triples, and each edge stands in it as often as its
/// share of the weight says, rounded up or down at random.
#[derive(Debug, Clone)]
pub struct Sampler<'a> {
    graph: &'a Graph,
    usable: Vec<u32>,
    seed: u64,
    draw: Draw,
}

/// One epoch's order.
#[derive(Debug, Clone)]
pub struct Order {
    epoch: u32,
    edges: Vec<u32>,
}

impl<'a> Sampler<'a> {
    /// Leaves out edges of users who have an edge to every item: no negative exists for them.
    pub fn new(graph: &'a Graph, seed: u64, draw: Draw) -> Result<Self> {
        let free = |n: &u32| graph.nodes_of(UserIdx(graph.edge(*n as usize).0)).len() < graph.items();
        let edges = u32::try_from(graph.edges()).map_err(|_| Error::input("graph", "more than 2^32 edges"))?;
        let usable: Vec<u32> = (0..edges).filter(free).collect();
        if usable.is_empty() {
            return Err(Error::input("graph", "every user has an edge to every item, so nothing can be ranked")
                .next("use more items or a smaller training split"));
        }
        Ok(Self { graph, usable, seed, draw })
    }

    /// Edges that take part.
    pub fn edges(&self) -> usize {
        self.usable.len()
    }

    /// Edges left out.
    pub fn left_out(&self) -> usize {
        self.graph.edges() - self.usable.len()
    }

    /// Steps an epoch.
    pub fn steps(&self, batch: usize) -> usize {
        self.usable.len().div_ceil(batch)
    }

    /// The shuffled order of `epoch`.
    pub fn order(&self, epoch: u32) -> Order {
        let each_once = self.draw == Draw::Pairs && self.graph.weights().is_empty();
        let mut edges = if each_once { self.usable.clone() } else { self.drawn(epoch) };
        Rng::new(self.seed, Use::Shuffle, epoch, 0).shuffle(&mut edges);
        Order { epoch, edges }
    }

    /// As many edges as can be drawn, each about as often as its share of the weight says.
    fn drawn(&self, epoch: u32) -> Vec<u32> {
        let of_user = match self.draw {
            Draw::Pairs => Vec::new(),
            Draw::Users => self.weight_of_users(),
        };
        let weight = |edge: u32| match self.draw {
            Draw::Pairs => self.weight(edge),
            Draw::Users => self.weight(edge) / of_user[self.graph.edge(edge as usize).0 as usize],
        };
        let step = self.usable.iter().map(|&edge| weight(edge)).sum::<f64>() / self.usable.len() as f64;
        let mut rng = Rng::new(self.seed, Use::Shuffle, epoch, 1);
        // Points at equal distances on the line of all weights, from a random first one.
        let mut next = step * rng.uniform_f64();
        let (mut end, mut edges) = (0.0, Vec::with_capacity(self.usable.len()));
        for &edge in &self.usable {
            end += weight(edge);
            while next < end && edges.len() < self.usable.len() {
                edges.push(edge);
                next += step;
            }
        }
        // Rounding may leave the last point beyond the line.
        edges.resize(self.usable.len(), self.usable[self.usable.len() - 1]);
        edges
    }

    /// What an edge weighs: 1 where none has a weight.
    fn weight(&self, edge: u32) -> f64 {
        self.graph.weights().get(edge as usize).map_or(1.0, |w| f64::from(*w))
    }

    /// The weight of each user's usable edges together; 0 for a user who has none.
    fn weight_of_users(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.graph.users()];
        for &edge in &self.usable {
            sums[self.graph.edge(edge as usize).0 as usize] += self.weight(edge);
        }
        sums
    }

    /// Users and positives of batch number `step` of size `size`, the epoch's last one shorter; and
    /// the stream that its negatives are drawn from.
    pub fn batch(&self, order: &Order, step: usize, size: usize, out: &mut Batch) -> Stream {
        let from = (step * size).min(order.edges.len());
        let edges = &order.edges[from..(from + size).min(order.edges.len())];
        out.users.clear();
        out.positives.clear();
        out.negatives.clear();
        for &n in edges {
            let (user, item) = self.graph.edge(n as usize);
            out.users.push(user);
            out.positives.push(item);
        }
        Stream { seed: self.seed, epoch: order.epoch, first: from as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ItemIdx;
    use crate::device::Device;
    use crate::ops::bpr::{self, Choice, UserItems};

    fn graph() -> Graph {
        // User 0 has 7 of 8 items, user 1 has all, user 2 has two.
        let mut edges: Vec<_> = (0..7).map(|i| (UserIdx(0), ItemIdx(i))).collect();
        edges.extend((0..8).map(|i| (UserIdx(1), ItemIdx(i))));
        edges.extend([(UserIdx(2), ItemIdx(0)), (UserIdx(2), ItemIdx(5))]);
        Graph::new(3, 8, &edges).unwrap()
    }

    #[test]
    fn an_epoch_sees_each_usable_edge_once_and_negatives_are_no_edges() {
        let graph = graph();
        let items = UserItems::new(&Device::Cpu, graph.adjacency(), 3, 8).unwrap();
        let sampler = Sampler::new(&graph, 1, Draw::Pairs).unwrap();
        assert_eq!((sampler.edges(), sampler.left_out()), (9, 8));
        let (order, mut batch, mut seen, mut drawn) = (sampler.order(3), Batch::default(), Vec::new(), Vec::new());
        for step in 0..sampler.steps(4) {
            let stream = sampler.batch(&order, step, 4, &mut batch);
            assert_eq!(stream, Stream { seed: 1, epoch: 3, first: 4 * step as u32 });
            let (negatives, _) = bpr::negatives(&Device::Cpu, &items, &batch.users, stream, Choice::Uniform).unwrap();
            assert_eq!(batch.users.len(), if step == 2 { 1 } else { 4 });
            assert_eq!(negatives.len(), batch.users.len());
            for ((&user, &positive), &negative) in batch.users.iter().zip(&batch.positives).zip(&negatives) {
                seen.push((user, positive));
                drawn.push((user, negative));
                assert!(!graph.nodes_of(UserIdx(user)).contains(&negative));
            }
        }
        seen.sort_unstable();
        let mut all: Vec<_> = (0..graph.edges()).map(|n| graph.edge(n)).filter(|e| e.0 != 1).collect();
        all.sort_unstable();
        assert_eq!(seen, all);
        assert!(drawn.iter().filter(|d| d.0 == 0).all(|d| d.1 == 3 + 7), "user 0 has one free item");
    }

    #[test]
    fn heavier_edges_are_drawn_more_often() {
        let heavy = |user: UserIdx, item: ItemIdx| if (user.0, item.0) == (0, 3) { 10.0 } else { 1.0 };
        let graph = graph().weighed(heavy).unwrap();
        assert_ne!(graph.digest(), self::graph().digest());
        let sampler = Sampler::new(&graph, 1, Draw::Pairs).unwrap();
        // Nine edges can be drawn; one of them has 10 of 18 parts of the weight.
        let place = (0..graph.edges() as u32).find(|&n| graph.edge(n as usize) == (0, 3 + 3)).unwrap();
        let (mut drawn, mut others) = (0, std::collections::BTreeSet::new());
        for epoch in 0..200 {
            let order = sampler.order(epoch);
            assert_eq!(order.edges.len(), 9);
            let own = order.edges.iter().filter(|&&edge| edge == place).count();
            assert!((4..=6).contains(&own), "{own} of 9");
            drawn += own;
            others.extend(order.edges.iter().copied());
        }
        assert!((f64::from(drawn as u32) / 200.0 - 5.0).abs() <= 0.2, "{drawn}");
        assert_eq!(others.len(), 9, "none is left out for good");
        let alike = self::graph().weighed(|_, _| 2.0).unwrap();
        let mut all = Sampler::new(&alike, 1, Draw::Pairs).unwrap().order(4).edges;
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9, "edges that weigh alike are drawn once each");
        assert!(self::graph().weighed(|_, _| f32::NAN).is_err());
    }

    #[test]
    fn users_that_are_drawn_stand_in_equally_many_triples() {
        // User 0 has 7 of 12 items, user 1 has one, user 2 has four.
        let mut edges: Vec<_> = (0..7).map(|i| (UserIdx(0), ItemIdx(i))).collect();
        edges.push((UserIdx(1), ItemIdx(8)));
        edges.extend((8..12).map(|i| (UserIdx(2), ItemIdx(i))));
        let graph = Graph::new(3, 12, &edges).unwrap();
        let sampler = Sampler::new(&graph, 1, Draw::Users).unwrap();
        let mut of_pair = vec![0usize; edges.len()];
        for epoch in 0..30 {
            let (order, mut batch) = (sampler.order(epoch), Batch::default());
            sampler.batch(&order, 0, 12, &mut batch);
            for user in 0..3u32 {
                assert_eq!(batch.users.iter().filter(|u| **u == user).count(), 4, "user {user}, epoch {epoch}");
            }
            for pair in batch.users.iter().zip(&batch.positives) {
                let at = edges.iter().position(|e| (e.0.0, 3 + e.1.0) == (*pair.0, *pair.1)).unwrap();
                of_pair[at] += 1;
            }
        }
        // 120 triples of each user over 30 epochs, shared among the user's pairs.
        assert!(of_pair[..7].iter().all(|n| (12..=23).contains(n)), "{of_pair:?}");
        assert_eq!((of_pair[7], &of_pair[8..]), (120, &[30, 30, 30, 30][..]));
    }

    #[test]
    fn a_full_graph_is_refused() {
        let graph = Graph::new(1, 1, &[(UserIdx(0), ItemIdx(0))]).unwrap();
        assert!(Sampler::new(&graph, 0, Draw::Pairs).unwrap_err().to_string().contains("every item"));
    }
}
