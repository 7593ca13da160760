//! Where training examples come from, and how they are cut into batches.

use crate::models::decoder::train::{Engine, Group, Model, Packed};
use crate::monitor::Monitor;
use crate::{Error, Result};

/// Training examples by number; they may be made on demand.
pub trait GroupSource {
    /// How many there are.
    fn len(&self) -> usize;

    /// Example `i`, the same each time.
    ///
    /// # Errors
    /// Whatever making it can meet.
    fn group(&self, i: usize) -> Result<Group>;

    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl GroupSource for Vec<Group> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn group(&self, i: usize) -> Result<Group> {
        self.get(i).cloned().ok_or_else(|| Error::failed("training examples", format!("there is no number {i}")))
    }
}

/// Calls `body` with batches of at most `budget` tokens (more when a single group has more), in
/// order.
pub(super) fn micro_batches(
    groups: &[Group],
    budget: usize,
    mut body: impl FnMut(&Packed) -> Result<()>,
) -> Result<()> {
    let mut packed = Packed::default();
    for (i, group) in groups.iter().enumerate() {
        if packed.rows() > 0 && packed.rows() + group.tokens() > budget {
            body(&packed)?;
            packed.clear();
        }
        packed.push(group, i as u32);
    }
    if packed.rows() > 0 {
        body(&packed)?;
    }
    Ok(())
}

/// Mean loss over the targets of all examples (weighted), without dropout: a validation metric.
///
/// # Errors
/// An unusable example, no examples, or a stop that was asked for.
pub fn mean_loss(
    engine: &mut Engine,
    model: Model<'_>,
    source: &dyn GroupSource,
    micro_tokens: usize,
    monitor: &dyn Monitor,
) -> Result<f64> {
    let (mut total, mut weight) = (0.0, 0.0);
    // Read some at a time: a source may make its groups on demand.
    for from in (0..source.len()).step_by(64) {
        let groups: Vec<Group> = (from..source.len().min(from + 64)).map(|i| source.group(i)).collect::<Result<_>>()?;
        for group in &groups {
            group.check(model.config.vocab, model.config.context)?;
            weight += group.weight();
        }
        micro_batches(&groups, micro_tokens, |batch| {
            monitor.check()?;
            total += engine.loss(model, batch)?;
            Ok(())
        })?;
    }
    if weight == 0.0 {
        return Err(Error::input("evaluation examples", "there are none").next("give at least one example"));
    }
    Ok(total / weight)
}
