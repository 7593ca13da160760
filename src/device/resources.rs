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
