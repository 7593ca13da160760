//! The next tokens of many rows, wherever their logits are.

use std::cell::RefCell;

use rayon::prelude::*;

use super::kernel::{self, Draw};
use super::{Cut, Sampler};
use crate::device::{Rows, mixed};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};

thread_local! {
    static SAMPLER: RefCell<Sampler> = RefCell::new(Sampler::default());
}

/// The next token of each row of `logits` (rows, vocabulary): number `step` of the Philox stream
/// (seed, token, row, sample), the same whatever batch the row is in.
///
/// # Errors
/// Another number of draws than rows; a row without usable logits, which is named.
pub fn sample(logits: &Rows, seed: u64, draws: &[Draw], cut: Cut) -> Result<Vec<u32>> {
    match logits {
        Rows::Cpu(logits) => {
            cut.check("sampling")?;
            if logits.rows() != draws.len() {
                return Err(Error::failed("sampling", format!("{} draws for {} rows", draws.len(), logits.rows())));
            }
            let one = |(i, draw): (usize, &Draw)| {
                let u = Rng::new(seed, Use::Token, draw.row, draw.sample).at(draw.step).uniform_f64();
                let token = SAMPLER.with_borrow_mut(|sampler| sampler.pick(logits.row(i), cut, u));
                token.map_err(|e| e.within(format!("row {}, sample {}, token {}", draw.row, draw.sample, draw.step)))
            };
            if draws.len() == 1 {
                return draws.iter().enumerate().map(one).collect();
            }
            draws.par_iter().enumerate().with_max_len(1).map(one).collect()
        }
        Rows::F32(logits) => Ok(kernel::sample(logits.device(), logits, seed, draws, cut)?.0),
        Rows::Bf16(_) => Err(mixed("sampling", &[logits.place()])),
    }
}
