//! Cases of the decoder's operators.

mod attention;
mod cpu;
mod decode;
mod decoder;
mod products;
mod vocabulary;

use crate::ops::registry::Case;

pub(super) use decode::quantised;

/// The lists.
pub(super) const CASES: &[&[Case]] =
    &[cpu::CASES, products::CASES, decode::CASES, attention::CASES, decoder::CASES, vocabulary::CASES];
