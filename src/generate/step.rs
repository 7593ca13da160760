//! Decode steps. On kernels a step for as many rows as the one before is recorded, and the
//! recording replayed as long as steps of that many rows follow: only what they read is written
//! anew.

use crate::device::{Device, Kind, Recording, Rows};
use crate::error::Result;
use crate::models::decoder::model::Counted;
use crate::models::decoder::pass::Start;
use crate::models::decoder::{Cache, Model, Texts};
use crate::ops::attention::cached::Plan;
use crate::tensor::profile;

/// Blocks of attention that a recorded step has beyond one more for each of its rows.
const ROOM: usize = 1;

/// A step with all that its launches read and write, which the recording needs as long as it is
/// there.
pub(super) struct Step {
    recording: Option<Recording>,
    start: Start,
    plan: Plan,
    /// The logits behind all rows.
    pub(super) logits: Rows,
}

impl Step {
    fn new(model: &Model, cache: &mut Cache, rows: &Texts, record: bool) -> Result<Self> {
        let (device, heads) = (model.device(), model.config().attention_heads());
        let start = model.start(rows)?;
        // An answer needs another block after some hundred tokens; a prompt that joins may be
        // longer than the one that left.
        let more = if record { rows.rows() + ROOM } else { 0 };
        let plan = Plan::step(device, model.dtype(), heads, rows.spans.clone(), more)?;
        let plan = plan.with_cap(model.config().score_cap)?;
        let Device::Kernels(kernels) = device else {
            let mut work = cache.take_work(device, model.dtype())?;
            let logits = model.step(&start, &plan, cache, &mut work);
            cache.put_work(work);
            return Ok(Self { recording: None, start, plan, logits: logits? });
        };
        let mut work = model.step_buffers()?;
        if !record {
            let logits = model.step(&start, &plan, cache, &mut work)?;
            return Ok(Self { recording: None, start, plan, logits });
        }
        // The buffers end with the recording's work: it keeps their memory.
        let (recording, logits) = kernels.record(|| {
            let mut work = work;
            model.step(&start, &plan, cache, &mut work)
        })?;
        let step = Self { recording: Some(recording), start, plan, logits };
        step.replay()?;
        Ok(step)
    }

    fn replay(&self) -> Result<()> {
        // SAFETY: model and cache outlive the steps (`Steps`); this value has the rest.
        self.recording.as_ref().map_or(Ok(()), |recording| unsafe { recording.replay() })
    }
}

/// The steps of one generation: one cache of one model, which both must outlive them.
pub(super) struct Steps {
    step: Option<Step>,
    /// Rows of the step before.
    before: usize,
    on: bool,
    /// Why nothing is recorded any more.
    pub(super) failed: Option<String>,
}

impl Steps {
    pub(super) fn new(model: &Model) -> Self {
        let kernels = matches!(model.device(), Device::Kernels(_));
        Self { step: None, before: 0, on: kernels && model.records(), failed: None }
    }

    /// Runs the next step, of `rows`: one token of each sample, those of one prompt next to each
    /// other.
    pub(super) fn run(&mut self, model: &Model, cache: &mut Cache, rows: &Texts) -> Result<&mut Step> {
        let again = std::mem::replace(&mut self.before, rows.rows()) == rows.rows();
        // On a GPU a launch that is timed is waited for, which cannot be recorded.
        let timed = profile::is_on() && matches!(model.device(), Device::Kernels(d) if d.kind() == Kind::Cuda);
        let record = self.on && again && !timed;
        let old = self.step.take().filter(|step| record && step.recording.is_some());
        if let Some(mut step) = old
            && step.plan.write(rows.spans.clone(), cache.rows())?
        {
            model.restart(&mut step.start, rows, cache)?;
            step.replay()?;
            model.count(Counted::Replayed);
            return Ok(self.step.insert(step));
        }
        let step = match Step::new(model, cache, rows, record) {
            Err(e) if record => {
                (self.on, self.failed) = (false, Some(e.to_string()));
                Step::new(model, cache, rows, false)?
            }
            made => made?,
        };
        if step.recording.is_some() {
            model.count(Counted::Recorded);
        }
        Ok(self.step.insert(step))
    }
}
