//! Banks of shared memory: 32 of four bytes each. A warp's access of 4, 8 or 16 bytes a lane goes
//! in one, two or four parts of 32, 16 or 8 lanes; a part takes as many turns as the most words
//! that it wants of one bank.

use crate::ffi;

/// Turns that a warp's access takes beyond those that its bytes need: 1 without a conflict. Lane i
/// takes `bytes` from `addresses[i]` on.
pub fn conflict(addresses: &[usize; 32], bytes: usize) -> usize {
    let lanes = 128 / bytes.max(4);
    addresses.chunks(lanes).map(|part| turns(part, bytes)).max().unwrap_or(1)
}

fn turns(part: &[usize], bytes: usize) -> usize {
    let mut words: Vec<usize> =
        part.iter().flat_map(|&address| (0..bytes.div_ceil(4)).map(move |word| address / 4 + word)).collect();
    words.sort_unstable();
    // Lanes that want the same word get it together.
    words.dedup();
    (0..32).map(|bank| words.iter().filter(|&&word| word % 32 == bank).count()).max().unwrap_or(1)
}

/// Bytes from the start of an operand's plane to the value of `row` and `k`, as the 64 x 64 tile of
/// `common/tile.cuh` lays it down: along K, or turned.
pub fn tile_address(turned: bool, row: usize, k: usize) -> usize {
    // SAFETY: computes a number.
    2 * unsafe { ffi::rallrec_host_tile_at(i32::from(turned), row as i32, k as i32) } as usize
}
