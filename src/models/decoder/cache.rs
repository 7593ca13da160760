//! Keys and values of the tokens read so far, for every device: rows that a [`RowAllocator`] gives
//! out. A beginning that several texts share stands there once; whoever goes on behind it names its
//! rows.

use std::ops::Range;

use super::Config;
use super::layer::{Buffers, LayerTape};
use crate::device::Device;
use crate::error::Result;
use crate::memory;
use crate::ops::attention::cached::{self, ALIGN};
use crate::tensor::Dtype;

/// Keys and values, a row a token, and the buffers of the passes that write them.
pub struct Cache {
    /// One for each layer; or one that every layer writes anew.
    layers: Vec<cached::Cache>,
    work: Option<(LayerTape, Buffers)>,
}

impl Cache {
    /// For `rows` tokens in every layer, or in one at a time: nothing of it is kept behind a pass
    /// then.
    pub(super) fn new(device: &Device, dtype: Dtype, config: &Config, rows: usize, kept: bool) -> Result<Self> {
        let layers = if kept { config.layers } else { config.layers.min(1) };
        if matches!(device, Device::Cpu) {
            // Keys and values of all layers together: one layer alone nearly always fits.
            let heads = config.attention_heads();
            let values = [rows, layers, heads.kv, heads.dim].iter().fold(2u64, |n, m| n.saturating_mul(*m as u64));
            let next = "set a smaller reason.max_tokens, or use a smaller model";
            memory::ask("keys and values", values.saturating_mul(4), next)?;
        }
        let layer = |_| cached::Cache::new(device, dtype, config.attention_heads(), rows);
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()?, work: None })
    }

    /// Tokens that it holds.
    pub fn rows(&self) -> usize {
        self.layers.first().map_or(0, cached::Cache::rows)
    }

    /// The buffers of a pass on the CPU, which keeps them from pass to pass.
    pub(crate) fn take_work(&mut self, device: &Device, dtype: Dtype) -> Result<(LayerTape, Buffers)> {
        match self.work.take() {
            Some(work) => Ok(work),
            None => Ok((LayerTape::new(device, dtype)?, Buffers::new(device, dtype)?)),
        }
    }

    /// They are free again.
    pub(crate) fn put_work(&mut self, work: (LayerTape, Buffers)) {
        self.work = Some(work);
    }

    pub(super) fn layer(&mut self, layer: usize) -> Option<&mut cached::Cache> {
        let at = if self.layers.len() == 1 { 0 } else { layer };
        self.layers.get_mut(at)
    }
}

/// `n` rows with what rounds them up to whole blocks: where the next range may begin.
pub fn aligned(n: usize) -> usize {
    n.next_multiple_of(ALIGN)
}

/// Rows of a cache that are given out in ranges, each at the first gap that holds it, and held by
/// as many as share it.
#[derive(Debug, Clone)]
pub struct RowAllocator {
    size: usize,
    /// Ascending, with the number of holders.
    held: Vec<(Range<usize>, usize)>,
}

impl RowAllocator {
    /// Of rows `0 .. size`.
    pub fn new(size: usize) -> Self {
        Self { size, held: Vec::new() }
    }

    /// `n` rows, at least one, rounded up to whole blocks; `None` until others are given back.
    pub fn take(&mut self, n: usize) -> Option<Range<usize>> {
        let n = aligned(n);
        let (mut from, mut place) = (0, self.held.len());
        for (i, (held, _)) in self.held.iter().enumerate() {
            if held.start - from >= n {
                place = i;
                break;
            }
            from = held.end;
        }
        let rows = from..from + n;
        (rows.end <= self.size).then(|| {
            self.held.insert(place, (rows.clone(), 1));
            rows
        })
    }

    /// One more holds the rows that begin where these do.
    pub fn share(&mut self, rows: &Range<usize>) {
        self.holders(rows, |holders| holders + 1);
    }

    /// One holder less; without any the rows are free again.
    pub fn give_back(&mut self, rows: &Range<usize>) {
        self.holders(rows, |holders| holders - 1);
        self.held.retain(|(_, holders)| *holders > 0);
    }

    fn holders(&mut self, rows: &Range<usize>, change: impl Fn(usize) -> usize) {
        for (held, holders) in &mut self.held {
            if held.start == rows.start {
                *holders = change(*holders);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Ranges never overlap, lie inside, and are refused only where no gap holds them; a shared
        /// one stays until all have left.
        #[test]
        fn ranges_do_not_overlap(
            steps in prop::collection::vec((1usize..9 * ALIGN, any::<prop::sample::Index>(), 0u8..4), 0..60),
        ) {
            const SIZE: usize = 24 * ALIGN;
            let mut rows = RowAllocator::new(SIZE);
            let mut held: Vec<Range<usize>> = Vec::new();
            for (n, which, what) in steps {
                if what == 0 && !held.is_empty() {
                    rows.give_back(&held.swap_remove(which.index(held.len())));
                    continue;
                }
                if what == 1 && !held.is_empty() {
                    let shared = held[which.index(held.len())].clone();
                    rows.share(&shared);
                    held.push(shared);
                    continue;
                }
                let whole = aligned(n);
                let free = |at: usize| at + whole <= SIZE && held.iter().all(|h| h.end <= at || at + whole <= h.start);
                match rows.take(n) {
                    Some(range) => {
                        prop_assert!(range.len() == whole && free(range.start), "{:?} among {:?}", range, held);
                        prop_assert!(range.start.is_multiple_of(ALIGN));
                        held.push(range);
                    }
                    None => prop_assert!(!(0..SIZE).any(free), "{} refused beside {:?}", n, held),
                }
            }
        }
    }
}
