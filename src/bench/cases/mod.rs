//! The cases: operator, shapes, and how inputs are made. Shapes are those of SmolLM2-135M and of LightGCN on ML-1M.

mod collaborative;
mod language;

use std::sync::OnceLock;

use collaborative::{contrast, moments, project, propagate, rank, step, top};
use language::{answer, decode, entropy, glu, low_rank, norm, prefill, product, product_int8, sample, turn};

use super::Prepared;
use crate::error::Result;
use crate::ops::spmm::Precision;
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;

/// One line of the table.
#[derive(Debug)]
pub struct Case {
    /// Operator.
    pub op: &'static str,
    /// Shapes in words.
    pub shape: &'static str,
    /// Makes the inputs.
    pub make: fn() -> Result<Prepared>,
}

const fn case(op: &'static str, shape: &'static str, make: fn() -> Result<Prepared>) -> Case {
    Case { op, shape, make }
}

/// All cases, those of one operator together.
pub const CASES: &[Case] = &[
    case("spmm", "9,746 nodes, 200,000 edges, 64 wide, 3 layers", || {
        propagate(6040, 3706, 200_000, 64, Precision::F32)
    }),
    case("spmm", "9,746 nodes, 200,000 edges, 64 wide, 3 layers, bf16 rows", || {
        propagate(6040, 3706, 200_000, 64, Precision::Bf16)
    }),
    case("spmm", "500 nodes, 10,000 edges, 32 wide, 3 layers", || propagate(300, 200, 10_000, 32, Precision::F32)),
    case("bpr", "2,048 triples of 9,746 nodes x 64", || rank(6040, 3706, 2048, 64)),
    case("mlp", "1,024 rows, 1,152 to 128 to 64, with gradients", || project(1024, 1152, 128, 64)),
    case("infonce", "1,024 pairs x 128, with gradients", || contrast(1024, 128)),
    case("infonce", "4,096 pairs x 64, with gradients", || contrast(4096, 64)),
    case("topk", "20 of 20,000 x 64 for 256 queries", || top(256, 20_000, 64)),
    case("topk", "20 of 3,706 x 64 for 1 query", || top(1, 3706, 64)),
    case("linear", "decode M=1, 1536 x 576, bf16", || product(1, 1536, 576, Dtype::Bf16)),
    case("linear", "decode M=1, 1536 x 576, f32", || product(1, 1536, 576, Dtype::F32)),
    case("linear", "decode M=16, 1536 x 576, bf16", || product(16, 1536, 576, Dtype::Bf16)),
    case("linear", "decode M=16, 1536 x 576, f32", || product(16, 1536, 576, Dtype::F32)),
    case("linear", "prefill M=512, 1536 x 576, bf16", || product(512, 1536, 576, Dtype::Bf16)),
    case("linear", "prefill M=512, 1536 x 576, f32", || product(512, 1536, 576, Dtype::F32)),
    case("linear", "head M=1, 49152 x 576, bf16", || product(1, 49_152, 576, Dtype::Bf16)),
    case("linear_int8", "decode M=1, 1536 x 576", || product_int8(1, 1536, 576)),
    case("linear_int8", "decode M=16, 1536 x 576", || product_int8(16, 1536, 576)),
    case("linear_int8", "prefill M=512, 1536 x 576, 4 multiply-adds as 1", || product_int8(512, 1536, 576)),
    case("lora", "512 rows, rank 8, 576 to 576", || low_rank(512, 576, 576, 8)),
    case("rope", "512 rows, 9 heads, 64 wide", || turn(512, 9, 64)),
    case("attention", "prefill 512, 9 heads, 3 kv heads, 64 wide", || prefill(512)),
    case("attention", "decode 1 row on 1,024 keys", || decode(1, 1024)),
    case("attention", "decode 16 rows on 1,024 keys of their own", || decode(16, 1024)),
    case("rmsnorm", "512 x 576", || norm(512, 576)),
    case("rmsnorm", "1 x 576", || norm(1, 576)),
    case("swiglu", "512 x 1536", || glu(512 * 1536)),
    case("choose", "16 rows, vocabulary 49,152 x 576, bf16", || answer(16, 49_152, 576)),
    case("sampling", "a row of 49,152, top-p 0.95", || sample(49_152)),
    case("merge", "10,000 rows of 16 samples", || moments(10_000, 16)),
    case("cross_entropy", "64 rows, vocabulary 8,192 x 576, f32, with gradient", || entropy(64, 8192, 576)),
    case("adam", "1,000,000 parameters", || step(1_000_000)),
    case("adam", "100,000 parameters", || step(100_000)),
];

/// All sets together are larger than the caches, up to this many sets.
const ROTATED: usize = 96 << 20;
const SETS: usize = 128;

fn sets(bytes: f64) -> usize {
    (ROTATED as f64 / bytes).ceil().clamp(2.0, SETS as f64) as usize
}

/// Normal values out of a pool, from another place for each stream. The pool's length is a prime, so that rows of any
/// width differ.
pub(in crate::bench) fn normals(n: usize, stream: u32) -> Vec<f32> {
    static POOL: OnceLock<Vec<f32>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
        (0..65_537).map(|_| rng.normal()).collect()
    });
    let from = stream as usize * 7919 % pool.len();
    pool[from..].iter().chain(pool.iter().cycle()).take(n).copied().collect()
}
