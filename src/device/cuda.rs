//! The GPU behind [`KernelDevice`](super::KernelDevice): one context, one stream, modules from the
//! images in this binary, pinned staging for copies. Every call asks first whether the driver is
//! there.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUevent, CUfunction, CUfunction_attribute, CUgraphExec, CUmodule, CUstream};
use cudarc::driver::{CudaContext, DriverError, result};

use super::images;
use super::kernel::{Arg, Launch};
use crate::error::{Error, Result};

/// Bytes of one half of the staging buffer.
const STAGE: usize = 4 << 20;

/// Page-locked memory in two halves: one is filled while the other is on its way.
struct Staging {
    memory: *mut u8,
    sent: [CUevent; 2],
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, CUmodule>,
    functions: HashMap<&'static str, CUfunction>,
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
}

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
    pub(super) fn new(ordinal: usize) -> Result<Self> {
        // SAFETY: looks for the driver's library and loads nothing else; other calls panic without
        // it.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::usage("--device cuda", "no NVIDIA driver library (libcuda) on this machine")
                .next("install the NVIDIA driver, or use --device cpu; `rallrec doctor` shows what the program sees"));
        }
        if images::IMAGES.is_empty() {
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
        Ok(Self { context, capability, stream, staging, loaded: Mutex::default() })
    }

    pub(super) fn capability(&self) -> (u32, u32) {
        self.capability
    }

    pub(super) fn enter(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| said("cannot use the context", e))
    }

    pub(super) fn alloc(&self, bytes: usize) -> Option<u64> {
        self.enter().ok()?;
        // SAFETY: a fresh allocation; freed by `free`.
        unsafe { result::malloc_sync(bytes) }.ok()
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
        for (i, piece) in bytes.chunks_mut(STAGE).enumerate() {
            // SAFETY: the first half holds a piece; the stream is done before it is read. `from`
            // holds these bytes.
            unsafe {
                let mut copy = || -> Result<(), DriverError> {
                    result::event::synchronize(staging.sent[0])?;
                    let stage = std::slice::from_raw_parts_mut(staging.memory, piece.len());
                    result::memcpy_dtoh_async(stage, from + (i * STAGE) as u64, self.stream)?;
                    result::stream::synchronize(self.stream)?;
                    piece.copy_from_slice(stage);
                    Ok(())
                };
                copy().map_err(|e| self.late("cannot copy from the GPU", e))?;
            }
        }
        lock(&self.loaded).recent.clear();
        Ok(())
    }

    pub(super) fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the buffer holds these bytes.
        unsafe { result::memset_d8_async(address, 0, bytes, self.stream) }.map_err(|e| self.late("cannot clear", e))
    }

    pub(super) fn synchronize(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: our stream.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|e| self.late("cannot finish", e))?;
        lock(&self.loaded).recent.clear();
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
        said(doing, error).within(format!("kernels launched before, newest first: {names}")).next(
            "run again with CUDA_LAUNCH_BLOCKING=1 to learn which; the run folder is kept and can be gone on with",
        )
    }

    fn function(&self, kernel: &'static str, shared: usize) -> Result<CUfunction> {
        let mut loaded = lock(&self.loaded);
        let function = match loaded.functions.get(kernel) {
            Some(&function) => function,
            None => {
                let unit = images::unit_of(kernel)
                    .ok_or_else(|| Error::failed(format!("kernel {kernel}"), "is not in this binary"))?;
                let module = match loaded.modules.get(unit) {
                    Some(&module) => module,
                    None => {
                        let (major, minor) = self.capability;
                        let image = images::best(unit, major, minor).ok_or_else(|| {
                            Error::failed(
                                "GPU",
                                format!("no code for compute capability {major}.{minor} in this binary"),
                            )
                            .next("build with a CUDA compiler that knows it; sm_80 is the oldest supported")
                        })?;
                        // SAFETY: a whole cubin, or PTX that ends with a zero.
                        let module = unsafe { result::module::load_data(image.bytes.as_ptr().cast()) }
                            .map_err(|e| said(&format!("cannot load {unit}"), e))?;
                        loaded.modules.insert(unit, module);
                        module
                    }
                };
                let name = CString::new(kernel).map_err(|e| Error::failed(kernel, e))?;
                // SAFETY: the module stays loaded as long as the context.
                let function = unsafe { result::module::get_function(module, name) }
                    .map_err(|e| said(&format!("no kernel {kernel}"), e))?;
                loaded.functions.insert(kernel, function);
                function
            }
        };
        if shared > 48 * 1024 {
            let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a valid function.
            unsafe { result::function::set_function_attribute(function, most, shared as i32) }
                .map_err(|e| said(&format!("{kernel}: {shared} bytes of shared memory"), e))?;
        }
        loaded.recent.push(kernel);
        if loaded.recent.len() > 64 {
            loaded.recent.drain(..32);
        }
        Ok(function)
    }

    /// Its seconds, if it is `timed` and so waited for; 0 otherwise.
    ///
    /// # Safety
    /// Pointers must be good for the kernel; number and sizes of the arguments are right.
    pub(super) unsafe fn launch(&self, launch: &Launch, args: &[Arg], timed: bool) -> Result<f64> {
        self.enter()?;
        let function = self.function(launch.kernel, launch.shared)?;
        let mut addresses: Vec<*mut c_void> = args.iter().map(Arg::address).collect();
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        let mut go = || -> Result<f64, DriverError> {
            // SAFETY: by this function's contract; the driver copies the arguments before it
            // returns.
            unsafe {
                let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
                let events =
                    if timed { Some((result::event::create(flags)?, result::event::create(flags)?)) } else { None };
                if let Some((start, _)) = events {
                    result::event::record(start, self.stream)?;
                }
                let shared = launch.shared as u32;
                result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), shared, self.stream, &mut addresses)?;
                let Some((start, end)) = events else { return Ok(0.0) };
                result::event::record(end, self.stream)?;
                result::event::synchronize(end)?;
                let milliseconds = result::event::elapsed(start, end)?;
                result::event::destroy(start)?;
                result::event::destroy(end)?;
                Ok(f64::from(milliseconds) * 1e-3)
            }
        };
        go().map_err(|e| self.late("launch", e))
    }
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
