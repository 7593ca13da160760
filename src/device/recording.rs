//! Launches that are put down once and run many times: a CUDA graph on a GPU, a list on the host
//! build.
//!
//! What a recording's launches read may be rewritten between two replays: arguments (addresses,
//! sizes, grids) stay.

use std::sync::PoisonError;

use super::cuda::Graph;
use super::kernel::{Arg, Backend, KernelDevice, Launch};
use super::pool::Memory;
use crate::error::{Error, Result};

/// Something that runs on a device's stream.
#[derive(Debug)]
pub(super) enum Step {
    Launch(Launch, Vec<Arg>),
    Clear { address: u64, bytes: usize },
}

/// What a device notes while it records.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) steps: Vec<Step>,
    /// Given back meanwhile: the launches use it again at every replay, one after the other.
    pub(super) spare: Vec<Memory>,
}

/// Launches that were recorded once and are run again as one. Holds the memory that they use
/// between them.
#[derive(Debug)]
pub struct Recording {
    device: KernelDevice,
    what: What,
    kept: Vec<Memory>,
    launches: usize,
}

#[derive(Debug)]
enum What {
    List(Vec<Step>),
    Graph(Graph),
}

/// A device that is recording.
struct Open<'a>(&'a KernelDevice);

impl Open<'_> {
    fn stop(&self) -> (Recorder, Option<Result<Graph>>) {
        let graph = match &self.0.0.backend {
            Backend::Host { .. } => None,
            Backend::Cuda(cuda) => Some(cuda.end_capture()),
        };
        (self.0.recorder(Option::take).unwrap_or_default(), graph)
    }

    fn end(self) -> (Recorder, Option<Result<Graph>>) {
        let stopped = self.stop();
        std::mem::forget(self);
        stopped
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let (Recorder { spare, .. }, graph) = self.stop();
        if let (Some(Ok(graph)), Backend::Cuda(cuda)) = (graph, &self.0.0.backend) {
            cuda.destroy_graph(&graph);
        }
        for memory in spare {
            self.0.give_back(memory);
        }
    }
}

impl KernelDevice {
    /// Puts down what `work` launches, without running any of it; what `work` returns is where
    /// results will be.
    ///
    /// While it works nothing can be copied to the device or from it, and no other thread may use
    /// the device.
    ///
    /// # Errors
    /// Those of `work`; a driver that cannot make a graph of it; a recording within a recording.
    pub fn record<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(Recording, R)> {
        let begun = self.recorder(|recorder| recorder.is_none().then(|| *recorder = Some(Recorder::default())));
        if begun.is_none() {
            return Err(Error::failed("recording", "launches are recorded already"));
        }
        // Ends the recording however the work ends, a panic included.
        let open = Open(self);
        if let Backend::Cuda(cuda) = &self.0.backend {
            cuda.begin_capture()?;
        }
        let made = work();
        let (Recorder { steps, spare }, graph) = open.end();
        let launches = steps.iter().filter(|s| matches!(s, Step::Launch(..))).count();
        let mut recording = Recording { device: self.clone(), what: What::List(steps), kept: spare, launches };
        let made = made?;
        if let Some(graph) = graph {
            recording.what = What::Graph(graph?);
        }
        Ok((recording, made))
    }

    pub(super) fn recorder<R>(&self, with: impl FnOnce(&mut Option<Recorder>) -> R) -> R {
        with(&mut self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a step if the device is recording. Whether it is.
    pub(super) fn note(&self, step: impl FnOnce() -> Step) -> bool {
        self.recorder(|recorder| recorder.as_mut().map(|r| r.steps.push(step()))).is_some()
    }

    /// Fails while the device is recording.
    pub(super) fn not_recording(&self, what: &str) -> Result<()> {
        match self.recorder(|recorder| recorder.is_some()) {
            false => Ok(()),
            true => Err(Error::failed("recording", format!("{what} cannot be recorded"))),
        }
    }
}

impl Recording {
    /// Runs everything again, in order, behind what was launched before.
    ///
    /// # Safety
    /// All buffers that the recorded launches were given, and those that the recording's work
    /// returned, exist still.
    pub unsafe fn replay(&self) -> Result<()> {
        self.device.not_recording("a replay")?;
        match (&self.what, &self.device.0.backend) {
            (What::Graph(graph), Backend::Cuda(cuda)) => cuda.launch_graph(graph),
            (What::List(steps), _) => steps.iter().try_for_each(|step| match step {
                // SAFETY: checked when it was recorded; its buffers are there by this function's
                // contract.
                Step::Launch(launch, args) => unsafe { self.device.launch(launch, args) }.map(drop),
                Step::Clear { address, bytes } => self.device.clear_bytes(*address, *bytes),
            }),
            (What::Graph(_), Backend::Host { .. }) => Err(Error::failed("recording", "a graph without a GPU")),
        }
    }

    /// Number of launches.
    pub fn launches(&self) -> usize {
        self.launches
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let (What::Graph(graph), Backend::Cuda(cuda)) = (&self.what, &self.device.0.backend) {
            cuda.destroy_graph(graph);
        }
        for memory in self.kept.drain(..) {
            self.device.give_back(memory);
        }
    }
}
