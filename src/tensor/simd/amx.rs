//! Products of tiles of bf16: the matrix unit of Intel's processors since Sapphire Rapids (AMX).
//!
//! ```text
//!                       B: 16 pairs x 16 columns     a pair is two neighbours of the inner
//!                       +--------+--------+          dimension, a lane of 32 bits
//!                       |   6    |   7    |
//!   A: 16 rows x 16     +--------+--------+
//!   pairs  +--------+   +--------+--------+
//!          |   4    |   |   0    |   1    |  C: 16 x 16 sums in f32
//!          +--------+   +--------+--------+
//!          |   5    |   |   2    |   3    |  numbers are those of the tile registers
//!          +--------+   +--------+--------+
//! ```
//!
//! One instruction multiplies two tiles of 1 KB and adds 16 x 16 sums of 32 products to a third:
//! 8,192 multiply-adds in 16 clocks, where a vector of pairs makes 32 in one. In each sum the first
//! numbers of all 16 pairs are added up, in ascending order, and so are the second ones; both are
//! added to each other, then to the sum so far. Products are exact; each addition is rounded to the
//! nearest; numbers and sums below 2^-126 count as zero. A sum is the same with A and B exchanged.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::pairs::{self, Lane};

/// Rows of a tile of A and of C, columns of a tile of B and of C.
pub const SIDE: usize = 16;
/// Pairs of a tile of A or B.
pub const PAIRS: usize = 16;
/// Lanes of a tile.
pub const TILE: usize = SIDE * PAIRS;

/// A row of a tile, aligned as a line of the cache: a tile whose rows cross lines is loaded at half
/// the rate.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [Lane; PAIRS]);

/// Whether this processor has the unit, this system saves its registers, and this process may use
/// them, for which it asks once. Pairs must be [available](pairs::available) too: operands are laid
/// out with them.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| pairs::available() && permitted())
}

/// <https://docs.kernel.org/arch/x86/xstate.html>: the registers are large, so that Linux hands
/// them out to processes that ask.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn permitted() -> bool {
    const REQUEST_PERMISSION: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    // Bits 22 and 24 of EDX: products of bf16, and tiles. Leaf 7 is there with AVX-512.
    let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
    let there = features >> 22 & 1 == 1 && features >> 24 & 1 == 1;
    // SAFETY: asks for a feature of this process, and has no other effect.
    there && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn permitted() -> bool {
    false
}

/// Tile registers in use on this thread: all eight of full size. They are given back when this is
/// dropped, since a thread that has them is dearer to switch.
pub(crate) struct Tiles(PhantomData<*const ()>);

/// What `ldtilecfg` reads.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    first_row: u8,
    zero: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Panics unless the unit is [`available`].
    pub(crate) fn new() -> Self {
        assert!(available(), "products of tiles on a processor without them");
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        {
            let mut shapes = Shapes { palette: 1, first_row: 0, zero: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            shapes.row_bytes[..8].fill(size_of::<Line>() as u16);
            shapes.rows[..8].fill(SIDE as u8);
            // SAFETY: the unit is there, and palette 1 has eight registers of 16 rows of 64 bytes.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        }
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: the unit is there.
        unsafe {
            asm!("tilerelease", options(nostack, nomem))
        };
    }
}

/// Two rows of tiles of A, two columns of tiles of B, and the four tiles of C.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// First tile of the upper row of A; the next ones follow at `a_next` lanes.
    pub a: *const Lane,
    pub a_next: usize,
    /// Lanes from a row of a tile to the next.
    pub a_stride: usize,
    /// Lanes from the upper row of tiles to the lower one.
    pub a_lower: usize,
    /// First tile of the left column of B; the next ones follow it without a gap.
    pub b: *const Lane,
    /// Lanes from the left column of tiles to the right one.
    pub b_right: usize,
    /// Tiles along the inner dimension: one at least.
    pub steps: usize,
    /// First sum of the upper left tile of C: 32 rows of 32.
    pub c: *mut f32,
    /// Sums from a row to the next.
    pub c_stride: usize,
    /// Start from zero instead of what is in C.
    pub fresh: bool,
}

/// The instructions of a product; `$ahead` are some more for each step.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
macro_rules! product {
    ($o:ident, $ahead_of:expr, $($ahead:literal),*) => {
        asm!(
            "test {fresh:e}, {fresh:e}",
            "jnz 2f",
            "tileloadd tmm0, [{c} + {c_stride}]",
            "tileloadd tmm1, [{c} + {c_stride} + 64]",
            "tileloadd tmm2, [{c_lower} + {c_stride}]",
            "tileloadd tmm3, [{c_lower} + {c_stride} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm6, [{b} + {line}]",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm7, [{b_right} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a_lower} + {a_stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            $($ahead,)*
            "add {ahead}, 2048",
            "add {a}, {a_next}",
            "add {a_lower}, {a_next}",
            "add {b}, 1024",
            "add {b_right}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {c_stride}], tmm0",
            "tilestored [{c} + {c_stride} + 64], tmm1",
            "tilestored [{c_lower} + {c_stride}], tmm2",
            "tilestored [{c_lower} + {c_stride} + 64], tmm3",
            fresh = in(reg) u32::from($o.fresh),
            a = inout(reg) $o.a => _,
            a_lower = inout(reg) $o.a.wrapping_add($o.a_lower) => _,
            a_stride = in(reg) 4 * $o.a_stride,
            a_next = in(reg) 4 * $o.a_next,
            b = inout(reg) $o.b => _,
            b_right = inout(reg) $o.b.wrapping_add($o.b_right) => _,
            line = in(reg) size_of::<Line>(),
            steps = inout(reg) $o.steps => _,
            c = in(reg) $o.c,
            c_lower = in(reg) $o.c.wrapping_add(SIDE * $o.c_stride),
            c_stride = in(reg) 4 * $o.c_stride,
            ahead = inout(reg) $ahead_of => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl Tiles {
    /// `C = A B`, or `C += A B` unless fresh.
    ///
    /// # Safety
    /// What [`Operands`] points to can be read and written whole.
    pub(crate) unsafe fn multiply(&self, o: Operands) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: registers are of full size while `self` is there; memory as the caller's.
        unsafe {
            let none: *const u8 = std::ptr::null();
            product!(o, none,)
        };
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let _ = o;
    }

    /// [`Self::multiply`], which asks for the 2 KB a step from `ahead` on meanwhile, whatever the
    /// address: what A will be read from next.
    ///
    /// # Safety
    /// As [`Self::multiply`]'s.
    pub(crate) unsafe fn multiply_and_ask(&self, o: Operands, ahead: *const u8) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: as above; a line that cannot be read is not asked for.
        unsafe {
            product!(
                o,
                ahead,
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "prefetcht1 [{ahead} + 256]",
                "prefetcht1 [{ahead} + 320]",
                "prefetcht1 [{ahead} + 384]",
                "prefetcht1 [{ahead} + 448]",
                "prefetcht1 [{ahead} + 512]",
                "prefetcht1 [{ahead} + 576]",
                "prefetcht1 [{ahead} + 640]",
                "prefetcht1 [{ahead} + 704]",
                "prefetcht1 [{ahead} + 768]",
                "prefetcht1 [{ahead} + 832]",
                "prefetcht1 [{ahead} + 896]",
                "prefetcht1 [{ahead} + 960]",
                "prefetcht1 [{ahead} + 1024]",
                "prefetcht1 [{ahead} + 1088]",
                "prefetcht1 [{ahead} + 1152]",
                "prefetcht1 [{ahead} + 1216]",
                "prefetcht1 [{ahead} + 1280]",
                "prefetcht1 [{ahead} + 1344]",
                "prefetcht1 [{ahead} + 1408]",
                "prefetcht1 [{ahead} + 1472]",
                "prefetcht1 [{ahead} + 1536]",
                "prefetcht1 [{ahead} + 1600]",
                "prefetcht1 [{ahead} + 1664]",
                "prefetcht1 [{ahead} + 1728]",
                "prefetcht1 [{ahead} + 1792]",
                "prefetcht1 [{ahead} + 1856]",
                "prefetcht1 [{ahead} + 1920]",
                "prefetcht1 [{ahead} + 1984]"
            )
        };
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let _ = (o, ahead);
    }

    /// `steps` times four products of registers, which wait for nothing but each other: what the
    /// unit gives. Leaves the multiply-adds that were made.
    pub(crate) fn chains(&self, steps: usize) -> usize {
        if steps == 0 {
            return 0;
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: registers are of full size while `self` is there.
        unsafe {
            asm!(
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {steps}",
                "jnz 2b",
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem),
            )
        };
        4 * steps * 2 * TILE * SIDE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};

    /// What the unit is said to do, in f32: sums of first and of second numbers.
    fn defined(a: &[[f32; 32]], b: &[[f32; 32]], c: &mut [f32], columns: usize) {
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                let mut sums = [0.0f32; 2];
                for k in 0..32 {
                    // The product is exact in f64, and so is its sum before it is rounded, nearly.
                    sums[k % 2] = (f64::from(a[k]) * f64::from(b[k]) + f64::from(sums[k % 2])) as f32;
                }
                c[i * columns + j] += sums[0] + sums[1];
            }
        }
    }

    #[test]
    fn a_product_of_tiles_is_the_defined_sum_and_has_two_sides() {
        if !available() {
            return eprintln!("skipped: this processor, or this system, has no AMX");
        }
        let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
        let mut draw = || -> Vec<[f32; 32]> {
            (0..32).map(|_| std::array::from_fn(|_| pairs::widen(pairs::round(rng.normal())))).collect()
        };
        let (left, right) = (draw(), draw());
        let lane = |row: &[f32; 32], pair: usize| {
            u32::from(pairs::round(row[2 * pair])) | u32::from(pairs::round(row[2 * pair + 1])) << 16
        };
        let as_a = |rows: &[[f32; 32]]| -> Vec<Line> {
            rows.iter().map(|row| Line(std::array::from_fn(|pair| lane(row, pair)))).collect()
        };
        let as_b = |rows: &[[f32; 32]]| -> Vec<Line> {
            let half = |rows: &[[f32; 32]], pair: usize| Line(std::array::from_fn(|j| lane(&rows[j], pair)));
            rows.chunks(SIDE).flat_map(|rows| (0..PAIRS).map(move |pair| half(rows, pair))).collect()
        };
        let multiply = |a: &[[f32; 32]], b: &[[f32; 32]], c: &mut [f32], fresh: bool| {
            let (a, b) = (as_a(a), as_b(b));
            let o = Operands {
                a: a.as_ptr().cast(),
                a_next: TILE,
                a_stride: PAIRS,
                a_lower: TILE,
                b: b.as_ptr().cast(),
                b_right: TILE,
                steps: 1,
                c: c.as_mut_ptr(),
                c_stride: 32,
                fresh,
            };
            // SAFETY: two rows and two columns of one tile each, and 32 x 32 sums.
            unsafe { Tiles::new().multiply_and_ask(o, std::ptr::null()) };
        };
        let (mut got, mut want, mut other) = (vec![f32::NAN; 1024], vec![0.0f32; 1024], vec![f32::NAN; 1024]);
        multiply(&left, &right, &mut got, true);
        defined(&left, &right, &mut want, 32);
        assert_eq!(got, want);
        multiply(&right, &left, &mut other, true);
        for i in 0..1024 {
            assert_eq!(other[i % 32 * 32 + i / 32], got[i]);
        }
        multiply(&right, &left, &mut got, false);
        defined(&right, &left, &mut want, 32);
        assert_eq!(got, want);
    }
}
