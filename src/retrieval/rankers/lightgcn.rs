//! Items by the inner product with the user's LightGCN row.

use super::{Ranker, SILENT, Whom};
use crate::data::UserIdx;
use crate::data::split::HeldOut;
use crate::device::Device;
use crate::error::Result;
use crate::eval::rows;
use crate::ops::topk::topk;
use crate::tensor::Matrix;

/// Not an item of the graph.
const NONE: u32 = u32::MAX;

/// Ranks the items of the graph. Users outside of it have no row.
pub struct LightGcn {
    users: Matrix,
    /// Rows of the graph's items, without the others.
    items: Matrix,
    /// The item of each row.
    item: Vec<u32>,
    /// The row of each item, or [`NONE`].
    row: Vec<u32>,
}

fn is_zero(row: &[f32]) -> bool {
    row.iter().all(|&v| v == 0.0)
}

impl LightGcn {
    /// Of users x dim and items x dim; zero rows stand for users and items outside of the graph.
    ///
    /// # Errors
    /// Never in practice; those of the matrix are passed on.
    pub fn new(users: Matrix, items: &Matrix) -> Result<Self> {
        let item: Vec<u32> = (0..items.rows() as u32).filter(|&i| !is_zero(items.row(i as usize))).collect();
        let mut row = vec![NONE; items.rows()];
        let mut values = Vec::with_capacity(item.len() * items.cols());
        for (at, &i) in (0..).zip(&item) {
            row[i as usize] = at;
            values.extend_from_slice(items.row(i as usize));
        }
        let items = Matrix::from_vec(item.len(), items.cols(), values)?;
        Ok(Self { users, items, item, row })
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
        let Some(user) = whom.user.filter(|&user| self.knows(user)) else { return false };
        scores.fill(SILENT);
        let own = self.users.row(user.at());
        for (at, &item) in self.item.iter().enumerate() {
            if let Some(score) = scores.get_mut(item as usize) {
                *score = own.iter().zip(self.items.row(at)).map(|(a, b)| a * b).sum();
            }
        }
        true
    }

    fn lists(&self, users: &[HeldOut<'_>], _: usize, k: usize, device: &Device) -> Result<Vec<Vec<u32>>> {
        let known: Vec<&HeldOut<'_>> = users.iter().filter(|user| self.knows(user.user)).collect();
        let mut queries = Vec::with_capacity(known.len() * self.users.cols());
        known.iter().for_each(|user| queries.extend_from_slice(self.users.row(user.user.at())));
        let rows = |user: &&HeldOut<'_>| -> Vec<u32> {
            user.seen.iter().map(|&item| self.row[item as usize]).filter(|&row| row != NONE).collect()
        };
        let seen: Vec<Vec<u32>> = known.iter().map(rows).collect();
        let mut found = if known.is_empty() {
            Vec::new()
        } else {
            topk(device, (&queries[..], self.users.cols()).into(), (&self.items).into(), k, &seen)?.0
        }
        .into_iter();
        let list = |user: &HeldOut<'_>| {
            let hits = self.knows(user.user).then(|| found.next()).flatten().unwrap_or_default();
            hits.into_iter().map(|hit| self.item[hit.index as usize]).collect()
        };
        Ok(users.iter().map(list).collect())
    }
}
