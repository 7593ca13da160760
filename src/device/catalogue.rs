//! What each kernel is for, how it is launched and what it costs: the text of `rallrec kernels`.

use super::images;

/// A kernel, or the same kernel for several storage types and widths.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name without type and width.
    pub name: &'static str,
    /// What stands behind the name: types, widths.
    pub variants: &'static [&'static str],
    /// Blocks.
    pub grid: &'static str,
    /// Threads.
    pub block: u32,
    /// Bytes and FLOP, s being the bytes of a stored value.
    pub cost: &'static str,
    /// Who calls it for what.
    pub serves: &'static str,
}

const TYPES: &[&str] = &["f32", "bf16"];
const ONE: &[&str] = &[""];

macro_rules! kernels {
    ($($name:literal $variants:ident [$grid:literal] $block:literal $cost:literal $serves:literal)*) => {
        /// Every kernel.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            name: $name, variants: $variants, grid: $grid, block: $block, cost: $cost, serves: $serves,
        }),*];
    };
}

const HEADS: &[&str] = &["64", "128"];
const BY_WARP: &[&str] = &["f32_32", "bf16_32"];
const BY_BLOCK: &[&str] = &["f32_256", "bf16_256"];
const ROPES: &[&str] = &["f32", "bf16", "f32_single", "bf16_single"];
const WIDE: &[&str] = &["bf16", "bf16_f32"];
const STRIPS: &[&str] = &["f32_64", "bf16_64", "bf16_128", "bf16_256"];
const STRIPED: &[&str] = &["bf16_64", "bf16_128", "bf16_256"];
const FEW: &[&str] = &["bf16_64", "bf16_128"];
const BLOCKS: &[&str] = &["q8_0", "q4_0", "q4_1"];
const STEPS: &[&str] = &["bf16_8", "bf16_32"];
const EXACT: &[&str] = &["f32"];
const HOPPER: &[&str] = &["bf16_sm90a", "bf16_f32_sm90a"];
const WEIGHTS: &[&str] = &["f32_8", "f32_32", "bf16_8", "bf16_32"];
const LAYERS: &[&str] = &["f32_4", "f32_8", "f32_16", "f32_32", "bf16_4", "bf16_8", "bf16_16", "bf16_32"];

kernels! {
    "spmm_start" TYPES ["values / (128 vectors), at most 4096"] 128 "(8 + s) N d B" "graph: z = D^-1/2 x before the first layer"
    "spmm_layer" LAYERS ["chunks / 4"] 128 "4 nnz + (2 s + 8) N d B, nnz d + 3 N d FLOP" "graph: a layer of propagation and its layer mean, forward and backward"
    "spmm_reduce" TYPES ["long rows"] 128 "4 chunks d B" "graph: rows of more than 256 neighbours"
    "bpr_negatives" ONE ["B / 128"] 128 "32 B bytes" "graph: uniform negatives, the CPU's Philox draws"
    "bpr_terms" TYPES ["B / 4"] 128 "(3 s + 12) B d B, 10 B d FLOP" "graph: scores, slopes and losses of a batch"
    "bpr_keys" ONE ["size / 128"] 128 "20 size B" "graph: which entries of a batch touch which row"
    "sort_tile" ONE ["size / 2048"] 512 "16 size B" "graph: bitonic sort within 2048 keys"
    "sort_step" ONE ["size / 256"] 128 "16 size B" "graph: bitonic sort, one step beyond 2048 keys"
    "bpr_gradient" TYPES ["3 B / 4"] 128 "(4 s + 12) B d B, 4 B d FLOP" "graph: gradient of a batch, each row in batch order"
    "adam_rows" TYPES ["values / 1024, at most 4096"] 256 "(24 + s) N d B, 12 N d FLOP" "graph and projector: the optimiser, rows never touched left out"
    "infonce_sums" STRIPS ["min(64, n / 128) x 8 or more"] 128 "2 s n d B, 2 n^2 d FLOP" "align: sums of bounded exponentials, both directions"
    "infonce_reduce" ONE ["n / 128"] 128 "up to 300 n B" "align: parts of these sums, joined in order"
    "infonce_gradient" STRIPS ["n / 128 x 2"] 128 "2 (s + 4) n d B, 8 n^2 d FLOP" "align: gradients of both sides, and by tau"
    "infonce_norms" TYPES ["n / 4"] 128 "s n d B, 2 n d FLOP" "align: 1 / |row|"
    "infonce_lse" TYPES ["n / 64"] 128 "2 s n d B, 2 n^2 d FLOP" "align: log-sum-exp of a direction, where scores have no bound"
    "infonce_backward" TYPES ["n / 64 x d / 64"] 128 "(2 s + 4) n d B, 4 n^2 d FLOP" "align: gradient of a side, and by tau, likewise"
    "infonce_finish" TYPES ["n / 4"] 128 "(s + 8) n d B" "align: derivative of the normalisation"
    "infonce_terms" ONE ["n / 128"] 128 "32 n B" "align: terms of the loss and of its derivative by tau"
    "gemm_nt" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: forward, bias and activation fused"
    "gemm_nn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of the input, slope fused"
    "gemm_tn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of a weight"
    "column_sums" ONE ["columns / 32"] 256 "4 m n B, m n FLOP" "projector: gradient of a bias"
    "topk_scan" TYPES ["Q / 64 x splits"] 128 "s d (Q + N) B, 2 Q N d FLOP" "retrieve: the catalogue's best candidates of every query"
    "topk_strip" STRIPED ["q / 128 x splits"] 128 "s d (q + n) B, 2 q n d FLOP" "retrieve: the same, queries whole in shared memory"
    "topk_strip_few" FEW ["q / 64 x splits"] 128 "s d (q + n) B, 2 q n d FLOP" "retrieve: the same for up to 64 queries"
    "topk_join" ONE ["q x splits / (4096 / room)"] 128 "8 q splits room B" "retrieve: candidates of many blocks of a query"
    "topk_finish" TYPES ["Q"] 128 "8 Q splits room B, 2 Q (k + 32) d FLOP" "retrieve: joins the candidates and scores them again in f32"
    "topk_history" TYPES ["Q"] 128 "s d (listed + Q) B, 2 listed d FLOP" "retrieve: the best of each user's own history"
    "merge_moments" ONE ["rows / 128"] 128 "8 samples + 20 rows B, 4 samples FLOP" "merge: mean and variance of a row's samples"
    "merge_rows" ONE ["rows / 256"] 256 "16 (experts + 1) rows B" "merge: the weighted mean and the first expert's share"
    "merge_sweep" ONE ["rows / 256 x points"] 256 "16 experts rows B, (6 experts + 8) rows points FLOP" "merge: log loss over a grid of alpha and epsilon"
    "lora_shrink" TYPES ["tiles x r / 64 x in / 512"] 128 "s in (M + r) B, 2 M in r FLOP" "language model: S = scale X A^T of every token's adapter"
    "lora_shrink_turned" TYPES ["tiles x r / 64 x out / 512"] 128 "s out (M + r) B, 2 M out r FLOP" "language model: dS = scale dY B"
    "lora_shrink_sum" TYPES ["tiles"] 256 "(4 splits + s) M r B" "language model: parts of S or dS, in order"
    "lora_forward" WIDE ["tiles of 128 x out / 128"] 256 "s (M + out) (in + r) + s M out B, 2 M out (in + r) FLOP" "language model: Y = [X | S] [W | B]^T, several adapters at once, and every layer without one"
    "lora_backward" WIDE ["tiles of 128 x in / 128"] 256 "s (M + in) (out + r) + s M in B, 2 M in (out + r) FLOP" "language model: dX = [dY | dS] [W ; A]"
    "lora_forward" EXACT ["tiles of 64 x out / 64"] 128 "4 (M + out) (in + r) + 4 M out B, 2 M out (in + r) FLOP" "language model: the same with f32 storage"
    "lora_backward" EXACT ["tiles of 64 x in / 64"] 128 "4 (M + in) (out + r) + 4 M in B, 2 M in (out + r) FLOP" "language model: the same with f32 storage"
    "lora_gradient" TYPES ["m / 64 x n / 64 x adapters"] 128 "s M (m + n) + 8 m n B, 2 M m n FLOP" "language model: dA and dB over each adapter's rows"
    "widen" BLOCKS ["N K / 2048"] 256 "N K (w + 4) B, w a stored weight's bytes" "language model: quantised weights for products of many rows"
    "decode_bf16" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "2 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a bf16 weight"
    "decode_step" STEPS ["M / 8 or 32 x out / 16"] 256 "2 (out + M) (in + r) + 2 M out B, 2 M out (in + r) FLOP" "language model: a decode step in bf16, with the adapter"
    "decode_q8_0" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "1.0625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a Q8_0 weight, widened in registers"
    "decode_q4_0" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "0.5625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_0"
    "decode_q4_1" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "0.625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_1"
    "rmsnorm" BY_WARP ["rows / 4"] 128 "2 s M d B, 4 M d FLOP" "language model: norms of heads and narrow rows, a warp each"
    "rmsnorm" BY_BLOCK ["rows"] 256 "2 s M d B, 4 M d FLOP" "language model: norms of wide rows, with the residual sum fused"
    "rmsnorm_backward" BY_WARP ["rows / 4"] 128 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, narrow rows"
    "rmsnorm_backward" BY_BLOCK ["rows"] 256 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, wide rows"
    "rmsnorm_weight" TYPES ["row chunks x d / 32 vectors"] 256 "2 s M d B, 3 M d FLOP" "language model: gradient of a norm's weight"
    "rmsnorm_weight_sum" ONE ["d / 256"] 256 "4 chunks d B" "language model: parts of that gradient, in order"
    "rope" ROPES ["M heads half / vector / 256"] 256 "2 s M heads d B, 3 M heads d FLOP" "language model: rotary positions, forward and backward"
    "swiglu" TYPES ["M w / vector / 256"] 256 "3 s M w B, 12 M w FLOP" "language model: silu(gate) up"
    "swiglu_backward" TYPES ["M w / vector / 256"] 256 "5 s M w B, 20 M w FLOP" "language model: its gradient, in place"
    "attention_f32" HEADS ["query tiles x heads"] 64 "8 M H D + 8 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, f32"
    "attention_bf16" HEADS ["query tiles x heads"] 128 "4 M H D + 4 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, bf16"
    "attention_delta" TYPES ["M H / 4"] 128 "2 s M H D B, 2 M H D FLOP" "language model: dO . O of every row and head"
    "attention_by_query_f32" HEADS ["query tiles x heads"] 64 "12 M H D + 8 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, f32"
    "attention_by_query_bf16" HEADS ["query tiles x heads"] 128 "8 M H D + 4 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, bf16"
    "attention_by_key_f32" HEADS ["key tiles x kv heads"] 64 "8 M H D + 16 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, f32"
    "attention_by_key_bf16" HEADS ["key tiles x kv heads"] 128 "4 M H D + 12 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, bf16"
    "decode_attention_f32" HEADS ["spans of 256 keys x kv heads"] 64 "8 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, the prompt's keys read once for all samples, f32"
    "decode_attention_bf16" HEADS ["spans of 256 keys x kv heads"] 128 "4 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, bf16"
    "decode_attention_merge" TYPES ["S H / 4"] 128 "4 parts H (D + 2) B" "language model: joins a sample's spans in their order"
    "copy_rows" ONE ["rows vectors / 256"] 256 "2 s rows width B" "language model: new keys and values into a cache, last rows out of a batch"
    "add_rows" EXACT ["rows vectors / 256"] 256 "4 (sources + 2 rows) width B" "tuning: gradients of chosen rows back into those of all"
    "dropout" EXACT ["M columns / 8 / 256"] 256 "8 M N B, 12 M N where it adds" "tuning: masks of an adapter's input, the CPU's Philox draws"
    "cross_entropy_partials" TYPES ["M / 64 x vocab / 256"] 128 "s (M + vocab) d B, 2 M vocab d FLOP" "tuning and Yes / No: log-sum-exp and chosen logits, logits never written"
    "cross_entropy_reduce" ONE ["M / 128"] 128 "8 M vocab / 256 B" "tuning and Yes / No: joins the spans of the vocabulary"
    "cross_entropy_gradient" TYPES ["M / 64 x panel / 64"] 128 "s (M + panel) d + s M panel B, 2 M panel d FLOP" "tuning: gradient of the logits, a panel of the vocabulary at a time"
    "sampling" ONE ["rows"] 512 "12 to 44 vocab B from L2, 4 vocab from memory" "generation: temperature, top-k, top-p and the CPU's Philox draw"
    "lora_forward" HOPPER ["M / 128 x out / 128"] 384 "2 (M + out) (in + r) + s M out B, 2 M out (in + r) FLOP" "language model: the same by wgmma and TMA on sm_90, with RALLREC_WGMMA=1; not run on a GPU yet"
    "lora_backward" HOPPER ["M / 128 x in / 128"] 384 "2 (M + in) (out + r) + s M in B, 2 M in (out + r) FLOP" "language model: the gradient of its input likewise"
    "mma_peak" ONE ["4096"] 256 "262144 x steps FLOP a block" "bench: what mma.sync gives at best, the ceiling of the others"
    "gather_peak" ONE ["numbers / 1024"] 128 "(4 + row) numbers B" "bench: rows fetched by number and nothing else, the ceiling of propagation"
    "sum_f64" ONE ["rows"] 256 "8 values B" "every loss: a sum in fixed order"
}

impl Entry {
    /// Full names, as in the source.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.variants.iter().map(|v| if v.is_empty() { self.name.to_owned() } else { format!("{}_{v}", self.name) })
    }
}

/// A line of the compiler's report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Resources {
    /// Full name.
    pub kernel: String,
    /// As in `sm_80`.
    pub architecture: String,
    /// Registers a thread.
    pub registers: u32,
    /// Bytes of static shared memory a block.
    pub shared: u32,
    /// Bytes spilled.
    pub spilled: u32,
}

/// The committed report: `kernel unit sm registers static_shared stack spill_bytes`.
pub fn resources() -> Vec<Resources> {
    let lines = include_str!("../../kernels/RESOURCES.tsv").lines().skip(1);
    lines
        .filter_map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let number = |i: usize| f.get(i)?.parse().ok();
            Some(Resources {
                kernel: (*f.first()?).to_owned(),
                architecture: (*f.get(2)?).to_owned(),
                registers: number(3)?,
                shared: number(4)?,
                spilled: number(6)?,
            })
        })
        .collect()
}

/// What this binary holds, for people.
pub fn compiled() -> String {
    if images::IMAGES.is_empty() {
        return "no CUDA code in this binary; scripts/nvcc-venv fetches a compiler, then set RALLREC_CUDA_VENV and build"
            .to_owned();
    }
    let mut kinds: Vec<String> = images::IMAGES
        .iter()
        .map(|i| if i.ptx { format!("PTX {}", i.architecture) } else { format!("sm_{}", i.architecture) })
        .collect();
    kinds.sort();
    kinds.dedup();
    format!("{} ({})", kinds.join(", "), images::COMPILER)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kernel_is_described_once_and_within_its_budget() {
        let described: Vec<String> = CATALOGUE.iter().flat_map(Entry::names).collect();
        let built = rallrec_kernels_host::kernels();
        let names: BTreeSet<&str> =
            built.iter().map(|k| k.name.as_str()).filter(|n| !n.starts_with("planted")).collect();
        assert_eq!(described.iter().map(String::as_str).collect::<BTreeSet<_>>(), names);
        assert_eq!(described.len(), names.len(), "a kernel is described twice");
        for kernel in built.iter().filter(|k| names.contains(k.name.as_str())) {
            let entry = CATALOGUE.iter().find(|e| e.names().any(|n| n == kernel.name)).unwrap();
            assert_eq!(entry.block, kernel.max_threads, "{}", kernel.name);
        }
        let reported = resources();
        for name in &names {
            assert!(reported.iter().any(|r| r.kernel == *name), "{name}: run scripts/kernel-resources --write");
        }
        assert!(reported.iter().all(|r| r.spilled == 0), "a kernel spills");
    }
}
