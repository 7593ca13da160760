//! The whole catalogue ranked for one user by LightGCN score, and the most similar users.

use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::topk::{Seen, topk};
use crate::tensor::Matrix;

/// One mask for one query.
struct One(Vec<u32>);

impl Seen for One {
    fn of(&self, _: usize) -> &[u32] {
        &self.0
    }
}

/// A query's own row.
struct Own(Vec<[u32; 1]>);

impl Seen for Own {
    fn of(&self, query: usize) -> &[u32] {
        &self.0[query]
    }
}

fn is_zero(row: &[f32]) -> bool {
    row.iter().all(|&v| v == 0.0)
}

/// The `k` (1 to 256) items of the largest score `users[user] . items[item]`, best first, ties to
/// the lower index. Items in `seen` are left out, and so are items without an embedding (zero
/// rows).
pub fn recommend(
    users: &Matrix,
    items: &Matrix,
    user: UserIdx,
    seen: &[ItemIdx],
    k: usize,
) -> Result<Vec<(ItemIdx, f32)>> {
    if user.at() >= users.rows() || users.cols() != items.cols() {
        let what = format!("user {} of {} x {}, items {} wide", user.0, users.rows(), users.cols(), items.cols());
        return Err(Error::failed("recommend", what));
    }
    let mut mask: Vec<u32> = seen.iter().map(|i| i.0).collect();
    mask.extend((0..items.rows()).filter(|&i| is_zero(items.row(i))).map(|i| i as u32));
    mask.sort_unstable();
    mask.dedup();
    let user = (users.row(user.at()), users.cols()).into();
    let (hits, _) = topk(&Device::Cpu, user, items.into(), k, &One(mask))?;
    Ok(hits.into_iter().flatten().map(|h| (ItemIdx(h.index), h.score)).collect())
}

/// For every user the most cosine-similar other one among `present` (ties to the lower index);
/// `None` for a user without an embedding, or when nobody else has one.
pub fn similar_users(users: &Matrix, present: &[UserIdx]) -> Result<Vec<Option<UserIdx>>> {
    let dim = users.cols();
    if let Some(bad) = present.iter().find(|u| u.at() >= users.rows()) {
        return Err(Error::failed("similar users", format!("user {} is outside the {} rows", bad.0, users.rows())));
    }
    let mut unit = users.clone();
    for u in 0..unit.rows() {
        let norm = unit.row(u).iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            unit.row_mut(u).iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    }
    let mut pool: Vec<UserIdx> = present.iter().copied().filter(|u| !is_zero(users.row(u.at()))).collect();
    pool.sort_unstable();
    pool.dedup();
    let rows: Vec<f32> = pool.iter().flat_map(|u| unit.row(u.at())).copied().collect();
    // A user's own place in the pool; one past its end when not in it.
    let own = (0..users.rows() as u32)
        .map(|u| [pool.binary_search(&UserIdx(u)).map_or(u32::MAX, |place| place as u32)])
        .collect();
    let (hits, _) = topk(&Device::Cpu, (&unit).into(), (&rows[..], dim).into(), 1, &Own(own))?;
    let pick = |(u, hits): (usize, Vec<crate::ops::topk::Hit>)| {
        if is_zero(users.row(u)) { None } else { hits.first().map(|h| pool[h.index as usize]) }
    };
    Ok(hits.into_iter().enumerate().map(pick).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_items_and_items_without_embedding_are_left_out() {
        let users = Matrix::from_vec(1, 1, vec![1.0]).unwrap();
        let items = Matrix::from_vec(6, 1, vec![0.5, -1.0, 0.0, 0.9, 0.5, 0.7]).unwrap();
        let got = recommend(&users, &items, UserIdx(0), &[ItemIdx(3)], 10).unwrap();
        assert_eq!(got.iter().map(|g| g.0.0).collect::<Vec<_>>(), [5, 0, 4, 1]);
        assert!(recommend(&users, &items, UserIdx(1), &[], 3).is_err());
        assert!(recommend(&users, &items, UserIdx(0), &[], 0).is_err());
        let broken = Matrix::from_vec(2, 1, vec![1.0, f32::NAN]).unwrap();
        assert!(recommend(&users, &broken, UserIdx(0), &[], 1).is_err());
    }

    #[test]
    fn the_most_similar_user_is_another_one_who_is_present() {
        let users = Matrix::from_vec(5, 2, vec![1.0, 0.0, 5.0, 0.1, 0.9, 0.8, 0.0, 0.0, 0.0, 2.0]).unwrap();
        let present: Vec<UserIdx> = (0..5).map(UserIdx).collect();
        let got = similar_users(&users, &present).unwrap();
        let want = [Some(1), Some(0), Some(1), None, Some(2)];
        assert_eq!(got, want.map(|u| u.map(UserIdx)));
        let got = similar_users(&users, &[UserIdx(2)]).unwrap();
        assert_eq!(got, [Some(2), Some(2), None, None, Some(2)].map(|u| u.map(UserIdx)));
    }
}
