//! Hand-made blocks and blocks of the reference dequantiser.

use super::*;
use crate::ops::linear::Quantised;

fn half_bytes(x: f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}

fn run(kind: Type, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / kind.bytes() * kind.block()];
    kind.dequantise(bytes, &mut out);
    out
}

/// Random blocks with the values that the `gguf` package (0.19.0) makes of them, bit for bit.
#[test]
fn random_blocks_match_the_reference() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/goldens/gguf_blocks.json")).unwrap();
    for kind in [Type::Q4_0, Type::Q4_1, Type::Q8_0, Type::Q4K, Type::Q6K] {
        let entry = &golden[kind.name()];
        let hex = entry["bytes"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        let want: Vec<u32> = entry["bits"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let got: Vec<u32> = run(kind, &bytes).iter().map(|v| v.to_bits()).collect();
        assert_eq!(got.len(), 2 * kind.block());
        assert_eq!(got, want, "{}", kind.name());
    }
}

#[test]
fn a_q4_0_block_by_hand() {
    let mut block = half_bytes(0.5).to_vec();
    block.extend((0..16u8).map(|i| i | (15 - i) << 4));
    let out = run(Type::Q4_0, &block);
    for i in 0..16 {
        assert_eq!(out[i], 0.5 * (i as f32 - 8.0));
        assert_eq!(out[16 + i], 0.5 * (7.0 - i as f32));
    }
}

#[test]
fn a_q4_1_block_by_hand() {
    let mut block = [half_bytes(0.25), half_bytes(-1.0)].concat();
    block.extend((0..16u8).map(|i| i | (15 - i) << 4));
    let out = run(Type::Q4_1, &block);
    for i in 0..16 {
        assert_eq!(out[i], 0.25 * i as f32 - 1.0);
        assert_eq!(out[16 + i], 0.25 * (15.0 - i as f32) - 1.0);
    }
}

#[test]
fn a_q8_0_block_by_hand() {
    let mut block = half_bytes(2.0).to_vec();
    block.extend((0..32).map(|i| (i * 8 - 128i32) as i8 as u8));
    let out = run(Type::Q8_0, &block);
    assert!((0..32).all(|i| out[i] == 2.0 * (i as f32 * 8.0 - 128.0)), "{out:?}");
}

/// Scales 1, 2, ..., 8 times 7 (beyond 4 bits) and minima 10, 11, ..., packed as the format says.
#[test]
fn a_q4_k_block_by_hand() {
    let scales: Vec<u8> = (1..=8).map(|j| 7 * j).collect();
    let mins: Vec<u8> = (0..8).map(|j| 10 + 7 * j).collect();
    let mut packed = [0u8; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
    let mut block = [half_bytes(0.5), half_bytes(0.25)].concat();
    block.extend(packed);
    block.extend((0..128u32).map(|i| (i % 16) as u8 | ((i / 16 % 16) as u8) << 4));
    let out = run(Type::Q4K, &block);
    for (i, &value) in out.iter().enumerate() {
        let (group, l) = (i / 32, i % 32);
        let byte = group / 2 * 32 + l;
        let q = if group % 2 == 0 { byte % 16 } else { byte / 16 % 16 };
        assert_eq!(value, 0.5 * f32::from(scales[group]) * q as f32 - 0.25 * f32::from(mins[group]), "{i}");
    }
}

/// q runs through all 64 values; the scales are 1 to 16 with changing sign.
#[test]
fn a_q6_k_block_by_hand() {
    let q = |i: usize| (i * 5 + i / 64) % 64;
    let scale = |i: usize| if (i / 16).is_multiple_of(2) { (i / 16 + 1) as i8 } else { -((i / 16 + 1) as i8) };
    let (mut low, mut high) = ([0u8; 128], [0u8; 64]);
    for i in 0..256 {
        let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        low[part * 64 + quarter % 2 * 32 + l] |= ((q(i) & 15) as u8) << (4 * (quarter / 2));
        high[part * 32 + l] |= ((q(i) >> 4) as u8) << (2 * quarter);
    }
    let mut block = [low.as_slice(), &high].concat();
    block.extend((0..16).map(|j| scale(j * 16) as u8));
    block.extend(half_bytes(0.125));
    let out = run(Type::Q6K, &block);
    for (i, &value) in out.iter().enumerate() {
        assert_eq!(value, 0.125 * f32::from(scale(i)) * (q(i) as f32 - 32.0), "{i}");
    }
}

/// Blocks in memory have the values of the file, bit for bit, and hardly more bytes: six-bit codes
/// are kept in eight bits.
#[test]
fn blocks_in_memory_are_those_of_the_file() {
    let (rows, cols) = (37, 512);
    for (kind, most) in [(Type::Q4_0, 1.0), (Type::Q4_1, 1.0), (Type::Q8_0, 1.0), (Type::Q4K, 1.03), (Type::Q6K, 1.31)]
    {
        let mut state = 1u32;
        let row_bytes = cols / kind.block() * kind.bytes();
        let mut bytes: Vec<u8> = (0..rows * row_bytes)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        // Finite halves: not all bits of an exponent are set.
        let halves: &[usize] = match kind {
            Type::Q6K => &[209],
            Type::Q4K | Type::Q4_1 => &[1, 3],
            _ => &[1],
        };
        for block in bytes.chunks_exact_mut(kind.bytes()) {
            halves.iter().for_each(|&at| block[at] &= 0xbf);
        }
        let row = |r: usize| &bytes[r * row_bytes..][..row_bytes];
        let held = Quantised::build(rows, cols, kind.form().unwrap(), |r, out| kind.split(row(r), out)).unwrap();
        for r in 0..rows {
            let want = run(kind, row(r));
            for (k, want) in want.iter().enumerate() {
                assert_eq!(held.get(r, k).to_bits(), want.to_bits(), "{} {r} {k}", kind.name());
            }
        }
        // Rows are padded to whole tiles of 16.
        let (held, file) = (held.bytes() as f64, (48 * row_bytes) as f64);
        assert!(held <= most * file, "{}: {held} bytes of {file}", kind.name());
    }
}
