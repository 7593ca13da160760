//! Arguments of a kernel that takes more than a handful: one struct that Rust and CUDA share.
//!
//! `arguments!` beside the launch makes the struct of Rust, `ARGUMENTS` (kernels/common/base.cuh)
//! that of the source; a test compares their layouts field by field through the host build.

pub use rallrec_kernels_host::{Block, Field};

use super::kernel::Arg;

/// An address on a device, or null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pointer(pub(super) u64);

impl Pointer {
    /// Nothing.
    pub const NULL: Pointer = Pointer(0);
}

/// What may stand in a struct of arguments.
pub trait Argument: Copy {
    /// Name of the type.
    const KIND: &'static str;
    /// Its bytes, in the order of the machine.
    fn bytes(self) -> ([u8; 8], usize);
}

macro_rules! argument {
    ($($type:ty, $kind:literal, |$v:ident| $value:expr;)*) => {
        $(impl Argument for $type {
            const KIND: &'static str = $kind;
            fn bytes(self) -> ([u8; 8], usize) {
                let $v = self;
                let bytes = $value.to_ne_bytes();
                let mut all = [0; 8];
                all[..bytes.len()].copy_from_slice(&bytes);
                (all, bytes.len())
            }
        })*
    };
}

argument! {
    Pointer, "pointer", |v| v.0;
    u64, "u64", |v| v;
    u32, "u32", |v| v;
    i32, "i32", |v| v;
    f32, "f32", |v| v;
    f64, "f64", |v| v;
}

/// A struct of arguments under construction.
#[derive(Debug)]
pub struct Packing(Block);

impl Packing {
    /// Of a struct of `size` bytes.
    pub fn new(size: usize, fields: &'static [Field]) -> Self {
        Self(Block { bytes: [0; 32], size, fields })
    }

    /// Writes the value of a field.
    pub fn put(&mut self, offset: usize, value: impl Argument) {
        let (bytes, count) = value.bytes();
        bytemuck::cast_slice_mut::<u64, u8>(&mut self.0.bytes)[offset..offset + count].copy_from_slice(&bytes[..count]);
    }

    /// As an argument.
    pub fn arg(self) -> Arg {
        Arg::Block(self.0)
    }
}

/// The layout of a struct of arguments, as Rust has it.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Name of the struct, the same in the source.
    pub name: &'static str,
    /// Its bytes.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

/// Makes the Rust side of a struct of arguments.
macro_rules! arguments {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        impl $name {
            /// What stands where.
            pub(crate) const LAYOUT: $crate::device::arguments::Layout = $crate::device::arguments::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: &[$($crate::device::arguments::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$type>(),
                    kind: <$type as $crate::device::arguments::Argument>::KIND,
                }),*],
            };

            /// As the one argument of a kernel.
            pub(crate) fn arg(&self) -> $crate::device::Arg {
                const { assert!(size_of::<$name>() <= 256, "more than a launch carries") };
                let mut all = $crate::device::arguments::Packing::new(Self::LAYOUT.size, Self::LAYOUT.fields);
                $(all.put(std::mem::offset_of!($name, $field), self.$field);)*
                all.arg()
            }
        }
    };
}
pub(crate) use arguments;
