//! How a target ranks by LightGCN among all items.

use crate::data::Rated;
use crate::tensor::Matrix;

/// LightGCN's vectors, for ranks.
pub struct Affinity {
    users: Matrix,
    items: Matrix,
}

impl Affinity {
    /// `users`: users x d, `items`: items x d.
    pub fn new(users: Matrix, items: Matrix) -> Self {
        Self { users, items }
    }

    /// Share of the catalogue, 0 to 1, that suits the user less than the item does. A user outside
    /// of the data is the sum of what was met.
    pub fn share_below(&self, user: usize, history: &[Rated], item: usize) -> f64 {
        let user = if user < self.users.rows() { self.users.row(user).to_vec() } else { self.sum(history) };
        let score = |i: usize| -> f32 { user.iter().zip(self.items.row(i)).map(|(a, b)| a * b).sum() };
        let own = score(item);
        let below = (0..self.items.rows()).filter(|&i| score(i) < own).count();
        below as f64 / self.items.rows().max(1) as f64
    }
}

impl Affinity {
    fn sum(&self, history: &[Rated]) -> Vec<f32> {
        let mut sum = vec![0.0; self.items.cols()];
        for row in history {
            sum.iter_mut().zip(self.items.row(row.item.at())).for_each(|(sum, v)| *sum += v);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_item_has_all_others_below_it() {
        let users = Matrix::from_vec(1, 1, vec![2.0]).unwrap();
        let items = Matrix::from_vec(4, 1, vec![0.5, -1.0, 3.0, 0.5]).unwrap();
        let affinity = Affinity::new(users, items);
        // Ties are not below.
        let shares = [0, 1, 2, 3].map(|item| affinity.share_below(0, &[], item));
        assert_eq!(shares, [0.25, 0.0, 0.75, 0.25]);
        // Who is outside of the data has the vectors of what was met: here that of item 1.
        let met = [Rated { item: crate::data::ItemIdx(1), rating: 5.0, time: 0 }];
        assert_eq!([0, 1, 2, 3].map(|item| affinity.share_below(7, &met, item)), [0.25, 0.75, 0.0, 0.25]);
    }
}
