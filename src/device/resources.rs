//! What the compiler said of each kernel: the committed report.

/// A line of the compiler's report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Resources {
    /// Full name.
    pub kernel: String,
    /// The source's name without ending.
    pub unit: String,
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
pub fn all() -> Vec<Resources> {
    let lines = include_str!("../../kernels/RESOURCES.tsv").lines().skip(1);
    lines
        .filter_map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let number = |i: usize| f.get(i)?.parse().ok();
            Some(Resources {
                kernel: (*f.first()?).to_owned(),
                unit: (*f.get(1)?).to_owned(),
                architecture: (*f.get(2)?).to_owned(),
                registers: number(3)?,
                shared: number(4)?,
                spilled: number(6)?,
            })
        })
        .collect()
}

/// What a multiprocessor of an architecture has: warps, blocks, bytes of shared memory.
fn multiprocessor(architecture: &str) -> Option<(u32, u32, u32)> {
    Some(match architecture {
        "80" => (64, 32, 164 << 10),
        "86" => (48, 16, 100 << 10),
        "89" => (48, 24, 100 << 10),
        "90a" | "100" => (64, 32, 228 << 10),
        _ => return None,
    })
}

impl Resources {
    /// Share of a multiprocessor's warps that are at work at once, in blocks of so many threads, as
    /// far as registers, blocks and static shared memory allow. Shared memory that is asked for at
    /// the launch may lower it. `None` for an architecture that is not known.
    pub fn occupancy(&self, block: u32) -> Option<f64> {
        let (most, blocks, shared) = multiprocessor(&self.architecture)?;
        let warps = block.div_ceil(32).max(1);
        // 16,384 registers in each of four parts, given to a warp in pieces of 256.
        let registers = (self.registers.max(1) * 32).next_multiple_of(256);
        let by_registers = 4 * (16_384 / registers) / warps;
        // The system keeps a KiB of shared memory for each block.
        let by_shared = shared / (self.shared + 1024);
        let together = blocks.min(most / warps).min(by_registers).min(by_shared);
        Some(f64::from(together * warps) / f64::from(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupancy_is_what_the_scarcest_resource_allows() {
        let of = |registers, shared, architecture: &str| Resources {
            kernel: "k".into(),
            unit: "u".into(),
            architecture: architecture.into(),
            registers,
            shared,
            spilled: 0,
        };
        // As NVIDIA's occupancy calculator has them.
        for (resources, block, wanted) in [
            (of(32, 0, "80"), 256, 1.0),
            (of(40, 0, "80"), 256, 0.75),
            (of(126, 0, "90a"), 128, 0.25),
            (of(255, 0, "80"), 256, 0.125),
            (of(32, 48 << 10, "86"), 128, 4.0 * 2.0 / 48.0),
            (of(16, 0, "86"), 32, 16.0 / 48.0),
        ] {
            let got = resources.occupancy(block).expect("a known architecture");
            assert!((got - wanted).abs() < 1e-9, "{resources:?}, {block} threads: {got}, not {wanted}");
        }
        assert_eq!(of(32, 0, "75").occupancy(128), None);
    }
}
