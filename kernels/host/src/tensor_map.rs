//! What stands for a descriptor of the Tensor Memory Accelerator on the host build.

/// As in `runtime/hopper.cpp`.
const TAG: u64 = 0x7061_6d20_616d_7472;

/// A row-major matrix of 16-bit values, and boxes of 64 columns that are loaded with a swizzle of
/// 128 bytes and zeros outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorMap {
    /// Of the first value.
    pub address: u64,
    /// Values of a row.
    pub columns: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes from one row to the next.
    pub stride: u64,
    /// Rows of a box.
    pub box_rows: u32,
}

impl TensorMap {
    /// The 128 bytes that a kernel reads; `None` where the driver would refuse: an empty matrix,
    /// addresses or strides that are not multiples of 16, sizes or boxes beyond what the unit
    /// counts.
    pub fn encode(&self) -> Option<[u64; 16]> {
        let (sizes, boxes) = (1..=1u64 << 32, 1..=256);
        let aligned = self.address.is_multiple_of(16) && self.stride.is_multiple_of(16) && self.stride < 1 << 40;
        if !aligned
            || !sizes.contains(&self.columns)
            || !sizes.contains(&self.rows)
            || !boxes.contains(&self.box_rows)
            || self.stride < 2 * self.columns
        {
            return None;
        }
        let mut words = [0; 16];
        words[..5].copy_from_slice(&[TAG, self.address, self.columns, self.rows, self.stride]);
        words[5] = 64 | u64::from(self.box_rows) << 32;
        Some(words)
    }
}
