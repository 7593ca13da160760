//! Ranges for Nsight: stages and launches by name in its timeline, while a run is profiled and a
//! tool listens.
//!
//! NVTX 3 has no library: a tool puts one of its own into `NVTX_INJECTION64_PATH`, and whoever has
//! ranges to show loads it and calls its `InitializeInjectionNvtx2`. That asks for a table of
//! places
//! where function pointers stand, and writes its own there. Without the variable nothing is loaded.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::os::unix::Library;

use crate::tensor::profile;

/// A range of the calling thread; it ends when it is dropped.
#[derive(Debug)]
pub struct Range(());

/// Places of the functions of NVTX's module `core`, by their number there.
const FUNCTIONS: usize = 16;
const PUSH: usize = 9; // nvtxRangePushA
const POP: usize = 11; // nvtxRangePop
const MODULE_CORE: c_uint = 1;
const TABLE_OF_CALLBACKS: u32 = 1;
const TABLE_OF_VERSION: u32 = 3;

/// What a tool writes: its functions.
static GIVEN: [AtomicPtr<c_void>; FUNCTIONS] = [const { AtomicPtr::new(null_mut()) }; FUNCTIONS];

/// An array of addresses of [`GIVEN`]'s places, as the interface wants it.
struct Places([*const AtomicPtr<c_void>; FUNCTIONS]);

// SAFETY: addresses of a static.
unsafe impl Sync for Places {}
// SAFETY: as above.
unsafe impl Send for Places {}

fn places() -> &'static Places {
    static PLACES: OnceLock<Places> = OnceLock::new();
    PLACES.get_or_init(|| Places(std::array::from_fn(|i| std::ptr::from_ref(&GIVEN[i]))))
}

/// Gives out the places of a module: 1 for the one that is known here, else 0.
extern "C" fn module_functions(module: c_uint, table: *mut *const c_void, size: *mut c_uint) -> c_int {
    let known = module == MODULE_CORE;
    let (address, count) =
        if known { (places().0.as_ptr().cast(), FUNCTIONS as c_uint) } else { (std::ptr::null(), 0) };
    // SAFETY: the tool passes the addresses of two variables, or null.
    unsafe {
        if !table.is_null() {
            *table = address;
        }
        if !size.is_null() {
            *size = count;
        }
    }
    c_int::from(known)
}

/// A tool tells its version; nothing follows from it.
extern "C" fn version_of_tool(_: u32) {}

#[repr(C)]
struct Callbacks {
    bytes: usize,
    functions: extern "C" fn(c_uint, *mut *const c_void, *mut c_uint) -> c_int,
}

#[repr(C)]
struct Version {
    bytes: usize,
    version: u32,
    reserved: u32,
    tell: extern "C" fn(u32),
}

static CALLBACKS: Callbacks = Callbacks { bytes: size_of::<Callbacks>(), functions: module_functions };
static VERSION: Version = Version { bytes: size_of::<Version>(), version: 3, reserved: 0, tell: version_of_tool };

extern "C" fn export_table(id: u32) -> *const c_void {
    match id {
        TABLE_OF_CALLBACKS => std::ptr::from_ref(&CALLBACKS).cast(),
        TABLE_OF_VERSION => std::ptr::from_ref(&VERSION).cast(),
        _ => std::ptr::null(),
    }
}

type Initialize = extern "C" fn(extern "C" fn(u32) -> *const c_void) -> c_int;
type Push = extern "C" fn(*const c_char) -> c_int;
type Pop = extern "C" fn() -> c_int;

/// Loads a tool's library; it stays loaded. Whether it listens.
fn attach(path: &Path) -> bool {
    // SAFETY: what the user's profiler names; loading it is what the variable is for.
    let Ok(library) = (unsafe { Library::new(path) }) else { return false };
    // SAFETY: the type that the interface has for this name.
    let started = unsafe { library.get::<Initialize>(c"InitializeInjectionNvtx2") }
        .is_ok_and(|initialize| initialize(export_table) != 0);
    std::mem::forget(library);
    started
}

/// The two functions, once a tool has given them.
fn functions() -> Option<(Push, Pop)> {
    static LISTENS: OnceLock<bool> = OnceLock::new();
    let tool = || std::env::var_os("NVTX_INJECTION64_PATH").filter(|path| !path.is_empty());
    if !*LISTENS.get_or_init(|| tool().is_some_and(|path| attach(Path::new(&path)))) {
        return None;
    }
    let (push, pop) = (GIVEN[PUSH].load(Ordering::Relaxed), GIVEN[POP].load(Ordering::Relaxed));
    if push.is_null() || pop.is_null() {
        return None;
    }
    // SAFETY: the tool put functions of these types there.
    Some(unsafe { (std::mem::transmute::<*mut c_void, Push>(push), std::mem::transmute::<*mut c_void, Pop>(pop)) })
}

/// A range that ends when it is dropped; `None` while nothing is profiled or nobody listens.
pub fn range(name: &str) -> Option<Range> {
    if !profile::is_on() {
        return None;
    }
    let (push, _) = functions()?;
    push(CString::new(name).ok()?.as_ptr());
    Some(Range(()))
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some((_, pop)) = functions() {
            pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_finds_the_places_of_its_functions() {
        let table = export_table(TABLE_OF_CALLBACKS).cast::<Callbacks>();
        assert!(export_table(7).is_null() && !export_table(TABLE_OF_VERSION).is_null());
        let (mut array, mut size) = (std::ptr::null(), 0);
        // SAFETY: the table is a static.
        let functions = unsafe { &*table }.functions;
        assert_eq!(functions(2, &raw mut array, &raw mut size), 0, "the module of CUDA's own names is not served");
        assert_eq!((functions(MODULE_CORE, &raw mut array, &raw mut size), size), (1, 16));
        // SAFETY: an array of 16 addresses, each of a place of GIVEN.
        let places = unsafe { std::slice::from_raw_parts(array.cast::<*const AtomicPtr<c_void>>(), 16) };
        assert!(std::ptr::eq(places[PUSH], &raw const GIVEN[PUSH]));
    }
}
