//! The runtime's C interface; layouts as in `runtime/runtime.h`.

use std::ffi::{c_char, c_int, c_void};

pub const FRAMES: usize = 24;

#[repr(C)]
pub struct Fault {
    pub message: [c_char; 768],
    pub file: *const c_char,
    pub line: c_int,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    pub frames: [usize; FRAMES],
    pub frame_count: c_int,
}

impl Fault {
    pub fn empty() -> Self {
        Self {
            message: [0; 768],
            file: std::ptr::null(),
            line: 0,
            block: [0; 3],
            thread: [0; 3],
            frames: [0; FRAMES],
            frame_count: 0,
        }
    }
}

#[repr(C)]
pub struct Request {
    pub kernel: *const c_char,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: usize,
    pub args: *mut *mut c_void,
    pub arg_sizes: *const usize,
    pub arg_count: u32,
    pub seed: u64,
    pub set: u32,
}

unsafe extern "C" {
    pub fn rallrec_host_launch(request: *const Request, fault: *mut Fault) -> c_int;
    pub fn rallrec_host_begin_set() -> u32;
    pub fn rallrec_host_end_set();
    pub fn rallrec_host_kernels(
        set: u32,
        each: extern "C" fn(*mut c_void, *const c_char, u32, u32, *const usize),
        context: *mut c_void,
    );
    pub fn rallrec_host_layouts(
        set: u32,
        each: extern "C" fn(*mut c_void, *const c_char, usize, u32, *const *const c_char, *const usize),
        context: *mut c_void,
    );
    pub fn rallrec_host_constants(
        set: u32,
        each: extern "C" fn(*mut c_void, *const c_char, usize),
        context: *mut c_void,
    );
    pub fn rallrec_host_alloc(bytes: usize, label: *const c_char) -> *mut c_void;
    pub fn rallrec_host_free(p: *mut c_void);
    pub fn rallrec_host_add_products(how: c_int, c: f32, a: *const f32, b: *const f32, depth: u32) -> f32;
    pub fn rallrec_host_tile_at(turned: c_int, row: c_int, k: c_int) -> c_int;
}
