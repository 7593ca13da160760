//! The bipartite graph of users and items.

use crate::data::{ItemIdx, UserIdx};
use crate::error::{Error, Result};
use crate::ops::spmm::Adjacency;

/// Users and items as one node space, users first; each edge once, whatever how often it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    users: usize,
    items: usize,
    adjacency: Adjacency,
    owners: Vec<u32>,
    /// How often each edge is drawn, relative to the others; empty: all alike.
    weights: Vec<f32>,
}

impl Graph {
    /// From edges (user, item). `users` and `items` are the sizes of the tables the ids index.
    pub fn new(users: usize, items: usize, edges: &[(UserIdx, ItemIdx)]) -> Result<Self> {
        for (n, (user, item)) in edges.iter().enumerate() {
            if user.at() >= users || item.at() >= items {
                return Err(Error::input(
                    format!("graph edge {n}"),
                    format!("user {} item {} is outside {users} users x {items} items", user.0, item.0),
                ));
            }
        }
        let nodes = users.checked_add(items).filter(|&n| n < u32::MAX as usize);
        let nodes = nodes.ok_or_else(|| Error::input("graph", "more than 2^32 users and items"))?;
        let shift = users as u32;
        let pairs = edges.iter().flat_map(|(u, i)| [(u.0, shift + i.0), (shift + i.0, u.0)]);
        let adjacency = Adjacency::new(nodes, pairs)?;
        if adjacency.nnz() == 0 {
            return Err(Error::input("graph", "there is no edge")
                .next("check the filters: the training split must keep at least one interaction"));
        }
        let mut owners = Vec::with_capacity(adjacency.nnz() / 2);
        for u in 0..users {
            owners.resize(owners.len() + adjacency.neighbours(u).len(), u as u32);
        }
        Ok(Self { users, items, adjacency, owners, weights: Vec::new() })
    }

    /// The same graph, whose training draws an edge in proportion to its weight. The propagation
    /// does not change.
    ///
    /// # Errors
    /// A weight that is not above 0.
    pub fn weighed(mut self, of: impl Fn(UserIdx, ItemIdx) -> f32) -> Result<Self> {
        let edge = |n: usize| (UserIdx(self.edge(n).0), ItemIdx(self.edge(n).1 - self.users as u32));
        let weights: Vec<f32> = (0..self.edges()).map(edge).map(|(user, item)| of(user, item)).collect();
        if let Some(at) = weights.iter().position(|weight| !(weight.is_finite() && *weight > 0.0)) {
            return Err(Error::input(
                format!("graph edge {at}"),
                format!("weighs {}, which is not above 0", weights[at]),
            ));
        }
        self.weights = weights;
        Ok(self)
    }

    /// How often each edge is drawn, relative to the others; empty where all are alike.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of distinct edges.
    pub fn edges(&self) -> usize {
        self.owners.len()
    }

    /// The adjacency over users and items.
    pub fn adjacency(&self) -> &Adjacency {
        &self.adjacency
    }

    /// Edge `n` (by user, then item) as node ids: (user, users + item).
    pub fn edge(&self, n: usize) -> (u32, u32) {
        let user = self.owners[n];
        (user, self.adjacency.indices()[n])
    }

    /// Item nodes (users + item) of a user, ascending.
    pub fn nodes_of(&self, user: UserIdx) -> &[u32] {
        self.adjacency.neighbours(user.at())
    }

    /// Items of a user, ascending.
    pub fn items_of(&self, user: UserIdx) -> impl ExactSizeIterator<Item = ItemIdx> + '_ {
        self.nodes_of(user).iter().map(|&n| ItemIdx(n - self.users as u32))
    }

    /// Whether the item has any edge.
    pub fn has_item(&self, item: ItemIdx) -> bool {
        !self.adjacency.neighbours(self.users + item.at()).is_empty()
    }

    /// A digest of the shape, all edges and their weights: a checkpoint belongs to one graph.
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(&(self.users as u64).to_le_bytes()).update(&(self.items as u64).to_le_bytes());
        for n in 0..self.edges() {
            let (u, i) = self.edge(n);
            hash.update(&u.to_le_bytes()).update(&i.to_le_bytes());
        }
        for weight in &self.weights {
            hash.update(&weight.to_le_bytes());
        }
        hash.finalize().to_hex().to_string()
    }
}
