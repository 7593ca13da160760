//! Decode steps. A step for as many rows as the one before is recorded, and the recording replayed as long as steps of that
//! many rows follow: only what they read is written anew.

use super::pass::{Cache, Rows, Start};
use super::{Counted, DeviceModel};
use crate::device::{DeviceRows, Kind, Recording, Storage};
use crate::error::Result;
use crate::ops::attention::decode;
use crate::tensor::profile;

/// Blocks of attention that a recorded step has beyond one more for each of its rows.
const ROOM: usize = 1;

/// A step with all that its launches read and write, which the recording needs as long as it is there.
pub(super) struct Step<T: Storage> {
    recording: Option<Recording>,
    start: Start<T>,
    plan: decode::Plan<T>,
    /// Final hidden states.
    pub(super) hidden: DeviceRows<T>,
    /// The logits behind them.
    pub(super) logits: DeviceRows<f32>,
}

impl<T: Storage> Step<T> {
    fn new(
        model: &DeviceModel<T>,
        cache: &mut Cache<T>,
        rows: &Rows,
        prompts: &[decode::Prompt],
        record: bool,
    ) -> Result<Self> {
        let (device, heads) = (&model.device, model.heads());
        let mut start = model.start(rows)?;
        if !record {
            let plan = decode::Plan::new(device, heads, prompts)?;
            let (hidden, logits) = model.step(&mut start, &plan, cache)?;
            return Ok(Self { recording: None, start, plan, hidden, logits });
        }
        // An answer needs another block after some hundred tokens; a prompt that joins may be longer than the one that left.
        let plan = decode::Plan::with_room(device, heads, prompts, rows.tokens.len() + ROOM)?;
        let (recording, (hidden, logits)) = device.record(|| model.step(&mut start, &plan, cache))?;
        let step = Self { recording: Some(recording), start, plan, hidden, logits };
        step.replay()?;
        Ok(step)
    }

    fn replay(&self) -> Result<()> {
        // SAFETY: model and cache outlive the steps (`Steps`); this value has the rest.
        self.recording.as_ref().map_or(Ok(()), |recording| unsafe { recording.replay() })
    }
}

/// The steps of one generation: one cache of one model, which both must outlive them.
pub(super) struct Steps<T: Storage> {
    step: Option<Step<T>>,
    /// Rows of the step before.
    before: usize,
    on: bool,
    /// Why nothing is recorded any more.
    pub(super) failed: Option<String>,
}

impl<T: Storage> Steps<T> {
    /// `on`: whether they are recorded at all.
    pub(super) fn new(on: bool) -> Self {
        Self { step: None, before: 0, on, failed: None }
    }

    /// Runs the next step, of `rows` that belong to samples of `prompts`.
    pub(super) fn run(
        &mut self,
        model: &DeviceModel<T>,
        cache: &mut Cache<T>,
        rows: &Rows,
        prompts: &[decode::Prompt],
    ) -> Result<&mut Step<T>> {
        let again = std::mem::replace(&mut self.before, rows.tokens.len()) == rows.tokens.len();
        // On a GPU a launch that is timed is waited for, which cannot be recorded.
        let timed = profile::is_on() && model.device.kind() == Kind::Cuda;
        let record = self.on && again && !timed;
        let old = self.step.take().filter(|step| record && step.recording.is_some());
        if let Some(mut step) = old
            && step.plan.write(prompts, cache.rows())?
        {
            model.restart(&mut step.start, rows, cache)?;
            step.replay()?;
            model.count(Counted::Replayed);
            return Ok(self.step.insert(step));
        }
        let step = match Step::new(model, cache, rows, prompts, record) {
            Err(e) if record => {
                (self.on, self.failed) = (false, Some(e.to_string()));
                Step::new(model, cache, rows, prompts, false)?
            }
            made => made?,
        };
        if step.recording.is_some() {
            model.count(Counted::Recorded);
        }
        Ok(self.step.insert(step))
    }
}
