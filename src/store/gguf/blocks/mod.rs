//! The storage types of GGUF tensors: blocks of quantised values, and plain 16- and 32-bit floats.

mod k;
mod legacy;

use crate::ops::linear::convert::widen;
use crate::ops::linear::quantised::{Bits, Form, Row as Parts};
use crate::tensor::Dtype;

/// A supported storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::gguf) enum Type {
    /// Not quantised.
    Plain(Dtype),
    /// 32 values: f16 scale, 4 bits each, centred at 8.
    Q4_0,
    /// 32 values: f16 scale and minimum, 4 bits each.
    Q4_1,
    /// 32 values: f16 scale, 8 bits each.
    Q8_0,
    /// 256 values in 8 groups of 6-bit scale and minimum, 4 bits each.
    Q4K,
    /// 256 values in 16 groups of 8-bit scale, 6 bits each, centred at 32.
    Q6K,
}

impl Type {
    const ALL: [(u32, Type); 8] = [
        (0, Type::Plain(Dtype::F32)),
        (1, Type::Plain(Dtype::F16)),
        (30, Type::Plain(Dtype::Bf16)),
        (2, Type::Q4_0),
        (3, Type::Q4_1),
        (8, Type::Q8_0),
        (12, Type::Q4K),
        (14, Type::Q6K),
    ];

    /// From the number in the file.
    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == id).map(|(_, kind)| *kind)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Plain(Dtype::F32) => "f32",
            Type::Plain(Dtype::F16) => "f16",
            Type::Plain(Dtype::Bf16) => "bf16",
            Type::Q4_0 => "q4_0",
            Type::Q4_1 => "q4_1",
            Type::Q8_0 => "q8_0",
            Type::Q4K => "q4_k",
            Type::Q6K => "q6_k",
        }
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.iter().map(|(_, kind)| kind.name()).collect::<Vec<_>>().join(", ")
    }

    /// Values of a block.
    pub(super) fn block(self) -> usize {
        match self {
            Type::Plain(_) => 1,
            Type::Q4_0 | Type::Q4_1 | Type::Q8_0 => 32,
            Type::Q4K | Type::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(super) fn bytes(self) -> usize {
        match self {
            Type::Plain(dtype) => dtype.size(),
            Type::Q4_0 => legacy::Q4_0_BYTES,
            Type::Q4_1 => legacy::Q4_1_BYTES,
            Type::Q8_0 => legacy::Q8_0_BYTES,
            Type::Q4K => k::Q4_K_BYTES,
            Type::Q6K => k::Q6_K_BYTES,
        }
    }

    /// What its blocks are like; `None` where values are plain numbers.
    pub(super) fn form(self) -> Option<Form> {
        let (group, bits, centre, minimum, shared) = match self {
            Type::Plain(_) => return None,
            Type::Q4_0 => (32, Bits::Four, 8, false, 0),
            Type::Q4_1 => (32, Bits::Four, 0, true, 0),
            Type::Q8_0 => (32, Bits::Eight, 0, false, 0),
            Type::Q4K => (32, Bits::Four, 0, true, 8),
            Type::Q6K => (16, Bits::Eight, 0, false, 16),
        };
        Some(Form { group, bits, centre, minimum, shared })
    }

    /// Codes, scales, minima and steps of whole blocks of a quantised type; a block has one step or
    /// none.
    pub(super) fn split(self, bytes: &[u8], out: Parts<'_>) {
        let one = match self {
            Type::Plain(_) => return,
            Type::Q4_0 => legacy::q4_0,
            Type::Q4_1 => legacy::q4_1,
            Type::Q8_0 => legacy::q8_0,
            Type::Q4K => k::q4_k,
            Type::Q6K => k::q6_k,
        };
        let groups = self.form().map_or(1, |f| self.block() / f.group);
        let scales = out.scales.chunks_exact_mut(groups).zip(out.minima.chunks_exact_mut(groups));
        let blocks = bytes.chunks_exact(self.bytes()).zip(out.codes.chunks_exact_mut(self.block()));
        let mut steps = out.steps.chunks_exact_mut(1);
        for ((block, codes), (scales, minima)) in blocks.zip(scales) {
            one(block, Parts { codes, scales, minima, steps: steps.next().unwrap_or_default() });
        }
    }

    /// The values of whole blocks as f32. `out.len()` is a multiple of [`Self::block`], `bytes`
    /// holds exactly that many.
    pub(super) fn dequantise(self, bytes: &[u8], out: &mut [f32]) {
        debug_assert_eq!(bytes.len(), out.len() / self.block() * self.bytes());
        let Some(form) = self.form() else {
            if let Type::Plain(dtype) = self {
                widen(bytes, dtype, out);
            }
            return;
        };
        let mut codes = [0i8; 256];
        let (mut scales, mut minima, mut steps) = ([0.0; 16], [0.0; 16], [[1.0f32; 2]]);
        let (block, groups) = (self.block(), self.block() / form.group);
        for (b, o) in bytes.chunks_exact(self.bytes()).zip(out.chunks_exact_mut(block)) {
            let (codes, scales, minima) = (&mut codes[..block], &mut scales[..groups], &mut minima[..groups]);
            self.split(b, Parts { codes, scales, minima, steps: &mut steps });
            let [[scale, minimum]] = steps;
            for (i, (o, &code)) in o.iter_mut().zip(&*codes).enumerate() {
                let product = scale * scales[i / form.group] * f32::from(code);
                // The product is rounded before the sum, as in the reference. Without a minimum
                // nothing is added: -0 + 0 is not -0.
                *o = if form.minimum { product + minimum * minima[i / form.group] } else { product };
            }
        }
    }
}

/// The name of any type number, for messages.
pub(super) fn any_name(id: u32) -> String {
    let name = match id {
        6 => "q5_0",
        7 => "q5_1",
        9 => "q8_1",
        10 => "q2_k",
        11 => "q3_k",
        13 => "q5_k",
        15 => "q8_k",
        16..=23 | 29 => "iq (importance-quantised)",
        24..=27 => "integer",
        28 => "f64",
        34 | 35 => "ternary",
        39 => "mxfp4",
        other => return format!("number {other}"),
    };
    name.to_owned()
}

/// A little-endian f16 at byte `at`.
fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests;
