//! The choice wherever the rows are.

use super::super::Head;
use super::{Choice, cpu, kernel};
use crate::device::{Rows, mixed};
use crate::error::{Error, Result};

/// What each row of `hidden` says about two answers.
///
/// # Errors
/// An answer outside the vocabulary, rows of another width than the head's, operands in different
/// places; out of memory.
pub fn choose(hidden: &Rows, head: Head<'_>, ids: [u32; 2]) -> Result<Vec<Choice>> {
    if let Some(id) = ids.iter().find(|&&id| id as usize >= head.vocab()) {
        let what = format!("answer token {id} is not in the vocabulary of {}", head.vocab());
        return Err(Error::input("model", what).next("take the ids from this model's tokenizer"));
    }
    let place = hidden.place();
    match (hidden, head) {
        (Rows::Cpu(hidden), Head::Cpu(head, cap)) => {
            if hidden.cols() != head.cols() || head.cols() == 0 {
                let what = format!("rows of {} values with a head of {}", hidden.cols(), head.cols());
                return Err(Error::failed("choose", what));
            }
            Ok(cpu::capped_choose(hidden.as_slice(), (head, cap), ids))
        }
        (Rows::F32(hidden), Head::F32(head)) => Ok(kernel::choose(hidden, head, ids)?.0),
        (Rows::F32(hidden), Head::Blocks(head)) => Ok(kernel::choose(hidden, &head.widen()?, ids)?.0),
        (Rows::Bf16(hidden), Head::Bf16(head)) => Ok(kernel::choose(hidden, head, ids)?.0),
        _ => Err(mixed("choose", &[place])),
    }
}
