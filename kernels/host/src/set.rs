//! Kernels that were compiled after this program: a library of them, loaded beside the kernels that
//! the program was built with.

use std::path::Path;
use std::sync::Mutex;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{Kernel, ffi};

/// The functions and variables of the runtime that compiled kernels refer to, one a line. A program
/// that loads sets must be linked so that it exports them: its build script makes a list for the
/// linker of this.
pub const RUNTIME: &str = include_str!("../runtime/exports");

/// Kernels that stand beside each other: those of the program, or of a library loaded later. A
/// library stays loaded until the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set(u32);

impl Set {
    /// The kernels that the program was built with.
    pub const BUILT_IN: Set = Set(0);

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// Loads a library of kernels, which must have been compiled against this runtime's headers.
    ///
    /// # Errors
    /// No library; a function that the program does not export; a struct of arguments or a constant
    /// that differs from the program's, which would launch the kernel wrongly.
    pub fn load(library: &Path) -> Result<Set, String> {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock();
        // SAFETY: what registers itself while the library is opened is put into the new set.
        let number = unsafe { ffi::rallrec_host_begin_set() };
        // SAFETY: its initialisers are those of `RALLREC_KERNEL` and its kind: they append to
        // lists.
        let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
        // SAFETY: nothing registers any more.
        unsafe { ffi::rallrec_host_end_set() };
        drop(one);
        // The lists hold addresses within it.
        std::mem::forget(opened.map_err(|e| e.to_string())?);
        let set = Set(number);
        set.agrees().map(|()| set)
    }

    /// Its kernels, by name.
    pub fn kernels(self) -> Vec<Kernel> {
        crate::kernels_of(self)
    }

    /// Whether all that Rust states as well is as in the program.
    fn agrees(self) -> Result<(), String> {
        let built = crate::layouts();
        for layout in crate::layouts_of(self) {
            let mut same_name = built.iter().filter(|l| l.name == layout.name).peekable();
            if same_name.peek().is_some() && !same_name.any(|l| *l == layout) {
                return Err(format!(
                    "the struct of arguments {} is not the one that this program passes; change the launch in src/ops \
                     too, and build the program again",
                    layout.name
                ));
            }
        }
        let built = crate::constants();
        for (name, value) in crate::constants_of(self) {
            if let Some((_, known)) = built.iter().find(|(n, _)| *n == name)
                && *known != value
            {
                return Err(format!(
                    "the constant {name} is {value}, and this program launches with {known}; change the launch in \
                     src/ops too, and build the program again"
                ));
            }
        }
        Ok(())
    }
}
