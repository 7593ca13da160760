//! Descriptors of matrices for the Tensor Memory Accelerator of sm_90 and later.

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUtensorMap};
use half::bf16;

use super::kernel::{Backend, KernelDevice};
use super::rows::DeviceRows;
use crate::error::{Error, Result};

/// Bytes of a descriptor.
pub const BYTES: usize = size_of::<CUtensorMap>();

impl KernelDevice {
    /// (major, minor) of a GPU's compute capability; `None` for the host build.
    pub fn capability(&self) -> Option<(u32, u32)> {
        match &self.0.backend {
            Backend::Host { .. } => None,
            Backend::Cuda(cuda) => Some(cuda.capability()),
        }
    }

    /// Describes `of` for loads of boxes of `rows` rows by 64 values into shared memory, swizzled 128 bytes wide, with zeros outside the
    /// matrix.
    ///
    /// # Errors
    /// A device without the unit; a matrix that it cannot describe (more than 2^32 rows).
    pub fn tensor_map(&self, of: &DeviceRows<bf16>, rows: u32) -> Result<[u8; BYTES]> {
        let Backend::Cuda(cuda) = &self.0.backend else {
            return Err(Error::failed("tensor map", "the host build has no Tensor Memory Accelerator"));
        };
        cuda.enter()?;
        let size = [of.dim() as u64, of.rows() as u64];
        // One stride less than dimensions: the first is that of neighbours.
        let stride = [2 * of.stride() as u64];
        let (shape, step) = ([64u32, rows], [1u32, 1]);
        let mut map = CUtensorMap { opaque: [0; 16] };
        // SAFETY: the driver reads two sizes and boxes and one stride, writes one descriptor, and keeps the address as a number; the
        // function exists wherever a device of this capability has a driver.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                of.values().address() as *mut c_void,
                size.as_ptr(),
                stride.as_ptr(),
                shape.as_ptr(),
                step.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        result.result().map_err(|e| {
            let what = format!("{} rows of {} values, {} apart: {e:?}", of.rows(), of.dim(), of.stride());
            Error::failed("tensor map", what)
        })?;
        Ok(bytemuck::cast(map.opaque))
    }
}
