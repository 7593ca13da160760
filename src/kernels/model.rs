//! What the machine code of a kernel's hot loop lets expect of a GPU, without one: how many cycles
//! each unit of a multiprocessor is busy for a turn of the loop, which of them binds, and how near
//! to its floor the kernel can come. docs/kernels.md says how far off such figures are.
//!
//! The hot loop is the innermost loop with the most matrix products; without products, with the
//! most bytes from memory; a kernel without a loop is taken as a whole. Where products stand in a
//! short loop over the depth of a stage within the loop over the stages, the outer one is taken and
//! the inner one counted twice, which is what the tiles of `kernels/common` have. A warp's accesses
//! to shared memory count as free of bank conflicts: tests of the host build hold patterns to that.

use super::sass::{Function, Instruction};

/// Counts of a warp's turn of the hot loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Instructions: slots of the issue of a quarter of a multiprocessor.
    pub instructions: u32,
    /// Matrix products of 16 x 8 x 8 by `mma.sync`: an instruction of depth 16 is two.
    pub products: u32,
    /// The same by wgmma, a warp's quarter of each.
    pub warpgroup_products: u32,
    /// Multiplications and additions of f32, and multiplications of integers.
    pub fma: u32,
    /// Integers, comparisons, logic, conversions to pairs of 16 bits.
    pub alu: u32,
    /// Powers, roots, reciprocals, other conversions.
    pub special: u32,
    /// Arithmetic of f64.
    pub double: u32,
    /// Wavefronts of shared memory: 128 bytes each.
    pub wavefronts: u32,
    /// Bytes that a warp loads from memory into registers.
    pub loaded: u32,
    /// Bytes by asynchronous copies into shared memory.
    pub copied: u32,
    /// Bytes stored.
    pub stored: u32,
}

/// Operations of the units that are not matrix units, by the beginning of their names.
const FMA: [&str; 6] = ["FFMA", "FADD", "FMUL", "IMAD", "IDP", "FSWZADD"];
const SPECIAL: [&str; 8] = ["MUFU", "F2F", "F2I", "I2F", "POPC", "FLO", "BREV", "FRND"];
const DOUBLE: [&str; 4] = ["DFMA", "DADD", "DMUL", "DSETP"];
/// Neither: control, memory, and what the uniform path does beside the others.
const NEITHER: [&str; 34] = [
    "BRA",
    "EXIT",
    "BAR",
    "BSSY",
    "BSYNC",
    "NOP",
    "DEPBAR",
    "LDGDEPBAR",
    "WARPSYNC",
    "LDG",
    "STG",
    "LDS",
    "STS",
    "LDSM",
    "LDGSTS",
    "LDC",
    "ULDC",
    "S2R",
    "S2UR",
    "CS2R",
    "MEMBAR",
    "ERRBAR",
    "CCTL",
    "ATOMG",
    "ATOMS",
    "ATOM",
    "RED",
    "SHFL",
    "UTMALDG",
    "SYNCS",
    "HMMA",
    "HGMMA",
    "WARPGROUP",
    "CALL",
];

impl Counts {
    /// Counts one instruction `times` times.
    fn add(&mut self, i: &Instruction, times: u32) {
        self.instructions += times;
        let name = i.name();
        // A warp has 32 threads.
        let bytes = 32 * i.bytes() * times;
        match name {
            "HMMA" => self.products += times * if i.has("1688") { 1 } else { 2 },
            "HGMMA" => {
                let n = width(&i.operation);
                self.warpgroup_products += 2 * times * n / 8;
                // A warp's quarter of both operands, which are read from shared memory.
                self.wavefronts += times * (2048 + 32 * n) / 512;
            }
            "LDSM" => self.wavefronts += times * if i.has("4") { 4 } else { 2 },
            "LDS" | "STS" => self.wavefronts += bytes.div_ceil(128),
            "ATOMS" | "SHFL" => self.wavefronts += times,
            "LDGSTS" => {
                self.copied += bytes;
                self.wavefronts += bytes.div_ceil(128);
            }
            "LDG" => self.loaded += bytes,
            "STG" | "RED" | "ATOMG" => self.stored += bytes,
            _ if FMA.iter().any(|f| name.starts_with(f)) => self.fma += times,
            _ if SPECIAL.contains(&name) => self.special += times,
            _ if DOUBLE.contains(&name) => self.double += times,
            _ if NEITHER.contains(&name) => {}
            // The uniform path: one thread's worth of work, beside the others.
            _ if name.starts_with('U') => {}
            _ => self.alu += times,
        }
    }
}

/// N of `HGMMA.64xNx16`.
fn width(operation: &str) -> u32 {
    let shape = operation.split('.').find(|q| q.starts_with("64x")).unwrap_or_default();
    shape.split('x').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The hot loop of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Hot {
    /// First and last instruction.
    pub range: (usize, usize),
    /// The loop within it that is counted twice.
    pub twice: Option<(usize, usize)>,
    /// What a warp does in a turn.
    pub counts: Counts,
    /// Whether it is a loop; else the whole kernel.
    pub is_loop: bool,
}

/// Whether the loop that is counted twice has the instruction.
fn times(at: usize, twice: Option<(usize, usize)>) -> u32 {
    if twice.is_some_and(|(first, last)| (first..=last).contains(&at)) { 2 } else { 1 }
}

fn is_product(i: &Instruction) -> bool {
    matches!(i.name(), "HMMA" | "HGMMA")
}

/// What a turn of a loop with products is about: the products, and what brings their operands.
fn is_essential(i: &Instruction) -> bool {
    is_product(i) || matches!(i.name(), "LDGSTS" | "UTMALDG" | "BAR") || i.name() == "LDG" && i.has("128")
}

/// The instructions of a turn: with products, those of the shortest way that leaves out nothing
/// essential, since what a branch jumps over beside that is the rare case. Without, all.
fn way(function: &Function, (first, last): (usize, usize), twice: Option<(usize, usize)>) -> Vec<usize> {
    let all = (first..=last).collect();
    if !function.code[first..=last].iter().any(is_product) {
        return all;
    }
    // The least cost to reach each instruction, and from where.
    let mut least: Vec<Option<(u32, usize)>> = vec![None; last - first + 1];
    least[0] = Some((0, first));
    for at in first..last {
        let Some((cost, _)) = least[at - first] else { continue };
        let i = &function.code[at];
        let cost = cost + times(at, twice);
        let mut reach = |to: usize| {
            if least[to - first].is_none_or(|(known, _)| cost < known) {
                least[to - first] = Some((cost, at));
            }
        };
        let goes_on = !(i.predicate.is_empty() && matches!(i.name(), "BRA" | "EXIT" | "RET"));
        if goes_on {
            reach(at + 1);
        }
        for &(_, to) in function.jumps.iter().filter(|(from, to)| *from == at && *to <= last) {
            if !function.code[at..to].iter().any(is_essential) {
                reach(to);
            }
        }
    }
    let mut path = vec![last];
    while let Some(&at) = path.last().filter(|at| **at != first) {
        match least[at - first] {
            Some((_, from)) => path.push(from),
            None => return all,
        }
    }
    path.reverse();
    path
}

fn count(function: &Function, range: (usize, usize), twice: Option<(usize, usize)>) -> Counts {
    let mut counts = Counts::default();
    for at in way(function, range, twice) {
        counts.add(&function.code[at], times(at, twice));
    }
    counts
}

/// Finds the hot loop.
pub fn hot(function: &Function) -> Hot {
    let inside = |a: (usize, usize), b: (usize, usize)| a != b && b.0 <= a.0 && a.1 <= b.1;
    let counted: Vec<((usize, usize), Counts)> =
        function.loops.iter().map(|l| (*l, count(function, *l, None))).collect();
    let products = |c: &Counts| c.products + c.warpgroup_products;
    let bytes = |c: &Counts| c.loaded + c.copied + c.stored;
    // Of loops that do something, those without another such loop in them: a loop in it that only
    // waits does not count.
    let innermost = |does: &dyn Fn(&Counts) -> u32| {
        let able = || counted.iter().filter(|(_, c)| does(c) > 0);
        let chosen = able().filter(|(l, _)| !able().any(|(other, _)| inside(*other, *l)));
        chosen.max_by_key(|(_, c)| (does(c), c.instructions)).copied()
    };
    let found = innermost(&products).or_else(|| innermost(&bytes)).or_else(|| innermost(&|c| c.instructions));
    let Some((range, own)) = found else {
        let last = function.code.iter().rposition(|i| i.name() == "EXIT").unwrap_or(function.code.len().max(1) - 1);
        return Hot { range: (0, last), twice: None, counts: count(function, (0, last), None), is_loop: false };
    };
    // A stage's products in a loop of their own: what brings the stage stands around it.
    let brings = |(l, c): &&((usize, usize), Counts)| {
        inside(range, *l) && c.loaded + c.copied > own.loaded + own.copied && c.products == own.products
    };
    let around = counted.iter().filter(brings).min_by_key(|(l, _)| l.1 - l.0);
    match around {
        Some((outer, _)) if own.products > 0 && own.loaded + own.copied == 0 => {
            Hot { range: *outer, twice: Some(range), counts: count(function, *outer, Some(range)), is_loop: true }
        }
        _ => Hot { range, twice: None, counts: own, is_loop: true },
    }
}

/// A GPU as the model sees it. Rates are of one multiprocessor and a clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Name.
    pub name: &'static str,
    /// Whose machine code it runs.
    pub architecture: &'static str,
    /// Multiprocessors.
    pub count: f64,
    /// GHz under load.
    pub ghz: f64,
    /// Cycles of a quarter for a product of 16 x 8 x 8 by `mma.sync`, and by wgmma.
    pub product: (f64, f64),
    /// Cycles of a quarter for 32 lanes of `fma`.
    pub fma: f64,
    /// Cycles of a quarter for 32 lanes of `double`.
    pub double: f64,
    /// Bytes from the second-level cache.
    pub cache: f64,
    /// GB/s of the memory.
    pub memory_gb_s: f64,
    /// Cycles until a load from memory arrives.
    pub latency: f64,
}

const H100: Gpu = Gpu {
    name: "H100",
    architecture: "90a",
    count: 132.0,
    ghz: 1.755,
    product: (3.2, 2.0),
    fma: 1.0,
    double: 2.0,
    cache: 39.0,
    memory_gb_s: 3350.0,
    latency: 750.0,
};

/// The data sheets' figures; `mma.sync` on Hopper at 62 % of wgmma, as microbenchmarks found it.
pub const GPUS: [Gpu; 3] = [
    Gpu {
        name: "A100",
        architecture: "80",
        count: 108.0,
        ghz: 1.41,
        product: (4.0, 4.0),
        fma: 2.0,
        double: 4.0,
        cache: 47.0,
        memory_gb_s: 2039.0,
        latency: 600.0,
    },
    H100,
    // Its processor with a faster memory.
    Gpu { name: "H200", memory_gb_s: 4800.0, ..H100 },
];

/// What keeps a kernel from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Limit {
    Products,
    Issue,
    Fma,
    Alu,
    Special,
    Double,
    Shared,
    Cache,
    Memory,
    /// Loads are waited for: too few bytes are under way.
    Latency,
}

impl Limit {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Products => "products",
            Limit::Issue => "issue",
            Limit::Fma => "fma",
            Limit::Alu => "alu",
            Limit::Special => "special",
            Limit::Double => "double",
            Limit::Shared => "shared",
            Limit::Cache => "cache",
            Limit::Memory => "memory",
            Limit::Latency => "latency",
        }
    }
}

/// What the model expects of a kernel on a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The GPU.
    pub gpu: &'static str,
    /// Cycles of a multiprocessor for a turn of the loop by all its warps, by what they are spent
    /// on; the longest first.
    pub cycles: Vec<(Limit, f64)>,
    /// The longest.
    pub limit: Limit,
    /// Share of the floor, 0 to 1: of the matrix units' rate where there are products, else of the
    /// memory's; `None` where a turn does neither.
    pub share: Option<f64>,
}

impl Gpu {
    /// For a kernel of which `warps` are at work at once on a multiprocessor.
    pub fn expects(&self, counts: &Counts, warps: f64) -> Expected {
        let c = |n: u32| f64::from(n);
        let quarter = warps / 4.0;
        let products = quarter * (c(counts.products) * self.product.0 + c(counts.warpgroup_products) * self.product.1);
        let moved = c(counts.loaded) + c(counts.copied) + c(counts.stored);
        let memory = warps * moved / (self.memory_gb_s / self.count / self.ghz);
        let works = counts.products + counts.warpgroup_products > 0;
        let mut cycles = vec![
            (Limit::Products, products),
            (Limit::Issue, quarter * c(counts.instructions)),
            (Limit::Fma, quarter * self.fma * c(counts.fma)),
            (Limit::Alu, quarter * 2.0 * c(counts.alu)),
            (Limit::Special, quarter * 8.0 * c(counts.special)),
            (Limit::Double, quarter * self.double * c(counts.double)),
            (Limit::Shared, warps * c(counts.wavefronts)),
            (Limit::Cache, warps * moved / self.cache),
        ];
        if !works {
            // What products use comes from the cache; other kernels are held to the memory.
            cycles.push((Limit::Memory, memory));
            if counts.loaded > 0 {
                cycles.push((Limit::Latency, self.latency));
            }
        }
        cycles.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (limit, most) = cycles.first().copied().unwrap_or((Limit::Issue, 0.0));
        let floor = if works { products } else { memory };
        let share = (floor > 0.0 && most > 0.0).then(|| floor / most);
        Expected { gpu: self.name, cycles, limit, share }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sass::parse;
    use super::*;

    fn function(lines: &[&str]) -> Function {
        let mut text = String::from(".text.k:\n");
        for (i, line) in lines.iter().enumerate() {
            if line.starts_with('.') {
                text += &format!("{line}:\n");
            } else {
                text += &format!("        /*{:04x}*/   {line} ;\n", 16 * i);
            }
        }
        parse(&text).remove(0)
    }

    #[test]
    fn the_loop_with_the_products_is_taken_with_the_one_that_feeds_it() {
        let k = function(&[
            ".L_x_1",
            "LDG.E.128 R4, desc[UR4][R2.64]",
            "STS.128 [R9], R4",
            "BAR.SYNC.DEFER_BLOCKING 0x0",
            ".L_x_2",
            "LDSM.16.M88.4 R8, [R7]",
            "HMMA.16816.F32.BF16 R44, R52, R68, R44",
            "FADD R1, R2, R3",
            "@P0 BRA `(.L_x_2)",
            "@P1 BRA `(.L_x_1)",
            "EXIT",
        ]);
        let hot = hot(&k);
        assert_eq!(hot.twice.map(|(a, b)| b - a), Some(3));
        let c = hot.counts;
        // Three before, four twice, the branch: a product is two of depth 8.
        assert_eq!((c.instructions, c.products, c.fma, c.loaded, c.wavefronts), (12, 4, 2, 512, 4 + 8));
        let a100 = &GPUS[0];
        let expected = a100.expects(&c, 8.0);
        // Eight warps are two a quarter: 4 products of 4 cycles; and 96 wavefronts of all eight.
        assert!(expected.cycles.contains(&(Limit::Products, 32.0)), "{expected:?}");
        assert_eq!((expected.limit, expected.cycles[0].1), (Limit::Shared, 96.0));
        assert!((expected.share.unwrap() - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_rare_case_beside_products_is_left_out() {
        let k = function(&[
            ".L_x_1",
            "HMMA.16816.F32.BF16 R44, R52, R68, R44",
            "@P0 BRA `(.L_x_3)",
            "MUFU.RCP R1, R2",
            "ATOMS.OR R1, [R2], R3",
            ".L_x_3",
            "@P2 BRA `(.L_x_4)",
            "LDGSTS.E.BYPASS.128 [R5], [R2.64]",
            ".L_x_4",
            "HMMA.16816.F32.BF16 R40, R52, R68, R40",
            "@P1 BRA `(.L_x_1)",
            "EXIT",
        ]);
        let c = hot(&k).counts;
        // The copy is for the next turn: a branch around it is not the rule.
        assert_eq!((c.instructions, c.products, c.special, c.copied), (6, 4, 0, 512));
    }

    #[test]
    fn a_stream_is_held_to_the_memory_and_few_warps_wait_for_it() {
        let k = function(&[".L_x_1", "LDG.E.128 R4, [R2.64]", "STG.E.128 [R2.64], R4", "@P1 BRA `(.L_x_1)", "EXIT"]);
        let c = hot(&k).counts;
        assert_eq!((c.loaded, c.stored, c.instructions), (512, 512, 3));
        let full = GPUS[0].expects(&c, 64.0);
        assert_eq!((full.limit, full.share), (Limit::Memory, Some(1.0)));
        let few = GPUS[0].expects(&c, 2.0);
        assert!(few.limit == Limit::Latency && few.share.unwrap() < 0.5, "{few:?}");
    }

    #[test]
    fn wide_products_count_by_their_width() {
        let k = function(&[".L_x_1", "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24", "@P1 BRA `(.L_x_1)", "EXIT"]);
        assert_eq!(hot(&k).counts.warpgroup_products, 32);
        // 64 x 128 x 16 by four warps: 64 cycles at 4096 FLOP a clock, at which a product of 2048
        // multiplications takes 4 cycles of a quarter.
        assert_eq!(GPUS[1].expects(&hot(&k).counts, 4.0).cycles[0], (Limit::Products, 64.0));
    }

    /// Rungs of a published ladder of f32 products (siboehm/SGEMM_CUDA, 4092 x 4092 on an RTX
    /// A6000),
    /// written anew, compiled for sm_86, counted: TFLOP/s by the model and as published. Operands
    /// come from caches, so the memory and its latency are left out.
    #[test]
    fn published_kernels_come_out_in_their_order_and_within_a_factor() {
        let a6000 = Gpu { name: "A6000", architecture: "86", count: 84.0, fma: 1.0, memory_gb_s: 768.0, ..GPUS[0] };
        let rung = |instructions, products, fma, alu, wavefronts, loaded, published: f64| {
            let counts = Counts { instructions, fma, alu, wavefronts, loaded, ..Counts::default() };
            let expected = a6000.expects(&counts, 32.0);
            let busy = expected.cycles.iter().filter(|(l, _)| !matches!(l, Limit::Memory | Limit::Latency));
            let cycles = busy.map(|c| c.1).fold(0.0, f64::max);
            let tflops = 32.0 * 64.0 * f64::from(products) / cycles * a6000.count * a6000.ghz / 1e3;
            (tflops, tflops / published)
        };
        let rungs = [
            rung(73, 16, 33, 5, 0, 4096, 1.9865),        // a thread a value, coalesced
            rung(92, 32, 33, 12, 66, 256, 2.9803),       // tiles of 32 x 32 in shared memory
            rung(593, 512, 520, 18, 136, 1024, 15.9717), // 8 x 8 values a thread
            rung(567, 512, 513, 11, 136, 1024, 18.2373), // the same with loads of 16 bytes
        ];
        assert!(rungs.windows(2).all(|pair| pair[0].0 < pair[1].0), "{rungs:?}");
        // docs/kernels.md states these bounds.
        assert!(rungs.iter().all(|(_, ratio)| (0.65..1.7).contains(ratio)), "{rungs:?}");
    }
}
