//! A batch where its pass runs: which rows see which keys, which predict targets, and where their
//! gradients go.

use super::batch::{Packed, Segment};
use crate::device::Device;
use crate::error::Result;
use crate::ops::attention::Packed as Attention;
use crate::ops::attention::kernel::Span;
use crate::ops::cross_entropy::RowTargets;
use crate::ops::linear::layers::Side;
use crate::ops::rope::Positions;
use crate::ops::rows::{RowNumbers, RowRuns};
use crate::tensor::Dtype;

/// Everything that a pass needs to know of its batch.
pub(super) struct Layout {
    /// All rows, in linear layers.
    pub all: Side,
    pub positions: Positions,
    /// What they see as queries.
    pub seen: Attention,
    /// The rows that predict a target, each once; and what they see.
    pub asking: Side,
    pub seen_asking: Attention,
    /// Where these stand among all rows.
    pub places: RowNumbers,
    /// The asking row of each target, targets of one row next to each other.
    pub row_of_target: RowNumbers,
    /// The targets of each asking row.
    pub targets_of_row: RowRuns,
    pub targets: RowTargets,
}

impl Layout {
    /// Weights of targets are multiplied by `scale`; `cap` is the soft cap of attention's scores.
    ///
    /// # Errors
    /// Out of memory; a cap on kernels.
    pub fn upload(device: &Device, batch: &Packed, cap: Option<f64>, scale: f32) -> Result<Self> {
        let mut targets = batch.targets.clone();
        // Branches whose token 0 is a target share a row of their prefix.
        targets.sort_by_key(|t| t.row);
        let mut asking: Vec<usize> = targets.iter().map(|t| t.row).collect();
        asking.dedup();
        let (mut row_of_target, mut starts, mut at) = (Vec::with_capacity(targets.len()), Vec::new(), 0usize);
        for (i, same) in targets.chunk_by(|a, b| a.row == b.row).enumerate() {
            starts.push(at as u32);
            at += same.len();
            row_of_target.extend(std::iter::repeat_n(i as u32, same.len()));
        }
        starts.push(at as u32);
        let places: Vec<u32> = asking.iter().map(|&r| r as u32).collect();
        let names: Vec<u64> = asking.iter().map(|&r| batch.names[r]).collect();
        let tokens: Vec<u32> = targets.iter().map(|t| t.token).collect();
        let weights: Vec<f32> = targets.iter().map(|t| t.weight * scale).collect();
        let all: Vec<usize> = (0..batch.rows()).collect();
        Ok(Self {
            all: Side::upload(device, &batch.names)?,
            positions: Positions::upload(device, &batch.positions)?,
            seen: Attention::new(device, Dtype::F32, &spans(&all, &batch.segments))?.with_cap(cap)?,
            asking: Side::upload(device, &names)?,
            seen_asking: Attention::new(device, Dtype::F32, &spans(&asking, &batch.segments))?.with_cap(cap)?,
            places: RowNumbers::upload(device, &places)?,
            row_of_target: RowNumbers::upload(device, &row_of_target)?,
            targets_of_row: RowRuns::upload(device, &starts)?,
            targets: RowTargets::upload(device, &tokens, &weights)?,
        })
    }
}

/// The ascending batch rows `rows` as queries: runs of consecutive rows of one segment, which see
/// the segment's prefix and the segment up to themselves.
fn spans(rows: &[usize], segments: &[Segment]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut next = 0;
    for segment in segments {
        while let Some(&row) = rows.get(next).filter(|r| segment.rows.contains(r)) {
            let follows = |(i, r): &(usize, &usize)| segment.rows.contains(r) && **r == row + i;
            let len = rows[next..].iter().enumerate().take_while(follows).count();
            spans.push(Span {
                rows: next..next + len,
                past: segment.prefix.clone(),
                own: segment.rows.clone(),
                visible: row - segment.rows.start + 1,
            });
            next += len;
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_where_they_do_not_follow_and_at_segments() {
        let segments = [Segment { rows: 0..5, prefix: 0..0 }, Segment { rows: 5..9, prefix: 0..5 }];
        let span = |rows, past, own, visible| Span { rows, past, own, visible };
        assert_eq!(
            spans(&[0, 1, 2, 3, 4, 5, 6, 7, 8], &segments),
            [span(0..5, 0..0, 0..5, 1), span(5..9, 0..5, 5..9, 1)]
        );
        assert_eq!(
            spans(&[1, 4, 5, 6, 8], &segments),
            [
                span(0..1, 0..0, 0..5, 2),
                span(1..2, 0..0, 0..5, 5),
                span(2..4, 0..5, 5..9, 1),
                span(4..5, 0..5, 5..9, 4)
            ]
        );
        assert!(spans(&[], &segments).is_empty());
    }
}
