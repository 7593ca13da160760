//! What the projector is given: embeddings on one scale, by soft token.

use crate::error::{Error, Result};
use crate::tensor::Matrix;

/// The rows of `embeddings` (items, d) with each column brought to mean 0 and variance 1, so that
/// no dimension drowns the others. Rows of zeros, items that the embedding does not know, count for
/// nothing and stay zero: the mean item.
pub fn standardised(embeddings: &Matrix) -> Matrix {
    let (mut out, width) = (embeddings.clone(), embeddings.cols());
    let known: Vec<usize> = (0..embeddings.rows()).filter(|&i| embeddings.row(i).iter().any(|&x| x != 0.0)).collect();
    let n = known.len().max(1) as f64;
    let (mut mean, mut spread) = (vec![0.0f64; width], vec![0.0f64; width]);
    for &i in &known {
        mean.iter_mut().zip(embeddings.row(i)).for_each(|(m, &x)| *m += f64::from(x) / n);
    }
    for &i in &known {
        let row = embeddings.row(i).iter().zip(&mean);
        spread.iter_mut().zip(row).for_each(|(s, (&x, m))| *s += (f64::from(x) - m).powi(2) / n);
    }
    // A column that does not vary says nothing.
    let scale: Vec<f64> = spread.iter().map(|&s| if s > 1e-24 { 1.0 / s.sqrt() } else { 0.0 }).collect();
    for &i in &known {
        for ((x, m), s) in out.row_mut(i).iter_mut().zip(&mean).zip(&scale) {
            *x = ((f64::from(*x) - m) * s) as f32;
        }
    }
    out
}

/// The projector's inputs of the soft tokens that occur.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Ids, ascending.
    ids: Vec<u32>,
    /// (ids, d).
    x: Matrix,
}

impl Inputs {
    /// `x` (ids, d) has the input of `ids[i]` in row `i`; ids ascend.
    ///
    /// # Errors
    /// Ids that do not ascend, another number of rows, no values, or a value that is not finite.
    pub fn new(ids: Vec<u32>, x: Matrix) -> Result<Self> {
        let finite = x.as_slice().iter().all(|v| v.is_finite());
        if ids.len() != x.rows() || x.cols() == 0 || !finite || !ids.is_sorted_by(|a, b| a < b) {
            let what = format!("{} ids for {} x {} inputs, or a value is not finite", ids.len(), x.rows(), x.cols());
            return Err(Error::failed("soft tokens", what).next("run the stage that writes them again: --from prompts"));
        }
        Ok(Self { ids, x })
    }

    /// All ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// All inputs (ids, d).
    pub fn matrix(&self) -> &Matrix {
        &self.x
    }

    /// Those that occur in `tokens`.
    ///
    /// # Errors
    /// A token from `vocab` on that is none of these.
    pub fn among(&self, tokens: &[u32], vocab: usize) -> Result<Self> {
        let mut ids: Vec<u32> = tokens.iter().copied().filter(|&t| t as usize >= vocab).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut x = Vec::with_capacity(ids.len() * self.x.cols());
        for id in &ids {
            let row = self.ids.binary_search(id).map_err(|_| {
                Error::failed("soft tokens", format!("token {id} has no embedding"))
                    .next("run the stage that writes them again: --from prompts")
            })?;
            x.extend_from_slice(self.x.row(row));
        }
        Ok(Self { x: Matrix::from_vec(ids.len(), self.x.cols(), x)?, ids })
    }
}
