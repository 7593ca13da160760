//! Descriptors of matrices for the Tensor Memory Accelerator of sm_90 and later.

use std::ffi::c_void;
use std::fmt::Display;
use std::ops::Range;

use cudarc::driver::sys::{self, CUtensorMap};
use half::bf16;
use rallrec_kernels_host::{Arg, MapBytes, TensorMap};

use super::kernel::{Backend, KernelDevice};
use super::rows::DeviceRows;
use crate::error::{Error, Result};

const _: () = assert!(size_of::<CUtensorMap>() == size_of::<MapBytes>());

impl KernelDevice {
    /// (major, minor) of a GPU's compute capability; `None` for the host build.
    pub fn capability(&self) -> Option<(u32, u32)> {
        match &self.0.backend {
            Backend::Host { .. } => None,
            Backend::Cuda(cuda) => Some(cuda.capability()),
        }
    }

    /// Describes some rows of `of` for loads of boxes of `box_rows` rows by 64 values into shared
    /// memory, swizzled 128 bytes wide, with zeros outside. Nothing to describe gives a descriptor
    /// that must not be used.
    ///
    /// # Errors
    /// A matrix that the unit cannot describe (more than 2^32 rows).
    pub fn tensor_map(&self, of: &DeviceRows<bf16>, rows: Range<usize>, box_rows: u32) -> Result<Arg> {
        if rows.is_empty() || of.dim() == 0 {
            return Ok(Arg::Map(MapBytes([0; 16])));
        }
        let refused = |why: &dyn Display| {
            let what = format!("rows {rows:?} of {} values, {} apart, in boxes of {box_rows}", of.dim(), of.stride());
            Error::failed("tensor map", format!("{what}: {why}"))
        };
        if rows.end > of.rows() {
            return Err(refused(&format!("the matrix has {} rows", of.rows())));
        }
        let address = of.values().address() + 2 * (rows.start * of.stride()) as u64;
        let size = [of.dim() as u64, rows.len() as u64];
        // One stride less than dimensions: the first is that of neighbours.
        let stride = [2 * of.stride() as u64];
        let Backend::Cuda(cuda) = &self.0.backend else {
            let map = TensorMap { address, columns: size[0], rows: size[1], stride: stride[0], box_rows };
            return map
                .encode()
                .map(|words| Arg::Map(MapBytes(words)))
                .ok_or_else(|| refused(&"no tensor map can say this"));
        };
        cuda.enter()?;
        let (shape, step) = ([64u32, box_rows], [1u32, 1]);
        let mut map = CUtensorMap { opaque: [0; 16] };
        // SAFETY: the driver reads two sizes and boxes and one stride, writes one descriptor, and
        // keeps the address as a number; the function exists wherever a device of this capability
        // has a driver.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                address as *mut c_void,
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
        result.result().map_err(|e| refused(&format!("{e:?}")))?;
        Ok(Arg::Map(MapBytes(map.opaque)))
    }
}
