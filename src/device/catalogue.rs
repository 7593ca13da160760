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
    "infonce_norms" TYPES ["n / 4"] 128 "s n d B, 2 n d FLOP" "align: 1 / |row|"
    "infonce_lse" TYPES ["n / 64"] 128 "2 s n d B, 2 n^2 d FLOP" "align: log-sum-exp of a direction"
    "infonce_backward" TYPES ["n / 64 x d / 64"] 128 "(2 s + 4) n d B, 4 n^2 d FLOP" "align: gradient of a side, and by tau"
    "infonce_finish" TYPES ["n / 4"] 128 "(s + 8) n d B" "align: derivative of the normalisation"
    "infonce_terms" ONE ["n / 128"] 128 "32 n B" "align: terms of the loss and of its derivative by tau"
    "gemm_nt" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: forward, bias and activation fused"
    "gemm_nn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of the input, slope fused"
    "gemm_tn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of a weight"
    "column_sums" ONE ["columns / 32"] 256 "4 m n B, m n FLOP" "projector: gradient of a bias"
    "topk_scan" TYPES ["Q / 64 x splits"] 128 "s d (Q + N) B, 2 Q N d FLOP" "retrieve: the catalogue's best candidates of every query"
    "topk_finish" TYPES ["Q"] 128 "8 Q splits room B, 2 Q (k + 32) d FLOP" "retrieve: joins the candidates and scores them again in f32"
    "topk_history" TYPES ["Q"] 128 "s d (listed + Q) B, 2 listed d FLOP" "retrieve: the best of each user's own history"
    "merge_moments" ONE ["rows / 128"] 128 "8 samples + 20 rows B, 4 samples FLOP" "merge: mean and variance of a row's samples"
    "merge_rows" ONE ["rows / 256"] 256 "16 (experts + 1) rows B" "merge: the weighted mean and the first expert's share"
    "merge_sweep" ONE ["rows / 256 x points"] 256 "16 experts rows B, (6 experts + 8) rows points FLOP" "merge: log loss over a grid of alpha and epsilon"
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
        assert!(names.iter().all(|n| reported.iter().any(|r| r.kernel == *n)), "run scripts/kernel-resources --write");
        assert!(reported.iter().all(|r| r.spilled == 0), "a kernel spills");
    }
}
