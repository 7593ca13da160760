//! Weights in blocks of 4 or 8 bits as an operand of [`super::kernel`]: a piece of a panel is
//! turned into bytes, four inner values of an output side by side, on its way into the first-level
//! cache.
//!
//! ```text
//!   blocks, 16 outputs       k, k+1: r0 r1 ... r15 | k+2, k+3: ...        a byte is two codes
//!                            k: r0 r1 ... r15 | k+1: ...                  a byte is one
//!   piece                    r0: k k+1 k+2 k+3 | r1: ... | ... | r15      a byte is one
//! ```
//!
//! With many rows of x this vanishes; with one it is a dozen operations for 128 weights, and what
//! limits is the memory that 4 bits come from.

use super::GROUP;
use super::kernel::{DEEP, Lanes, Operand, Piece, WIDE};
use crate::ops::linear::quantised::{Bits, Quantised, Scales, TILE, step};

/// Most scales of a group of x.
const PARTS: usize = 2;

/// A piece: codes, scales and minima of each vector of outputs.
#[repr(align(64))]
pub(super) struct Unpacked {
    codes: [[u8; DEEP * GROUP * TILE]; WIDE],
    scales: [[f32; DEEP * PARTS * TILE]; WIDE],
    minima: [[f32; DEEP * TILE]; WIDE],
}

/// Scales that a group of x meets in a row of the weights.
pub(super) fn parts(q: &Quantised) -> usize {
    GROUP / q.form().group.max(1)
}

/// Whether the blocks can be multiplied as they are: a scale for 32 values, with or without a
/// minimum, or one for 16.
pub(super) fn fit(q: &Quantised) -> bool {
    let form = q.form();
    let known = form.group == GROUP || (form.group == GROUP / PARTS && !form.minimum);
    known && q.cols().is_multiple_of(GROUP)
}

/// N scales from `at`.
///
/// # Safety
/// The instruction set is there, and so are the scales.
#[inline(always)]
unsafe fn load<L: Lanes>(scales: &Scales, at: usize) -> L::F {
    // SAFETY: as the caller's.
    unsafe {
        match scales {
            Scales::Own(v) => L::load_f16(v.as_ptr().add(at)),
            Scales::Shared { multiples, steps, shift } => {
                L::mul(L::load_f16(steps.as_ptr().add(step(at, *shift))), L::load_i8(multiples.as_ptr().add(at)))
            }
        }
    }
}

/// Unpacks a piece of blocks that [`fit`].
///
/// # Safety
/// The instruction set is there; the piece lies inside; `to` can be written.
#[inline(always)]
pub(super) unsafe fn unpack<L: Lanes>(q: &Quantised, piece: Piece, to: *mut Unpacked) -> Operand {
    let (form, parts) = (q.form(), parts(q));
    let groups = q.cols() / form.group;
    let (scales, minima) = q.scales();
    // SAFETY: vectors of outputs are those of tiles, which are whole; a piece has DEEP groups at
    // most.
    unsafe {
        let (codes, to_scales, to_minima) = (
            (&raw mut (*to).codes).cast::<u8>(),
            (&raw mut (*to).scales).cast::<f32>(),
            (&raw mut (*to).minima).cast::<f32>(),
        );
        let mut of = Operand {
            codes: [codes.cast_const(); WIDE],
            scales: [to_scales.cast_const(); WIDE],
            minima: [to_minima.cast_const(); WIDE],
            added: if form.bits == Bits::Four { i32::from(form.centre) } else { 128 },
        };
        for v in 0..piece.columns.div_ceil(L::N) {
            let (output, lane) = (piece.output + v * L::N, (piece.output + v * L::N) % TILE);
            let codes = codes.add(v * DEEP * GROUP * TILE);
            let (to_scales, to_minima) = (to_scales.add(v * DEEP * PARTS * TILE), to_minima.add(v * DEEP * TILE));
            for (n, g) in (piece.from..piece.to).enumerate() {
                let (from, to) = (q.codes_from(output, g * GROUP), codes.add(n * GROUP * TILE));
                match form.bits {
                    Bits::Four => {
                        for k in 0..GROUP / 8 {
                            let [first, second] = L::turn_nibbles(from.add(k * 4 * TILE), lane);
                            L::store_codes(to.add(2 * k * 4 * TILE), first);
                            L::store_codes(to.add((2 * k + 1) * 4 * TILE), second);
                        }
                    }
                    Bits::Eight => {
                        for k in 0..GROUP / 4 {
                            L::store_codes(to.add(k * 4 * TILE), L::turn_bytes(from.add(k * 4 * TILE), lane));
                        }
                    }
                }
                for p in 0..parts {
                    let at = (output / TILE * groups + g * parts + p) * TILE + lane;
                    L::store(to_scales.add((n * parts + p) * TILE), load::<L>(scales, at));
                    if let Some(minima) = minima {
                        L::store(to_minima.add(n * TILE), load::<L>(minima, at));
                    }
                }
            }
            of.codes[v] = codes;
            (of.scales[v], of.minima[v]) = (to_scales, to_minima);
        }
        of
    }
}
