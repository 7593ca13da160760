//! The committed counts of every kernel's hot loop, `kernels/MODEL.tsv`, beside the compiler's
//! report of registers. Whoever changes a kernel sees there, line by line, what became of its loop.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::model::{Counts, Expected, GPUS, hot};
use super::sass::{self, Function};
use crate::device::resources::{self, Resources};
use crate::error::{Error, Result};
use crate::ops::registry;

/// Counts of a kernel for an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Full name.
    pub kernel: String,
    /// `80`, `90a`.
    pub architecture: String,
    /// Of a warp's turn of the hot loop.
    pub counts: Counts,
}

const HEAD: &str = "kernel\tsm\tinstructions\tproducts\twarpgroup_products\tfma\talu\tspecial\tdouble\twavefronts\tloaded\tcopied\tstored";

/// By how much a turn of the loop may take longer before it counts as worse.
const SLACK: f64 = 1.02;

fn fields(c: &Counts) -> [u32; 11] {
    [
        c.instructions,
        c.products,
        c.warpgroup_products,
        c.fma,
        c.alu,
        c.special,
        c.double,
        c.wavefronts,
        c.loaded,
        c.copied,
        c.stored,
    ]
}

fn line(text: &str) -> Option<Entry> {
    let mut parts = text.split('\t');
    let (kernel, architecture) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut number = || parts.next()?.parse().ok();
    let counts = Counts {
        instructions: number()?,
        products: number()?,
        warpgroup_products: number()?,
        fma: number()?,
        alu: number()?,
        special: number()?,
        double: number()?,
        wavefronts: number()?,
        loaded: number()?,
        copied: number()?,
        stored: number()?,
    };
    Some(Entry { kernel, architecture, counts })
}

/// The committed table.
pub fn committed() -> Vec<Entry> {
    include_str!("../../kernels/MODEL.tsv").lines().skip(1).filter_map(line).collect()
}

/// The table's text.
pub fn text(entries: &[Entry]) -> String {
    let mut lines: Vec<String> = entries
        .iter()
        .map(|e| {
            let counts: Vec<String> = fields(&e.counts).iter().map(u32::to_string).collect();
            format!("{}\t{}\t{}\n", e.kernel, e.architecture, counts.join("\t"))
        })
        .collect();
    lines.sort();
    format!("{HEAD}\n{}", lines.concat())
}

/// What the functions of a unit count to.
pub fn entries(functions: &[Function], architecture: &str) -> Vec<Entry> {
    let entry =
        |f: &Function| Entry { kernel: f.name.clone(), architecture: architecture.to_owned(), counts: hot(f).counts };
    functions.iter().map(entry).collect()
}

/// Reads every `UNIT.sm_ARCHITECTURE.cubin` of a folder, as `cargo build` leaves them, of the
/// architectures that the model knows.
///
/// # Errors
/// No such file; no nvdisasm.
pub fn read(folder: &Path) -> Result<Vec<Entry>> {
    let files = fs::read_dir(folder).map_err(|e| Error::io(folder, "read the folder", &e))?;
    let mut all = Vec::new();
    for path in files.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, architecture)) = name.strip_suffix(".cubin").and_then(|n| n.rsplit_once(".sm_")) else { continue };
        if GPUS.iter().any(|gpu| gpu.architecture == architecture) {
            all.extend(entries(&sass::of_file(&path)?, architecture));
        }
    }
    if all.is_empty() {
        return Err(Error::input(folder.display(), "there is no compiled kernel in it")
            .next("name the folder out/cuda of target/release/build/rallrec-*, after a build with nvcc"));
    }
    Ok(all)
}

/// Warps of a kernel that are at work at once on a multiprocessor, as far as registers and static
/// shared memory tell.
fn warps(kernel: &str, architecture: &str, reported: &[Resources]) -> f64 {
    let block = registry::ALL
        .iter()
        .flat_map(|o| o.kernels)
        .find(|entry| entry.names().any(|name| name == kernel))
        .map_or(128, |entry| entry.block);
    let found = reported.iter().find(|r| r.kernel == kernel && r.architecture == architecture);
    64.0 * found.and_then(|r| r.occupancy(block)).unwrap_or(0.5)
}

/// What the model expects of an entry on each GPU that runs its code.
pub fn expected(entry: &Entry, reported: &[Resources]) -> Vec<Expected> {
    let warps = warps(&entry.kernel, &entry.architecture, reported);
    let gpus = GPUS.iter().filter(|gpu| gpu.architecture == entry.architecture);
    gpus.map(|gpu| gpu.expects(&entry.counts, warps)).collect()
}

/// Cycles of the limit for what a turn brings about: a product, a KiB moved, or the turn itself.
fn price(entry: &Entry, reported: &[Resources]) -> f64 {
    let c = &entry.counts;
    let work = match (c.products + c.warpgroup_products, c.loaded + c.copied + c.stored) {
        (0, 0) => 1.0,
        (0, bytes) => f64::from(bytes) / 1024.0,
        (products, _) => f64::from(products),
    };
    let most = expected(entry, reported).iter().filter_map(|e| e.cycles.first()).map(|c| c.1).fold(0.0, f64::max);
    most / work
}

/// Where `now` is worse than `before`, in words; empty where it is nowhere.
pub fn worse(before: &[Entry], now: &[Entry]) -> Vec<String> {
    let reported = resources::all();
    let mut found = Vec::new();
    for entry in now {
        let same = |e: &&Entry| e.kernel == entry.kernel && e.architecture == entry.architecture;
        let Some(known) = before.iter().find(same) else {
            found.push(format!("{} for sm_{} is not in kernels/MODEL.tsv", entry.kernel, entry.architecture));
            continue;
        };
        let (was, is) = (price(known, &reported), price(entry, &reported));
        if is > was * SLACK {
            let mut text = format!(
                "{} for sm_{}: its hot loop costs {:.0} % more",
                entry.kernel,
                entry.architecture,
                100.0 * (is / was - 1.0)
            );
            let names = HEAD.split('\t').skip(2);
            for ((name, a), b) in
                names.zip(fields(&known.counts)).zip(fields(&entry.counts)).filter(|((_, a), b)| a != b)
            {
                let _ = write!(text, ", {name} {a} to {b}");
            }
            found.push(text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_kernel_and_reads_as_it_is_written() {
        let all = committed();
        assert_eq!(text(&all), include_str!("../../kernels/MODEL.tsv"));
        for architecture in ["80", "90a"] {
            for kernel in registry::ALL.iter().flat_map(|o| o.kernels).flat_map(registry::Kernel::names) {
                let hopper_only = registry::find(&kernel).is_some_and(|o| o.name.ends_with("sm90a"));
                let there = all.iter().any(|e| e.kernel == kernel && e.architecture == architecture);
                assert!(there || hopper_only && architecture == "80", "{kernel} for sm_{architecture}");
            }
        }
    }

    #[test]
    fn more_instructions_for_the_same_work_are_worse_and_more_work_is_not() {
        let counts = Counts { instructions: 100, loaded: 512, ..Counts::default() };
        let entry = |counts| vec![Entry { kernel: "adam_rows_f32".into(), architecture: "80".into(), counts }];
        let before = entry(counts);
        assert!(worse(&before, &before).is_empty());
        let slow = worse(&before, &entry(Counts { instructions: 900, ..counts }));
        assert!(slow.len() == 1 && slow[0].contains("instructions 100 to 900"), "{slow:?}");
        let unrolled = Counts { instructions: 200, loaded: 1024, ..counts };
        assert!(worse(&before, &entry(unrolled)).is_empty(), "twice the loop, twice the work");
        let unknown = Entry { kernel: "new".into(), architecture: "80".into(), counts };
        assert!(worse(&before, &[unknown])[0].contains("not in kernels/MODEL.tsv"));
    }
}
