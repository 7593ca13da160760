//! The GPU behind [`KernelDevice`](super::KernelDevice): one context, one stream, modules from the
//! images in this binary, pinned staging for copies. Every call asks first whether the driver is
//! there.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::sys::{self, CUevent, CUfunction, CUfunction_attribute, CUgraphExec, CUmodule, CUstream};
use cudarc::driver::{CudaContext, DriverError, result};

use super::driver::{self, Cause, classify};
use super::images::{self, Compiled};
use super::kernel::{Arg, Launch};
use super::series::{Series, Stream};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Bytes of one half of the staging buffer.
const STAGE: usize = 4 << 20;
/// Bytes that are set to zero in front of launches that are timed, and how often: a third of a
/// millisecond on a fast card, which is time for the CPU to queue some fifty launches; and more
/// than a second-level cache holds.
const FILLER: (usize, usize) = (256 << 20, 4);
/// Dynamic shared memory that every kernel may have.
const SHARED: usize = 48 * 1024;

/// Page-locked memory in two halves: one is filled while the other is on its way.
struct Staging {
    memory: *mut u8,
    sent: [CUevent; 2],
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<String, CUmodule>,
    /// Each with the dynamic shared memory that it may have.
    functions: HashMap<&'static str, (CUfunction, usize)>,
    /// Launched since the last synchronisation, newest last: a fault is noticed late, and is one of
    /// these.
    recent: Vec<&'static str>,
}

pub(super) struct Cuda {
    context: Arc<CudaContext>,
    capability: (u32, u32),
    stream: CUstream,
    staging: Mutex<Staging>,
    loaded: Mutex<Loaded>,
    /// There while launches are timed one behind the other.
    series: Mutex<Option<Series<Event, Noted>>>,
    /// Memory that is set to zero in front of a series.
    filler: OnceLock<u64>,
    /// What is looked at before the images of this binary.
    compiled: Vec<Compiled>,
}

/// A launch of a series: kernel, blocks, cost.
type Noted = (&'static str, [u32; 3], Cost);

/// A stamp on the stream.
#[derive(Debug)]
pub(super) struct Event(CUevent);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made once, and used no more.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

// SAFETY: as for `Cuda`.
unsafe impl Send for Event {}

// SAFETY: driver handles may be used from any thread once its context is bound, which `enter` does;
// the mutable parts are behind locks.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

/// A graph that is ready to run.
#[derive(Debug)]
pub(super) struct Graph(CUgraphExec);

// SAFETY: as for `Cuda`; the one who owns it launches it and destroys it.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn said(doing: &str, error: DriverError) -> Error {
    Error::failed("GPU", format!("{doing}: {error:?}"))
}

impl Cuda {
    pub(super) fn new(ordinal: usize, compiled: Vec<Compiled>) -> Result<Self> {
        driver::gate()?;
        if images::IMAGES.is_empty() && compiled.is_empty() {
            return Err(Error::usage("--device cuda", "this binary was built without the CUDA compiler")
                .next("scripts/nvcc-venv fetches one; then set RALLREC_CUDA_VENV and build again"));
        }
        let context = CudaContext::new(ordinal).map_err(|e| {
            said("no context", e).next("`nvidia-smi` shows the devices; CUDA_VISIBLE_DEVICES may hide some")
        })?;
        let (major, minor) = context.compute_capability().map_err(|e| said("no compute capability", e))?;
        let capability = (major.max(0) as u32, minor.max(0) as u32);
        context.bind_to_thread().map_err(|e| said("cannot use the context", e))?;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).map_err(|e| said("no stream", e))?;
        let event =
            || result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(|e| said("no event", e));
        // SAFETY: two halves, freed when this value is dropped.
        let memory = unsafe { result::malloc_host(2 * STAGE, 0) }.map_err(|e| said("no page-locked memory", e))?;
        let staging = Mutex::new(Staging { memory: memory.cast(), sent: [event()?, event()?] });
        let (series, filler) = (Mutex::new(None), OnceLock::new());
        Ok(Self { context, capability, stream, staging, loaded: Mutex::default(), series, filler, compiled })
    }

    pub(super) fn capability(&self) -> (u32, u32) {
        self.capability
    }

    pub(super) fn enter(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| said("cannot use the context", e))
    }

    /// Memory; `None` where there is not so much.
    pub(super) fn alloc(&self, bytes: usize) -> Result<Option<u64>> {
        self.enter()?;
        // SAFETY: a fresh allocation; freed by `free`.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(e) if classify(e.0) == Cause::Memory => Ok(None),
            Err(e) => Err(self.late("cannot take memory", e)),
        }
    }

    pub(super) fn free(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: from `alloc`, and the pool gives each back once. The driver waits for work
            // that uses it.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    pub(super) fn free_bytes(&self) -> usize {
        self.enter().ok().and_then(|()| result::mem_get_info().ok()).map_or(0, |(free, _)| free)
    }

    pub(super) fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        let staging = lock(&self.staging);
        for (i, piece) in bytes.chunks(STAGE).enumerate() {
            let (half, sent) = (i % 2, staging.sent[i % 2]);
            // SAFETY: waits until the half is free, fills it, sends it; `to` holds at least these
            // bytes (the caller).
            unsafe {
                let copy = || -> Result<(), DriverError> {
                    result::event::synchronize(sent)?;
                    let at = staging.memory.add(half * STAGE);
                    std::ptr::copy_nonoverlapping(piece.as_ptr(), at, piece.len());
                    let piece = std::slice::from_raw_parts(at, piece.len());
                    result::memcpy_htod_async(to + (i * STAGE) as u64, piece, self.stream)?;
                    result::event::record(sent, self.stream)
                };
                copy().map_err(|e| self.late("cannot copy to the GPU", e))?;
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        let staging = lock(&self.staging);
        let mut arrived: Option<(usize, &mut [u8])> = None;
        let mut pieces = bytes.chunks_mut(STAGE).enumerate();
        loop {
            let next = pieces.next();
            // SAFETY: each half holds a piece. A piece leaves its half before the half is used
            // again: one is on its way while the one before it is taken out. `from` holds these
            // bytes.
            unsafe {
                let half = |i: usize| staging.memory.add(i % 2 * STAGE);
                let mut copy = || -> Result<(), DriverError> {
                    if let Some((i, piece)) = &next {
                        result::event::synchronize(staging.sent[i % 2])?;
                        let stage = std::slice::from_raw_parts_mut(half(*i), piece.len());
                        result::memcpy_dtoh_async(stage, from + (i * STAGE) as u64, self.stream)?;
                        result::event::record(staging.sent[i % 2], self.stream)?;
                    }
                    if let Some((i, piece)) = &mut arrived {
                        result::event::synchronize(staging.sent[*i % 2])?;
                        piece.copy_from_slice(std::slice::from_raw_parts(half(*i), piece.len()));
                    }
                    Ok(())
                };
                copy().map_err(|e| self.late("cannot copy from the GPU", e))?;
            }
            if next.is_none() {
                break;
            }
            arrived = next;
        }
        self.waited();
        Ok(())
    }

    /// The stream was waited for: nothing that was launched before can be to blame any more.
    fn waited(&self) {
        lock(&self.loaded).recent.clear();
        if let Some(series) = lock(&self.series).as_mut() {
            series.waited();
        }
    }

    /// Bytes from one buffer to another.
    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: both buffers hold these bytes (the caller).
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }.map_err(|e| self.late("cannot copy", e))
    }

    pub(super) fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            // Drivers refuse a node of no bytes in a graph.
            return Ok(());
        }
        self.enter()?;
        // SAFETY: the buffer holds these bytes.
        unsafe { result::memset_d8_async(address, 0, bytes, self.stream) }.map_err(|e| self.late("cannot clear", e))
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: our stream.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|e| self.late("cannot finish", e))?;
        self.waited();
        Ok(())
    }

    /// From here on launches and clears are noted by the driver and do not run.
    pub(super) fn begin_capture(&self) -> Result<()> {
        self.enter()?;
        // Relaxed: memory may be taken and modules loaded meanwhile, neither of which touches the
        // stream.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: our stream.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(|e| self.late("cannot record", e))
    }

    /// What was noted.
    pub(super) fn end_capture(&self) -> Result<Graph> {
        self.enter()?;
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: our stream, which is noting; the graph is destroyed once, behind what is made of
        // it.
        unsafe {
            let graph = result::stream::end_capture(self.stream).map_err(|e| self.late("cannot end recording", e))?;
            let ready = result::graph::instantiate(graph, flags).map_err(|e| said("no graph", e));
            let _ = result::graph::destroy(graph);
            ready.map(Graph)
        }
    }

    pub(super) fn launch_graph(&self, graph: &Graph) -> Result<()> {
        self.enter()?;
        lock(&self.loaded).recent.push("a recorded step");
        // SAFETY: made by `end_capture` for this stream's context, and not destroyed.
        unsafe { result::graph::launch(graph.0, self.stream) }.map_err(|e| self.late("launch of a recorded step", e))
    }

    pub(super) fn destroy_graph(&self, graph: &Graph) {
        if self.enter().is_ok() {
            // SAFETY: by its owner, once; a launch on its way is finished first.
            let _ = unsafe { result::graph::exec_destroy(graph.0) };
        }
    }

    /// An error that may come from a kernel launched earlier: names those in question.
    fn late(&self, doing: &str, error: DriverError) -> Error {
        let recent = &lock(&self.loaded).recent;
        let newest: Vec<&str> = recent.iter().rev().take(8).copied().collect();
        let names = if newest.is_empty() { "none".to_owned() } else { newest.join(", ") };
        if classify(error.0) == Cause::Kernel {
            let what = format!("a kernel went wrong: {error:?}; noticed when the program {doing}");
            return Error::failed("GPU", what).within(format!("kernels launched before, newest first: {names}")).next(
                "nothing more can be done on the GPU in this process; run again with CUDA_LAUNCH_BLOCKING=1 to learn \
                 which kernel it is, and `rallrec check --device cuda` for its case",
            );
        }
        said(doing, error).within(format!("kernels launched before, newest first: {names}")).next(
            "run again with CUDA_LAUNCH_BLOCKING=1 to learn which; the run folder is kept and can be gone on with",
        )
    }

    fn unloadable(&self, unit: &str, error: DriverError) -> Error {
        match classify(error.0) {
            Cause::Image => {
                let driver =
                    driver::speaks().map_or_else(|why| why, |version| format!("CUDA {}", driver::text(version)));
                said(&format!("cannot load {unit}"), error)
                    .within(format!("code of {}, driver of {driver}", images::COMPILER))
                    .next("install a newer NVIDIA driver, or build with an older CUDA compiler")
            }
            _ => self.late(&format!("cannot load {unit}"), error),
        }
    }

    /// The unit that holds a kernel, and its code: what was compiled later before what is in this
    /// binary.
    fn code(&self, kernel: &str) -> Result<(String, &[u8])> {
        if let Some(own) = self.compiled.iter().find(|c| c.kernels.iter().any(|k| k == kernel)) {
            return Ok((own.unit.clone(), &own.code));
        }
        let unit = images::unit_of(kernel)
            .ok_or_else(|| Error::failed(format!("kernel {kernel}"), "is not in this binary"))?;
        let (major, minor) = self.capability;
        let image = images::best(unit, major, minor).ok_or_else(|| {
            Error::failed("GPU", format!("no code for compute capability {major}.{minor} in this binary"))
                .next("build with a CUDA compiler that knows it; sm_80 is the oldest supported")
        })?;
        Ok((unit.to_owned(), image.bytes))
    }

    fn function(&self, kernel: &'static str, shared: usize) -> Result<CUfunction> {
        let mut loaded = lock(&self.loaded);
        let function = match loaded.functions.get(kernel) {
            Some(&(function, _)) => function,
            None => {
                let (unit, code) = self.code(kernel)?;
                let module = match loaded.modules.get(&unit) {
                    Some(&module) => module,
                    None => {
                        // SAFETY: a whole cubin, or PTX that ends with a zero.
                        let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
                            .map_err(|e| self.unloadable(&unit, e))?;
                        loaded.modules.insert(unit, module);
                        module
                    }
                };
                let name = CString::new(kernel).map_err(|e| Error::failed(kernel, e))?;
                // SAFETY: the module stays loaded as long as the context.
                let function = unsafe { result::module::get_function(module, name) }
                    .map_err(|e| said(&format!("no kernel {kernel}"), e))?;
                loaded.functions.insert(kernel, (function, SHARED));
                function
            }
        };
        // Only ever raised, and under the lock: two threads may launch it with different amounts.
        let allowed = loaded.functions.get(kernel).map_or(SHARED, |&(_, allowed)| allowed);
        if let Some(raised) = raise(allowed, shared) {
            let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a valid function.
            unsafe { result::function::set_function_attribute(function, most, raised as i32) }
                .map_err(|e| said(&format!("{kernel}: {raised} bytes of shared memory"), e))?;
            loaded.functions.insert(kernel, (function, raised));
        }
        loaded.recent.push(kernel);
        if loaded.recent.len() > 64 {
            loaded.recent.drain(..32);
        }
        Ok(function)
    }

    /// Its seconds, if it is `timed` and so waited for; 0 otherwise, and within a series of timed
    /// launches, which are not waited for.
    ///
    /// # Safety
    /// Pointers must be good for the kernel; number and sizes of the arguments are right.
    pub(super) unsafe fn launch(&self, launch: &Launch, args: &[Arg], timed: bool) -> Result<f64> {
        self.enter()?;
        let function = self.function(launch.kernel, launch.shared)?;
        let mut addresses: Vec<*mut c_void> = args.iter().map(Arg::address).collect();
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        let mut go = || -> Result<()> {
            // SAFETY: by this function's contract; the driver copies the arguments before it
            // returns.
            unsafe {
                let shared = launch.shared as u32;
                result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), shared, self.stream, &mut addresses)
            }
            .map_err(|e| self.late("launch", e))
        };
        let what = (launch.kernel, launch.grid, launch.cost);
        if let Some(series) = lock(&self.series).as_mut() {
            return series.around(self, what, go).map(|()| 0.0);
        }
        if !timed {
            return go().map(|()| 0.0);
        }
        // A single launch of a profiled run: what waits in front of it is not in its time.
        let start = self.mark()?;
        go()?;
        let end = self.mark()?;
        self.wait(&end)?;
        self.between(&start, &end)
    }

    /// From here on launches are stamped and not waited for.
    pub(super) fn begin_series(&self) {
        *lock(&self.series) = Some(Series::new());
    }

    /// All launches since `begin_series` with their seconds.
    pub(super) fn end_series(&self) -> Result<Vec<Stamped>> {
        let Some(series) = lock(&self.series).take() else { return Ok(Vec::new()) };
        let times = series.finish(self)?;
        Ok(times.into_iter().map(|((kernel, grid, cost), seconds)| Stamped { kernel, grid, cost, seconds }).collect())
    }

    /// Queues a copy within the GPU between stamps: a launch of a series by the name of `copy`.
    pub(super) fn copy_in_series(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let what = ("copy", [1; 3], Cost { bytes: 2.0 * bytes as f64, flops: 0.0 });
        match lock(&self.series).as_mut() {
            Some(series) => series.around(self, what, || self.copy(from, to, bytes)),
            None => self.copy(from, to, bytes),
        }
    }
}

/// A launch of a series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamped {
    pub(super) kernel: &'static str,
    pub(super) grid: [u32; 3],
    pub(super) cost: Cost,
    pub(super) seconds: f64,
}

impl Stream for Cuda {
    type Mark = Event;

    fn fill(&self) -> Result<()> {
        let (bytes, times) = FILLER;
        if self.filler.get().is_none() {
            let Some(address) = self.alloc(bytes)? else {
                // A card that is full is timed without.
                return Ok(());
            };
            let _ = self.filler.set(address);
        }
        let address = self.filler.get().copied().unwrap_or(0);
        (0..times).try_for_each(|_| self.clear(address, bytes))
    }

    fn mark(&self) -> Result<Event> {
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = Event(result::event::create(flags).map_err(|e| self.late("cannot stamp", e))?);
        // SAFETY: a fresh event, our stream.
        unsafe { result::event::record(event.0, self.stream) }.map_err(|e| self.late("cannot stamp", e))?;
        Ok(event)
    }

    fn wait(&self, event: &Event) -> Result<()> {
        // SAFETY: recorded on our stream.
        unsafe { result::event::synchronize(event.0) }.map_err(|e| self.late("launch", e))
    }

    fn between(&self, from: &Event, to: &Event) -> Result<f64> {
        // SAFETY: both were recorded on our stream and reached.
        let milliseconds = unsafe { result::event::elapsed(from.0, to.0) }.map_err(|e| self.late("launch", e))?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

/// The amount to set where a launch asks for more shared memory than the function may have so far.
fn raise(allowed: usize, asked: usize) -> Option<usize> {
    (asked > allowed).then_some(asked)
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        let (staging, loaded) = (lock(&self.staging), lock(&self.loaded));
        // SAFETY: all made by this value; nothing uses them any more.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::free_host(staging.memory.cast());
            if let Some(&filler) = self.filler.get() {
                let _ = result::free_sync(filler);
            }
            for event in staging.sent {
                let _ = result::event::destroy(event);
            }
            for &module in loaded.modules.values() {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_of_a_function_is_only_raised() {
        let (mut allowed, mut set) = (SHARED, Vec::new());
        for asked in [0, SHARED, 60_000, 52_000, 60_000, 99_000, 1] {
            if let Some(raised) = raise(allowed, asked) {
                set.push(raised);
                allowed = raised;
            }
            assert!(allowed >= asked, "a launch of {asked} bytes fits");
        }
        assert_eq!(set, [60_000, 99_000], "and no call of the driver is made twice");
    }
}
