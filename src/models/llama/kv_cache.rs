//! Keys and values of the tokens seen so far. A prompt's are stored once, frozen, and shared by all that continue it.

use std::sync::Arc;

use super::Config;
use crate::ops::attention::{self, Run};

/// Keys and values of one kv head of one layer, in attention's layout.
#[derive(Debug, Clone, Default)]
struct Head {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Consecutive positions of all layers.
#[derive(Debug, Clone, Default)]
struct Store {
    /// `heads[layer * kv_heads + head]`.
    heads: Vec<Head>,
    len: usize,
}

/// Frozen positions from the first one on; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Prefix {
    /// Each with how many of its positions count.
    runs: Vec<(Arc<Store>, usize)>,
    len: usize,
}

impl Prefix {
    /// Number of positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `len` positions; all when there are fewer. Nothing is copied.
    #[must_use]
    pub fn take(&self, len: usize) -> Prefix {
        let mut left = len.min(self.len);
        let mut runs = Vec::new();
        for (store, n) in &self.runs {
            if left == 0 {
                break;
            }
            runs.push((Arc::clone(store), (*n).min(left)));
            left -= left.min(*n);
        }
        Prefix { runs, len: len.min(self.len) }
    }

    /// Bytes held by this prefix, shared or not.
    pub fn bytes(&self) -> usize {
        let head = |h: &Head| 4 * (h.keys.len() + h.values.len());
        self.runs.iter().flat_map(|(s, _)| &s.heads).map(head).sum()
    }
}

/// A sequence that a model reads: a frozen prefix, and positions of its own.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    prefix: Prefix,
    own: Store,
    /// Own positions of one layer at a time, forgotten after the pass.
    scratch: bool,
}

impl Sequence {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on behind `prefix`.
    pub fn after(prefix: &Prefix) -> Self {
        Self { prefix: prefix.clone(), ..Self::default() }
    }

    /// For one pass: nothing of it is kept, so it needs the memory of one layer only. It may stand behind a prefix.
    pub fn scratch(prefix: &Prefix) -> Self {
        Self { prefix: prefix.clone(), scratch: true, ..Self::default() }
    }

    /// Number of positions seen.
    pub fn len(&self) -> usize {
        self.prefix.len + self.own.len
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything seen, frozen. A scratch sequence has kept its prefix only.
    pub fn freeze(self) -> Prefix {
        let Self { mut prefix, own, .. } = self;
        if own.len > 0 {
            prefix.len += own.len;
            let len = own.len;
            prefix.runs.push((Arc::new(own), len));
        }
        prefix
    }

    /// Takes the keys and values (rows, kv width) of new positions in one layer.
    pub(super) fn append(&mut self, config: &Config, layer: usize, k: &[f32], v: &[f32]) {
        let (heads, dim, width) = (config.kv_heads, config.head_dim, config.kv_width());
        let first = if self.scratch { 0 } else { layer * heads };
        if self.own.heads.is_empty() {
            let layers = if self.scratch { 1 } else { config.layers };
            self.own.heads.resize_with(layers * heads, Head::default);
        }
        for (h, head) in self.own.heads[first..first + heads].iter_mut().enumerate() {
            if self.scratch {
                head.keys.clear();
                head.values.clear();
            }
            let end = k.len() - width + (h + 1) * dim;
            let (k, v) = (&k[h * dim..end], &v[h * dim..end]);
            attention::append(&mut head.keys, &mut head.values, self.own.len, k, v, width, dim);
        }
    }

    /// Counts the positions that were appended to every layer.
    pub(super) fn commit(&mut self, rows: usize) {
        if !self.scratch {
            self.own.len += rows;
        }
    }

    /// Views of one kv head in one layer, with `rows` appended and not yet counted positions.
    pub(super) fn runs(&self, config: &Config, layer: usize, head: usize, rows: usize) -> Vec<Run<'_>> {
        let at = layer * config.kv_heads + head;
        let mut runs: Vec<Run<'_>> = self
            .prefix
            .runs
            .iter()
            .map(|(s, len)| Run { keys: &s.heads[at].keys, values: &s.heads[at].values, len: *len })
            .collect();
        let own = &self.own.heads[if self.scratch { head } else { at }];
        runs.push(Run { keys: &own.keys, values: &own.values, len: self.own.len + rows });
        runs
    }
}
