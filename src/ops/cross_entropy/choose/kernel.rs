//! The choice on a device: the kernels of `kernels/cross_entropy.cu` with two chosen tokens.

use super::Choice;
use crate::device::{DeviceRows, Storage};
use crate::error::{Error, Result};
use crate::ops::cross_entropy::kernel::scores;
use crate::tensor::Cost;

/// One choice for each row of `hidden`; the vocabulary's logits are never written.
pub fn choose<T: Storage>(hidden: &DeviceRows<T>, head: &DeviceRows<T>, ids: [u32; 2]) -> Result<(Vec<Choice>, Cost)> {
    if let Some(id) = ids.iter().find(|&&id| id as usize >= head.rows()) {
        return Err(Error::failed("choose", format!("token {id} is not in the vocabulary of {}", head.rows())));
    }
    let device = hidden.device();
    let (scores, cost) = scores(hidden, head, &device.upload(&ids, "answer tokens")?, 2)?;
    let (lse, logits) = (device.download(&scores.lse)?, device.download(&scores.picked)?);
    let rows = lse.iter().zip(logits.chunks_exact(2));
    Ok((rows.map(|(&log_sum_exp, l)| Choice { logits: [l[0], l[1]], log_sum_exp }).collect(), cost))
}
