//! Where kernels run: one launch seam over two backends. `host` runs the kernel sources as C++ on
//! the CPU (slow, and strict: it names a wrong line); `cuda` runs the compiled ones on a GPU.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use rallrec_kernels_host::{Arg, Set};

use super::arguments::{Block, Field};
use super::buffer::{Buffer, Element};
use super::cuda::{Cuda, Stamped};
use super::images::Compiled;
use super::nvtx;
use super::pool::{Memory, Pool};
use super::recording::{Recorder, Step};
use crate::error::{Error, Result};
use crate::tensor::Cost;
use crate::tensor::profile::{self, Place};

/// A kernel with its launch shape and what it must move and compute at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Launch {
    /// Name, as in the source.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// Bytes and FLOP.
    pub cost: Cost,
}

impl Launch {
    /// `blocks` blocks of `threads` threads.
    pub fn new(kernel: &'static str, blocks: usize, threads: u32, cost: Cost) -> Self {
        // More blocks than can be launched are refused by the launch itself.
        Self {
            kernel,
            grid: [u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1],
            block: [threads, 1, 1],
            shared: 0,
            cost,
        }
    }

    /// With `blocks` along y.
    #[must_use]
    pub fn by(mut self, blocks: usize) -> Self {
        self.grid[1] = u32::try_from(blocks).unwrap_or(u32::MAX);
        self
    }

    /// With dynamic shared memory.
    #[must_use]
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = bytes;
        self
    }
}

/// A launch and what it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedLaunch {
    /// Kernel.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Bytes and FLOP.
    pub cost: Cost,
    /// Seconds.
    pub seconds: f64,
}

/// What kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The kernel sources as C++ on the CPU.
    Host,
    /// A GPU.
    Cuda,
}

pub(super) enum Backend {
    Host { seed: AtomicU64, set: Set },
    Cuda(Box<Cuda>),
}

pub(super) struct Inner {
    pub(super) backend: Backend,
    pub(super) pool: Pool,
    /// There while launches are recorded.
    pub(super) recorder: Mutex<Option<Recorder>>,
    /// There while launches of the host build are timed.
    listed: Mutex<Option<Vec<TimedLaunch>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.close(&self.backend);
    }
}

/// A device that runs kernels; clones share it.
#[derive(Clone)]
pub struct KernelDevice(pub(super) Arc<Inner>);

impl fmt::Debug for KernelDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelDevice({:?})", self.kind())
    }
}

impl KernelDevice {
    /// Kernels on the CPU, threads and blocks in the order of `seed`. Every launch takes another
    /// order.
    pub fn host(seed: u64) -> Self {
        Self::host_with(seed, Set::BUILT_IN)
    }

    /// As [`Self::host`], with the kernels of a library before those of the program.
    pub fn host_with(seed: u64, set: Set) -> Self {
        Self::over(Backend::Host { seed: AtomicU64::new(seed), set })
    }

    /// The GPU number `ordinal` of those that CUDA_VISIBLE_DEVICES shows.
    ///
    /// # Errors
    /// No driver or one that is too old, no GPU, no kernels in this binary, a limit that is no
    /// size.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Self::cuda_with(ordinal, Vec::new())
    }

    /// As [`Self::cuda`], with these kernels before those of the program.
    ///
    /// # Errors
    /// As there; code that the driver does not take is refused when it is first launched.
    pub fn cuda_with(ordinal: usize, compiled: Vec<Compiled>) -> Result<Self> {
        let limit = match std::env::var("RALLREC_GPU_MEMORY") {
            Ok(text) if !text.trim().is_empty() => Some(super::pool::size(&text).ok_or_else(|| {
                Error::usage("RALLREC_GPU_MEMORY", format!("'{text}' is no size")).next("use e.g. 20GiB")
            })?),
            _ => None,
        };
        let device = Self::over(Backend::Cuda(Box::new(Cuda::new(ordinal, compiled)?)));
        if let Some(limit) = limit {
            device.limit_memory(limit);
        }
        Ok(device)
    }

    /// What `work` launches, each with its seconds, in order. On a GPU nothing is waited for
    /// between launches, and the stream is busy when the first comes: only so are short launches
    /// timed right. No other thread may use the device meanwhile.
    ///
    /// # Errors
    /// Those of `work`; a device that fails.
    pub fn time_launches(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<TimedLaunch>> {
        if let Backend::Cuda(cuda) = &self.0.backend {
            cuda.begin_series();
            let done = work();
            let times = cuda.end_series();
            done?;
            let timed = |s: Stamped| TimedLaunch { kernel: s.kernel, grid: s.grid, cost: s.cost, seconds: s.seconds };
            return Ok(times?.into_iter().map(timed).collect());
        }
        self.listed(|list| *list = Some(Vec::new()));
        let done = work();
        let times = self.listed(Option::take).unwrap_or_default();
        done.map(|()| times)
    }

    /// The list of launches that the host build is timing.
    fn listed<R>(&self, with: impl FnOnce(&mut Option<Vec<TimedLaunch>>) -> R) -> R {
        with(&mut self.0.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Copies the beginning of `from` over that of `to`, as much as both have, within the device.
    /// Within [`Self::time_launches`] it is a launch of the name `copy`.
    ///
    /// # Errors
    /// A device that fails or is recording.
    pub fn copy<T: Element>(&self, from: &Buffer<T>, to: &mut Buffer<T>) -> Result<()> {
        self.not_recording("a copy within the device")?;
        let bytes = from.len().min(to.len()) * size_of::<T>();
        match &self.0.backend {
            // SAFETY: two buffers of at least these bytes.
            Backend::Host { .. } => unsafe {
                std::ptr::copy_nonoverlapping(from.address() as *const u8, to.address() as *mut u8, bytes);
            },
            Backend::Cuda(cuda) => cuda.copy_in_series(from.address(), to.address(), bytes)?,
        }
        Ok(())
    }

    fn over(backend: Backend) -> Self {
        Self(Arc::new(Inner { backend, pool: Pool::default(), recorder: Mutex::default(), listed: Mutex::default() }))
    }

    /// Which backend.
    pub fn kind(&self) -> Kind {
        match self.0.backend {
            Backend::Host { .. } => Kind::Host,
            Backend::Cuda(_) => Kind::Cuda,
        }
    }

    /// Whether kernels for compute capability 9.0 alone run on it: such a GPU, or the host build.
    pub fn has_hopper(&self) -> bool {
        self.kind() == Kind::Host || self.capability() == Some((9, 0))
    }

    /// Uninitialised memory for `len` values. On the host it holds NaN.
    pub fn alloc<T: Element>(&self, len: usize, label: &'static str) -> Result<Buffer<T>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| {
            Error::failed(label, format!("{len} values of {} bytes are more than can be addressed", size_of::<T>()))
        })?;
        let spare = self.recorder(|recorder| {
            let spare = &mut recorder.as_mut()?.spare;
            spare.iter().position(|memory| memory.serves(bytes, label)).map(|at| spare.swap_remove(at))
        });
        let memory = match spare {
            Some(memory) => memory,
            None => self.0.pool.take(&self.0.backend, bytes, label)?,
        };
        Ok(Buffer::new(self.clone(), memory, len))
    }

    /// Zeros.
    pub fn zeros<T: Element>(&self, len: usize, label: &'static str) -> Result<Buffer<T>> {
        let mut buffer = self.alloc(len, label)?;
        self.clear(&mut buffer)?;
        Ok(buffer)
    }

    /// A copy of `values` on the device.
    pub fn upload<T: Element>(&self, values: &[T], label: &'static str) -> Result<Buffer<T>> {
        let mut buffer = self.alloc(values.len(), label)?;
        self.write(&mut buffer, values)?;
        Ok(buffer)
    }

    /// Copies `values` to the start of `to`.
    pub fn write<T: Element>(&self, to: &mut Buffer<T>, values: &[T]) -> Result<()> {
        if values.len() > to.len() {
            let what = format!("{} values do not fit {}", values.len(), to.len());
            return Err(Error::failed(to.label(), what));
        }
        self.not_recording("a copy to the device")?;
        match &self.0.backend {
            // SAFETY: the buffer is plain memory of at least this many values.
            Backend::Host { .. } => unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr(), to.address() as *mut T, values.len());
            },
            Backend::Cuda(cuda) => cuda.write(to.address(), bytemuck::cast_slice(values))?,
        }
        Ok(())
    }

    /// A copy of the buffer, after all that was launched before.
    pub fn download<T: Element>(&self, from: &Buffer<T>) -> Result<Vec<T>> {
        self.not_recording("a copy from the device")?;
        let mut out = vec![T::zeroed(); from.len()];
        match &self.0.backend {
            // SAFETY: as in `write`.
            Backend::Host { .. } => unsafe {
                std::ptr::copy_nonoverlapping(from.address() as *const T, out.as_mut_ptr(), out.len());
            },
            Backend::Cuda(cuda) => cuda.read(from.address(), bytemuck::cast_slice_mut(&mut out))?,
        }
        Ok(out)
    }

    /// Sets every byte to 0.
    pub fn clear<T: Element>(&self, buffer: &mut Buffer<T>) -> Result<()> {
        self.clear_bytes(buffer.address(), buffer.len() * size_of::<T>())
    }

    pub(super) fn clear_bytes(&self, address: u64, bytes: usize) -> Result<()> {
        let recorded = self.note(|| Step::Clear { address, bytes });
        match &self.0.backend {
            Backend::Host { .. } if recorded => {}
            // SAFETY: a buffer, or a part of one: plain memory.
            Backend::Host { .. } => unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) },
            Backend::Cuda(cuda) => cuda.clear(address, bytes)?,
        }
        Ok(())
    }

    /// Waits for everything launched before.
    pub fn synchronize(&self) -> Result<()> {
        self.not_recording("waiting for the device")?;
        match &self.0.backend {
            Backend::Host { .. } => Ok(()),
            Backend::Cuda(cuda) => cuda.synchronize(),
        }
    }

    /// Puts a kernel on the device's stream. A launch of no blocks does nothing. Returns its cost.
    ///
    /// # Safety
    /// Every pointer among `args` must be null where the kernel allows it, or a buffer of this
    /// device that is as large as the kernel's contract says. The number and the sizes of the
    /// arguments are checked here.
    pub unsafe fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<Cost> {
        if launch.grid.contains(&0) {
            return Ok(Cost::default());
        }
        super::signatures::check(launch, args)?;
        let recorded = self.note(|| Step::Launch(*launch, args.to_vec()));
        // While operators are timed, so is every launch, and a GPU waits for each: the run is
        // slower then.
        let timed = profile::is_on() && !recorded;
        let _range = nvtx::range(launch.kernel);
        let listed = !recorded && self.kind() == Kind::Host && self.listed(|list| list.is_some());
        let began = (timed || listed).then(Instant::now);
        let seconds = match &self.0.backend {
            Backend::Host { .. } if recorded => 0.0,
            Backend::Host { seed, set } => {
                let host = rallrec_kernels_host::Launch {
                    kernel: launch.kernel,
                    grid: launch.grid,
                    block: launch.block,
                    shared: launch.shared,
                    seed: seed.fetch_add(1, Ordering::Relaxed),
                };
                host.run_of(*set, args).map_err(|fault| self.fault(launch, args, &fault))?;
                began.map_or(0.0, |began| began.elapsed().as_secs_f64())
            }
            // SAFETY: by this function's contract.
            Backend::Cuda(cuda) => {
                unsafe { cuda.launch(launch, args, timed) }.map_err(|e| self.fault(launch, args, &e))?
            }
        };
        if listed {
            let Launch { kernel, grid, cost, .. } = *launch;
            self.listed(|list| list.iter_mut().for_each(|l| l.push(TimedLaunch { kernel, grid, cost, seconds })));
        }
        if let (true, Some(began)) = (timed, began) {
            let place = Place::Kernel { device: self.name(), grid: launch.grid };
            profile::launched(launch.kernel, place, began, seconds, launch.cost);
        }
        Ok(launch.cost)
    }

    /// Names the kernel with its shapes.
    fn fault(&self, launch: &Launch, args: &[Arg], what: &dyn fmt::Display) -> Error {
        let pointer = |p: u64| if p == 0 { "null".to_owned() } else { self.0.pool.describe(p) };
        let fields = |block: &Block| {
            let bytes = bytemuck::cast_slice::<u64, u8>(&block.bytes);
            let word = |f: &Field| bytes[f.offset..].first_chunk::<8>().copied().unwrap_or_default();
            let half = |f: &Field| bytes[f.offset..].first_chunk::<4>().copied().unwrap_or_default();
            let value = |f: &Field| match f.kind {
                "pointer" => pointer(u64::from_ne_bytes(word(f))),
                "u64" => u64::from_ne_bytes(word(f)).to_string(),
                "f64" => format!("{:?}", f64::from_ne_bytes(word(f))),
                "u32" => u32::from_ne_bytes(half(f)).to_string(),
                "i32" => i32::from_ne_bytes(half(f)).to_string(),
                _ => format!("{:?}", f32::from_ne_bytes(half(f))),
            };
            let each: Vec<String> = block.fields.iter().map(|f| format!("{}: {}", f.name, value(f))).collect();
            each.join(", ")
        };
        let shapes: Vec<String> = args
            .iter()
            .map(|arg| match arg {
                Arg::Pointer(p) => pointer(*p),
                Arg::U32(v) => v.to_string(),
                Arg::I32(v) => v.to_string(),
                Arg::U64(v) => v.to_string(),
                Arg::F32(v) => format!("{v:?}"),
                Arg::F64(v) => format!("{v:?}"),
                Arg::Map(_) => "a tensor map".to_owned(),
                Arg::Block(block) => fields(block),
            })
            .collect();
        let Launch { kernel, grid, block, shared, .. } = launch;
        let shape = format!("grid {grid:?}, block {block:?}, {shared} bytes shared, ({})", shapes.join(", "));
        Error::failed(format!("kernel {kernel}"), format!("{what}\n  launched with {shape}")).next(
            "the run folder is kept: `--device cpu` goes on from it; please report this text, it names the kernel",
        )
    }

    fn name(&self) -> &'static str {
        match self.kind() {
            Kind::Host => "host",
            Kind::Cuda => "cuda",
        }
    }

    /// Bytes that buffers hold now, and the most they held.
    pub fn memory_in_use(&self) -> (usize, usize) {
        self.0.pool.in_use()
    }

    /// Refuses to hold more than `bytes`: makes room for other processes, and tests what happens
    /// when memory ends.
    pub fn limit_memory(&self, bytes: usize) {
        self.0.pool.limit(bytes);
    }

    pub(super) fn give_back(&self, memory: Memory) {
        let memory = self.recorder(|recorder| match recorder {
            Some(recorder) => {
                recorder.spare.push(memory);
                None
            }
            None => Some(memory),
        });
        if let Some(memory) = memory {
            self.0.pool.give_back(&self.0.backend, memory);
        }
    }
}
