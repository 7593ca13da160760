//! CUDA kernels on the CPU. The kernel sources are compiled as C++; the threads of a block are
//! fibers in seeded random order, lanes meet where CUDA says they must, asynchronous copies land
//! late, shared memory is fresh and poisoned for every block, and what goes wrong is named by
//! source line.
//!
//! ```
//! use rallrec_kernels_host::{Arg, Launch};
//!
//! let launch = Launch { kernel: "none", grid: [1; 3], block: [32, 1, 1], shared: 0, seed: 0 };
//! let error = launch.run(&[Arg::U32(1)]);
//! assert!(error.unwrap_err().to_string().contains("no kernel of this name"));
//! ```
//!
//! What it cannot see: bank conflicts ([`banks`] counts those of a pattern), occupancy, the memory
//! model's reordering; `ex2.approx` differs in the last places. Matrix units round as `RALLREC_MMA`
//! says ([`Rounding`]).

pub mod banks;
mod ffi;
mod memory;
mod set;
mod tensor_map;

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;

pub use memory::Memory;
pub use set::{RUNTIME, Set};
pub use tensor_map::TensorMap;

/// How g++ compiles a kernel for the host build, beside its level.
pub const FLAGS: [&str; 8] = include!("flags.rs");

/// How matrix units add the products of one instruction (`runtime/rounding.h`). `RALLREC_MMA` says
/// which of them kernels run with: `nearest`, `a100` or `hopper`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// One f32 addition after the other, each rounded to nearest: what no matrix unit does.
    Nearest,
    /// Eight products and the accumulator aligned to the largest, cut off a bit behind those of
    /// f32.
    A100,
    /// Sixteen products, two bits.
    Hopper,
}

/// `c` plus the products of `a` and `b` as a matrix unit adds them.
pub fn add_products(how: Rounding, c: f32, a: &[f32], b: &[f32]) -> f32 {
    let depth = a.len().min(b.len());
    // SAFETY: `depth` values of each are read.
    unsafe { ffi::rallrec_host_add_products(how as i32, c, a.as_ptr(), b.as_ptr(), depth as u32) }
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Arg {
    /// An address of device memory, or null.
    Pointer(u64),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    F64(f64),
    /// A tensor map by value.
    Map(MapBytes),
    /// A struct by value.
    Block(Block),
}

/// A struct of arguments: its bytes, and what stands where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// As the kernel reads them; the first [`Self::size`] count.
    pub bytes: [u64; 32],
    /// Bytes of the struct.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field of a struct of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name, the same on both sides.
    pub name: &'static str,
    /// Bytes before it.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
    /// Its type: `pointer`, or a number's.
    pub kind: &'static str,
}

/// The bytes of a tensor map, as kernels take them: aligned to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct MapBytes(pub [u64; 16]);

impl Arg {
    /// Bytes of the value.
    pub fn size(&self) -> usize {
        match self {
            Arg::Pointer(_) | Arg::U64(_) | Arg::F64(_) => 8,
            Arg::U32(_) | Arg::I32(_) | Arg::F32(_) => 4,
            Arg::Map(_) => size_of::<MapBytes>(),
            Arg::Block(block) => block.size,
        }
    }

    /// Where the value stands.
    pub fn address(&self) -> *mut c_void {
        match self {
            Arg::Pointer(v) | Arg::U64(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::F64(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::U32(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::I32(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::F32(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::Map(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::Block(v) => v.bytes.as_ptr().cast_mut().cast(),
        }
    }
}

/// A kernel and its launch shape.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Name, as in the source.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// Of the order in which threads and blocks run.
    pub seed: u64,
}

impl Launch<'_> {
    /// Runs to the end, or to the first thing that a GPU would do wrong or not at all.
    pub fn run(&self, args: &[Arg]) -> Result<(), Box<Fault>> {
        self.run_of(Set::BUILT_IN, args)
    }

    /// As [`Self::run`], with the kernel of `set` where it has one of this name.
    pub fn run_of(&self, set: Set, args: &[Arg]) -> Result<(), Box<Fault>> {
        let kernel = CString::new(self.kernel).unwrap_or_default();
        let mut addresses: Vec<*mut c_void> = args.iter().map(Arg::address).collect();
        let sizes: Vec<usize> = args.iter().map(Arg::size).collect();
        let request = ffi::Request {
            kernel: kernel.as_ptr(),
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared,
            args: addresses.as_mut_ptr(),
            arg_sizes: sizes.as_ptr(),
            arg_count: args.len() as u32,
            seed: self.seed,
            set: set.number(),
        };
        let mut raw = ffi::Fault::empty();
        // SAFETY: the request's pointers live through the call; the runtime checks the number and
        // size of arguments against the kernel, and turns accesses outside buffers into a fault.
        if unsafe { ffi::rallrec_host_launch(&request, &mut raw) } == 0 {
            return Ok(());
        }
        Err(Box::new(Fault::new(self.kernel, &raw)))
    }
}

/// What a kernel did wrong, and where.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kernel.
    pub kernel: String,
    /// What happened.
    pub message: String,
    /// `file:line` in the kernel's own source, where it is known.
    pub place: Option<String>,
    /// The calls that led there, innermost first, as `file:line`.
    pub calls: Vec<String>,
    /// Block and thread.
    pub who: ([u32; 3], [u32; 3]),
}

impl Fault {
    fn new(kernel: &str, raw: &ffi::Fault) -> Self {
        // SAFETY: the runtime ends the message with a zero; file names are literals.
        let message = unsafe { CStr::from_ptr(raw.message.as_ptr()) }.to_string_lossy().into_owned();
        let site = (!raw.file.is_null()).then(|| {
            // SAFETY: a string literal of the kernel's source.
            let file = unsafe { CStr::from_ptr(raw.file) }.to_string_lossy().into_owned();
            format!("{}:{}", short(&file), raw.line)
        });
        let mut calls = Vec::new();
        for &address in &raw.frames[..raw.frame_count as usize] {
            // A return address stands behind its call.
            backtrace::resolve((address - 1) as *mut c_void, |symbol| {
                if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
                    let file = file.to_string_lossy();
                    if file.ends_with(".cu") || file.ends_with(".cuh") {
                        calls.push(format!("{}:{line}", short(&file)));
                    }
                }
            });
        }
        calls.dedup();
        let place = calls.iter().find(|c| c.contains(".cu:")).cloned().or_else(|| site.clone());
        if let Some(site) = site
            && calls.first() != Some(&site)
        {
            calls.insert(0, site);
        }
        Self { kernel: kernel.to_owned(), message, place, calls, who: (raw.block, raw.thread) }
    }
}

fn short(file: &str) -> String {
    let parts: Vec<&str> = file.rsplit('/').take(2).collect();
    match parts.as_slice() {
        [name, "common"] => format!("common/{name}"),
        [name, ..] => (*name).to_owned(),
        [] => file.to_owned(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        match &self.place {
            Some(place) => write!(f, " at {place}")?,
            None => write!(f, " (`rallrec check OP --kernels FOLDER` knows the line)")?,
        }
        let (block, thread) = self.who;
        write!(f, ": {} (block {block:?}, thread {thread:?})", self.message)?;
        if self.calls.len() > 1 {
            write!(f, "; calls: {}", self.calls.join(" < "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A kernel that this build knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Name, as in the source.
    pub name: String,
    /// Most threads a block.
    pub max_threads: u32,
    /// Bytes of each argument.
    pub argument_sizes: Vec<usize>,
}

/// The layout of a struct of arguments, as the kernels' sources have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the struct.
    pub name: String,
    /// Its bytes.
    pub size: usize,
    /// Name, offset and size of each field.
    pub fields: Vec<(String, usize, usize)>,
}

/// All structs of arguments, by name.
pub fn layouts() -> Vec<Layout> {
    layouts_of(Set::BUILT_IN)
}

fn layouts_of(set: Set) -> Vec<Layout> {
    extern "C" fn each(
        out: *mut c_void,
        name: *const c_char,
        size: usize,
        count: u32,
        names: *const *const c_char,
        places: *const usize,
    ) {
        let count = count as usize;
        // SAFETY: `out` is the vector below; names are literals, `count` of them, and an offset and
        // a size for each.
        let (out, name, names, places) = unsafe {
            let names = std::slice::from_raw_parts(names, count);
            let places = std::slice::from_raw_parts(places, 2 * count);
            (&mut *out.cast::<Vec<Layout>>(), CStr::from_ptr(name), names, places)
        };
        // SAFETY: as above.
        let text = |p: &*const c_char| unsafe { CStr::from_ptr(*p) }.to_string_lossy().into_owned();
        let fields = names.iter().zip(places.chunks_exact(2)).map(|(n, p)| (text(n), p[0], p[1])).collect();
        out.push(Layout { name: name.to_string_lossy().into_owned(), size, fields });
    }
    let mut out: Vec<Layout> = Vec::new();
    // SAFETY: `each` gets the vector's address back and nothing keeps it.
    unsafe { ffi::rallrec_host_layouts(set.number(), each, (&raw mut out).cast()) };
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// The numbers of `RALLREC_CONSTANT` in the sources, by name.
pub fn constants() -> Vec<(String, usize)> {
    constants_of(Set::BUILT_IN)
}

fn constants_of(set: Set) -> Vec<(String, usize)> {
    extern "C" fn each(out: *mut c_void, name: *const c_char, value: usize) {
        // SAFETY: `out` is the vector below; the name is a literal.
        let (out, name) = unsafe { (&mut *out.cast::<Vec<(String, usize)>>(), CStr::from_ptr(name)) };
        out.push((name.to_string_lossy().into_owned(), value));
    }
    let mut out: Vec<(String, usize)> = Vec::new();
    // SAFETY: `each` gets the vector's address back and nothing keeps it.
    unsafe { ffi::rallrec_host_constants(set.number(), each, (&raw mut out).cast()) };
    out.sort();
    out
}

/// All kernels, by name.
pub fn kernels() -> Vec<Kernel> {
    kernels_of(Set::BUILT_IN)
}

fn kernels_of(set: Set) -> Vec<Kernel> {
    extern "C" fn each(out: *mut c_void, name: *const c_char, max_threads: u32, count: u32, sizes: *const usize) {
        // SAFETY: `out` is the vector below; the name is a literal; `count` sizes stand at `sizes`.
        let (out, name, sizes) = unsafe {
            let sizes = std::slice::from_raw_parts(sizes, count as usize);
            (&mut *out.cast::<Vec<Kernel>>(), CStr::from_ptr(name), sizes)
        };
        let name = name.to_string_lossy().into_owned();
        out.push(Kernel { name, max_threads, argument_sizes: sizes.to_vec() });
    }
    let mut out: Vec<Kernel> = Vec::new();
    // SAFETY: `each` gets the vector's address back and nothing keeps it.
    unsafe { ffi::rallrec_host_kernels(set.number(), each, (&raw mut out).cast()) };
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}
