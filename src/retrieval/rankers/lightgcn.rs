//! Items by the inner product with the user's LightGCN row.

use super::{Ranker, SILENT, Whom};
use crate::data::split::HeldOut;
use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::error::Result;
use crate::eval::rows;
use crate::ops::topk::topk;
use crate::tensor::Matrix;

/// Not an item of the graph.
const NONE: u32 = u32::MAX;

/// Ranks the items of the graph. A user outside of it is folded in: the vectors of what the user
/// met are added as a layer of the graph would add them.
pub struct LightGcn {
    users: Matrix,
    /// Rows of the graph's items, without the others.
    items: Matrix,
    /// The item of each row.
    item: Vec<u32>,
    /// The row of each item, or [`NONE`].
    row: Vec<u32>,
    /// One over the square root of each item's edges.
    norm: Vec<f32>,
}

fn is_zero(row: &[f32]) -> bool {
    row.iter().all(|&v| v == 0.0)
}

impl LightGcn {
    /// Of users x dim and items x dim; zero rows stand for users and items outside of the graph,
    /// whose edges `pairs` are.
    ///
    /// # Errors
    /// Never in practice; those of the matrix are passed on.
    pub fn new(users: Matrix, items: &Matrix, pairs: &[(UserIdx, ItemIdx)]) -> Result<Self> {
        let item: Vec<u32> = (0..items.rows() as u32).filter(|&i| !is_zero(items.row(i as usize))).collect();
        let mut row = vec![NONE; items.rows()];
        let mut values = Vec::with_capacity(item.len() * items.cols());
        for (at, &i) in (0..).zip(&item) {
            row[i as usize] = at;
            values.extend_from_slice(items.row(i as usize));
        }
        let items = Matrix::from_vec(item.len(), items.cols(), values)?;
        let mut edges = vec![0u32; row.len()];
        pairs.iter().for_each(|(_, item)| edges[item.at()] += 1);
        let norm = edges.iter().map(|&n| if n > 0 { 1.0 / (n as f32).sqrt() } else { 0.0 }).collect();
        Ok(Self { users, items, item, row, norm })
    }

    /// The user's row, or the one that the history stands for; `None` for a user of whom nothing is
    /// known.
    fn query(&self, whom: Whom<'_>) -> Option<Vec<f32>> {
        if let Some(user) = whom.user.filter(|&user| self.knows(user)) {
            return Some(self.users.row(user.at()).to_vec());
        }
        let mut sum = vec![0.0; self.items.cols()];
        for met in whom.history {
            let Some(&row) = self.row.get(met.item.at()).filter(|row| **row != NONE) else { continue };
            let norm = self.norm[met.item.at()];
            sum.iter_mut().zip(self.items.row(row as usize)).for_each(|(sum, v)| *sum += norm * v);
        }
        (!is_zero(&sum)).then_some(sum)
    }

    fn knows(&self, user: UserIdx) -> bool {
        user.at() < self.users.rows() && !is_zero(self.users.row(user.at())) && !self.item.is_empty()
    }

    /// How many of these users are outside of the graph.
    pub fn unknown(&self, users: &[HeldOut<'_>]) -> usize {
        users.iter().filter(|user| !self.knows(user.user)).count()
    }
}

impl Ranker for LightGcn {
    fn name(&self) -> &'static str {
        rows::LIGHTGCN
    }

    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        let Some(own) = self.query(whom) else { return false };
        scores.fill(SILENT);
        for (at, &item) in self.item.iter().enumerate() {
            if let Some(score) = scores.get_mut(item as usize) {
                *score = own.iter().zip(self.items.row(at)).map(|(a, b)| a * b).sum();
            }
        }
        true
    }

    fn lists(&self, users: &[HeldOut<'_>], _: usize, k: usize, device: &Device) -> Result<Vec<Vec<u32>>> {
        let query = |user: &HeldOut<'_>| self.query(Whom { user: Some(user.user), history: user.history });
        let own: Vec<Option<Vec<f32>>> = users.iter().map(query).collect();
        let rows = |user: &HeldOut<'_>| -> Vec<u32> {
            user.seen.iter().map(|&item| self.row[item as usize]).filter(|&row| row != NONE).collect()
        };
        let known = users.iter().zip(&own).filter(|(_, own)| own.is_some());
        let seen: Vec<Vec<u32>> = known.map(|(user, _)| rows(user)).collect();
        let queries: Vec<f32> = own.iter().flatten().flatten().copied().collect();
        let mut found = if seen.is_empty() {
            Vec::new()
        } else {
            topk(device, (&queries[..], self.users.cols()).into(), (&self.items).into(), k, &seen)?.0
        }
        .into_iter();
        let list = |own: &Option<Vec<f32>>| {
            let hits = own.as_ref().and_then(|_| found.next()).unwrap_or_default();
            hits.into_iter().map(|hit| self.item[hit.index as usize]).collect()
        };
        Ok(own.iter().map(list).collect())
    }
}
