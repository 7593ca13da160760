//! Rows of a file laid out as tiles.

use half::f16;
use memmap2::MmapMut;
use rayon::prelude::*;

use super::{Bits, Form, Quantised, Row, Scales, TILE};
use crate::error::{Error, Result};

/// Scales of one tile on their way in.
struct OfTile<'a> {
    own: &'a mut [f16],
    multiples: &'a mut [i8],
    steps: &'a mut [f16],
}

impl OfTile<'_> {
    /// Those of row `r`: scales, or multiples of steps.
    fn put(&mut self, r: usize, values: &[f32], steps: impl Iterator<Item = f32>) {
        let own = self.own.chunks_exact_mut(TILE);
        own.zip(values).for_each(|(of_group, &v)| of_group[r] = f16::from_f32(v));
        let multiples = self.multiples.chunks_exact_mut(TILE);
        multiples.zip(values).for_each(|(of_group, &v)| of_group[r] = v as i8);
        let shared = self.steps.chunks_exact_mut(TILE);
        shared.zip(steps).for_each(|(of_groups, v)| of_groups[r] = f16::from_f32(v));
    }
}

impl Scales {
    /// Room for `groups` groups of each of `tiles` tiles.
    fn zeros(form: &Form, tiles: usize, groups: usize) -> Self {
        match form.shared {
            0 => Self::Own(vec![f16::ZERO; tiles * groups * TILE]),
            shared => Self::Shared {
                multiples: vec![0; tiles * groups * TILE],
                steps: vec![f16::ZERO; tiles * (groups / shared) * TILE],
                shift: shared.trailing_zeros(),
            },
        }
    }

    /// The parts of all tiles.
    fn of_tiles(&mut self, groups: usize) -> Vec<OfTile<'_>> {
        let of_tile = (groups * TILE).max(1);
        match self {
            Self::Own(v) => {
                v.chunks_mut(of_tile).map(|own| OfTile { own, multiples: &mut [], steps: &mut [] }).collect()
            }
            Self::Shared { multiples, steps, shift } => {
                let steps = steps.chunks_mut(((groups >> *shift) * TILE).max(1));
                let both = multiples.chunks_mut(of_tile).zip(steps);
                both.map(|(multiples, steps)| OfTile { own: &mut [], multiples, steps }).collect()
            }
        }
    }
}

/// Zeros in large pages where the system has them: a matrix is read from its first to its last
/// byte.
fn zeros(bytes: usize) -> Result<MmapMut> {
    // There is no mapping of nothing.
    let zeros = MmapMut::map_anon(bytes.max(1)).map_err(|e| Error::failed("weight", e))?;
    #[cfg(target_os = "linux")]
    let _a_hint = zeros.advise(memmap2::Advice::HugePage);
    Ok(zeros)
}

/// A row of the file, and the bytes of a tile's rows.
struct Rows {
    codes: Vec<i8>,
    scales: Vec<f32>,
    minima: Vec<f32>,
    steps: Vec<[f32; 2]>,
    bytes: Vec<u8>,
}

impl Quantised {
    /// Lays out a matrix whose rows `fill` gives, on all threads. Nothing of the matrix's size is
    /// held beside it.
    ///
    /// # Errors
    /// `cols` is no multiple of the group or of groups that share a step, or the shape overflows.
    pub fn build(rows: usize, cols: usize, form: Form, fill: impl Fn(usize, Row<'_>) + Sync) -> Result<Self> {
        let group = form.group;
        if group == 0 || !group.is_multiple_of(TILE) || !cols.is_multiple_of(form.whole()) {
            return Err(Error::failed("weight", format!("rows of {cols} values are no groups of {}", form.whole())));
        }
        if form.shared > 0 && !form.shared.is_power_of_two() {
            return Err(Error::failed("weight", format!("{} groups share a step, no power of two", form.shared)));
        }
        let (tiles, groups) = (rows.div_ceil(TILE), cols / group);
        if tiles.checked_mul(TILE).and_then(|n| n.checked_mul(cols)).is_none() {
            return Err(Error::failed("weight", "shape overflows"));
        }
        let width = match form.bits {
            Bits::Four => cols / 2,
            Bits::Eight => cols,
        };
        let mut codes = zeros(tiles * TILE * width)?;
        let mut scales = Scales::zeros(&form, tiles, groups);
        let mut minima = form.minimum.then(|| Scales::zeros(&form, tiles, groups));
        let mut of_minima = minima.as_mut().map_or(Vec::new(), |m| m.of_tiles(groups)).into_iter();
        let of_tiles: Vec<_> = scales.of_tiles(groups).into_iter().map(|of| (of, of_minima.next())).collect();
        let shares = groups.checked_div(form.shared).unwrap_or(0);
        let one = || Rows {
            codes: vec![0; cols],
            scales: vec![0.0; groups],
            minima: vec![0.0; groups],
            steps: vec![[0.0; 2]; shares],
            bytes: vec![0; TILE * width],
        };
        codes[..tiles * TILE * width].par_chunks_mut((TILE * width).max(1)).zip(of_tiles).enumerate().for_each_init(
            one,
            |Rows { codes, scales, minima, steps, bytes }, (tile, (to, (mut of_scales, mut of_minima)))| {
                let many = TILE.min(rows - tile * TILE);
                for (r, bytes) in bytes.chunks_exact_mut(width).enumerate().take(many) {
                    fill(tile * TILE + r, Row { codes, scales, minima, steps });
                    of_scales.put(r, scales, steps.iter().map(|s| s[0]));
                    if let Some(of_minima) = &mut of_minima {
                        of_minima.put(r, minima, steps.iter().map(|s| s[1]));
                    }
                    match form.bits {
                        Bits::Four => pack(codes, form.centre, bytes),
                        Bits::Eight => bytes.copy_from_slice(bytemuck::cast_slice(codes)),
                    }
                }
                // What pads the last tile is nothing.
                bytes[many * width..].fill(0);
                turn(bytes, width, to);
            },
        );
        Ok(Self { rows, cols, form, codes, scales, minima })
    }
}

/// Two codes to a byte, the first one low.
fn pack(codes: &[i8], centre: i8, bytes: &mut [u8]) {
    let (vectors, rest) = codes.as_chunks::<TILE>();
    let (of_vectors, of_rest) = bytes.split_at_mut(vectors.len() * TILE / 2);
    for (bytes, codes) in of_vectors.as_chunks_mut::<{ TILE / 2 }>().0.iter_mut().zip(vectors) {
        *bytes = packed(*codes, centre);
    }
    for (byte, pair) in of_rest.iter_mut().zip(rest.chunks_exact(2)) {
        let [low, high] = [pair[0], pair[1]].map(|code| code.wrapping_add(centre) as u8 & 15);
        *byte = low | high << 4;
    }
}

#[cfg(target_arch = "x86_64")]
fn packed(codes: [i8; TILE], centre: i8) -> [u8; TILE / 2] {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has SSE2; 16 bytes are read.
    unsafe {
        let codes = _mm_loadu_si128(codes.as_ptr().cast());
        let codes = _mm_and_si128(_mm_add_epi8(codes, _mm_set1_epi8(centre)), _mm_set1_epi8(15));
        // The second of a pair is four bits below the first one's place.
        let both = _mm_and_si128(_mm_or_si128(codes, _mm_srli_epi16::<4>(codes)), _mm_set1_epi16(0xff));
        _mm_cvtsi128_si64(_mm_packus_epi16(both, both)).to_ne_bytes()
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn packed(codes: [i8; TILE], centre: i8) -> [u8; TILE / 2] {
    let code = |k: usize| codes[k].wrapping_add(centre) as u8 & 15;
    std::array::from_fn(|k| code(2 * k) | code(2 * k + 1) << 4)
}

/// `to[k * TILE + r]` is byte k of row r, of TILE rows of `width` bytes.
fn turn(rows: &[u8], width: usize, to: &mut [u8]) {
    // Squares, whose lines stay in the first-level cache.
    let squares = width / TILE;
    for square in 0..squares {
        let mut lines = [[0u8; TILE]; TILE];
        for (line, row) in lines.iter_mut().zip(rows.chunks_exact(width)) {
            line.copy_from_slice(&row[square * TILE..][..TILE]);
        }
        to[square * TILE * TILE..][..TILE * TILE].copy_from_slice(turned(lines).as_flattened());
    }
    for k in squares * TILE..width {
        for (to, row) in to[k * TILE..].iter_mut().zip(rows.chunks_exact(width)) {
            *to = row[k];
        }
    }
}

/// A square on its other side.
#[cfg(target_arch = "x86_64")]
fn turned(lines: [[u8; TILE]; TILE]) -> [[u8; TILE]; TILE] {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has SSE2; a line and a vector are the same 16 bytes.
    unsafe {
        let mut v: [__m128i; TILE] = std::mem::transmute(lines);
        // The upper eight between the lower eight, byte by byte: after four times every byte is in
        // its place.
        for _ in 0..4 {
            let before = v;
            for i in 0..TILE / 2 {
                v[2 * i] = _mm_unpacklo_epi8(before[i], before[i + TILE / 2]);
                v[2 * i + 1] = _mm_unpackhi_epi8(before[i], before[i + TILE / 2]);
            }
        }
        std::mem::transmute(v)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn turned(lines: [[u8; TILE]; TILE]) -> [[u8; TILE]; TILE] {
    std::array::from_fn(|k| std::array::from_fn(|r| lines[r][k]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_scale_and_step_comes_back_from_its_place() {
        let code = |row: usize, k: usize| (row * 31 + k * 7) % 16;
        for (rows, cols, bits, shared) in
            [(1, 32, Bits::Four, 0), (37, 96, Bits::Four, 0), (16, 512, Bits::Four, 8), (23, 256, Bits::Eight, 8)]
        {
            let form = Form { group: 32, bits, centre: 8, minimum: true, shared };
            let built = Quantised::build(rows, cols, form, |row, parts| {
                parts.codes.iter_mut().enumerate().for_each(|(k, c)| *c = code(row, k) as i8 - 8);
                parts.scales.iter_mut().enumerate().for_each(|(g, s)| *s = (row % 5 + g + 1) as f32);
                parts.minima.iter_mut().enumerate().for_each(|(g, m)| *m = -((row % 3 + g) as f32));
                parts.steps.iter_mut().enumerate().for_each(|(n, s)| *s = [0.5 + n as f32, 0.25 + row as f32]);
            });
            let built = built.unwrap();
            for row in 0..rows {
                for k in 0..cols {
                    let (g, n) = (k / 32, k / 256);
                    let [scale, minimum] = if shared > 0 { [0.5 + n as f32, 0.25 + row as f32] } else { [1.0; 2] };
                    let want =
                        scale * (row % 5 + g + 1) as f32 * (code(row, k) as f32 - 8.0) - minimum * (row % 3 + g) as f32;
                    assert_eq!(built.get(row, k), want, "{rows} x {cols} {bits:?}: row {row}, value {k}");
                }
            }
        }
    }
}
