//! Training examples as trees: one shared prefix with branches, packed without padding.

use std::ops::Range;

use crate::error::{Error, Result};

/// One continuation of a group's prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Tokens after the prefix.
    pub tokens: Vec<u32>,
    /// Which of `tokens` are targets of the loss. Each is predicted from the token before it; token
    /// 0 from the last token of the prefix.
    pub targets: Range<usize>,
    /// Weight of each target in the mean loss; 1 for all is the plain mean over tokens.
    pub weight: f32,
}

/// Several targets behind one shared history. A branch sees the prefix and itself, never another
/// branch, and its positions go on from the end of the prefix: the loss is that of `prefix +
/// branch` as separate sequences, but the prefix is computed once. One branch with an empty prefix
/// is the plain case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Tokens that all branches share.
    pub prefix: Vec<u32>,
    /// The continuations.
    pub branches: Vec<Branch>,
}

impl Group {
    /// A plain sequence with one range of targets.
    pub fn plain(tokens: Vec<u32>, targets: Range<usize>) -> Self {
        Self { prefix: Vec::new(), branches: vec![Branch { tokens, targets, weight: 1.0 }] }
    }

    /// Tokens to compute.
    pub fn tokens(&self) -> usize {
        self.prefix.len() + self.branches.iter().map(|b| b.tokens.len()).sum::<usize>()
    }

    /// Sum of the weights of all targets.
    pub fn weight(&self) -> f64 {
        self.branches.iter().map(|b| f64::from(b.weight) * b.targets.len() as f64).sum()
    }

    /// Checks tokens, ranges and weights against a vocabulary and a context length.
    pub fn check(&self, vocab: usize, context: usize) -> Result<()> {
        self.check_with(vocab, &[], context)
    }

    /// As [`Group::check`], where the tokens `soft` (ascending, beyond the vocabulary) may be read,
    /// but are no targets.
    pub fn check_with(&self, vocab: usize, soft: &[u32], context: usize) -> Result<()> {
        let place = "training example";
        let known = |t: &u32| (*t as usize) < vocab || soft.binary_search(t).is_ok();
        for (i, b) in self.branches.iter().enumerate() {
            let wrong = |what: String| Err(Error::input(format!("{place}, branch {i}"), what));
            if b.targets.start >= b.targets.end || b.targets.end > b.tokens.len() {
                return wrong(format!("targets {:?} of {} tokens", b.targets, b.tokens.len()));
            }
            if let Some(t) = b.tokens[b.targets.clone()].iter().find(|&&t| t as usize >= vocab) {
                return wrong(format!("token {t} is a target, but is outside the vocabulary of {vocab}"));
            }
            if b.targets.start == 0 && self.prefix.is_empty() {
                return wrong("the first token of a sequence cannot be a target: nothing comes before it".into());
            }
            if !(b.weight.is_finite() && b.weight > 0.0) {
                return wrong(format!("weight {} is not a positive number", b.weight));
            }
            if self.prefix.len() + b.tokens.len() > context {
                let length = self.prefix.len() + b.tokens.len();
                return Err(Error::input(place, format!("{length} tokens, but the model's context is {context}"))
                    .next("show fewer history items (a smaller K)"));
            }
            if let Some(t) = b.tokens.iter().find(|t| !known(t)) {
                return wrong(format!("token {t} is outside the vocabulary of {vocab}"));
            }
        }
        if let Some(t) = self.prefix.iter().find(|t| !known(t)) {
            return Err(Error::input(place, format!("token {t} is outside the vocabulary of {vocab}")));
        }
        if self.branches.is_empty() {
            return Err(Error::input(place, "no branch, so no target"));
        }
        Ok(())
    }
}

/// A run of rows that attend causally to themselves, after all rows of `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Rows that all of these see; empty for a prefix or a plain sequence.
    pub prefix: Range<usize>,
}

/// One target of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Row whose output predicts it. Several targets may share one row (branches whose token 0 is
    /// one).
    pub row: usize,
    /// Token to predict.
    pub token: u32,
    /// Weight in the loss sum.
    pub weight: f32,
}

/// Groups laid one after another, no padding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packed {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Position of each row in its own sequence.
    pub positions: Vec<u32>,
    /// A name of each row that does not depend on how a step is cut into batches; addresses
    /// dropout.
    pub names: Vec<u64>,
    /// Segments in row order.
    pub segments: Vec<Segment>,
    /// Segments of each group.
    pub groups: Vec<Range<usize>>,
    /// Targets, in row order except where branches share a prefix row.
    pub targets: Vec<Target>,
}

impl Packed {
    /// Adds a group that is number `ordinal` of its optimiser step; the group must have passed
    /// [`Group::check`].
    pub fn push(&mut self, group: &Group, ordinal: u32) {
        let first_segment = self.segments.len();
        let base = self.tokens.len();
        let prefix = base..base + group.prefix.len();
        if !prefix.is_empty() {
            self.extend(&group.prefix, 0);
            self.segments.push(Segment { rows: prefix.clone(), prefix: 0..0 });
        }
        for branch in &group.branches {
            let start = self.tokens.len();
            self.extend(&branch.tokens, group.prefix.len() as u32);
            self.segments.push(Segment { rows: start..self.tokens.len(), prefix: prefix.clone() });
            for i in branch.targets.clone() {
                let row = if i == 0 { prefix.end - 1 } else { start + i - 1 };
                self.targets.push(Target { row, token: branch.tokens[i], weight: branch.weight });
            }
        }
        let rows = (self.tokens.len() - base) as u64;
        self.names.extend((0..rows).map(|i| u64::from(ordinal) << 32 | i));
        self.groups.push(first_segment..self.segments.len());
    }

    fn extend(&mut self, tokens: &[u32], first: u32) {
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len() as u32).map(|i| first + i));
    }

    /// Packs groups numbered from 0.
    pub fn of(groups: &[Group]) -> Self {
        let mut packed = Self::default();
        for (i, g) in groups.iter().enumerate() {
            packed.push(g, i as u32);
        }
        packed
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.names.clear();
        self.segments.clear();
        self.groups.clear();
        self.targets.clear();
    }
}
