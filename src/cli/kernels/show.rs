//! `rallrec kernels show`: one kernel from its launch to its machine code.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::output;
use crate::device::{images, resources};
use crate::error::{Error, Result};
use crate::kernels::compile;
use crate::kernels::ledger::{self, Entry};
use crate::kernels::model::{self, Hot};
use crate::kernels::sass::{self, Function, Instruction};
use crate::kernels::sources::Sources;
use crate::ops::registry::{self, Kernel, Operator};

/// One kernel: how it is launched, registers and occupancy, what the cycles of its hot loop are
/// spent on, the loop's machine code with its source lines, and the command that profiles it.
#[derive(clap::Args)]
pub struct ShowArgs {
    /// A kernel by its full name, as `rallrec kernels` lists it.
    #[arg(value_name = "KERNEL")]
    kernel: String,
    /// The architecture whose machine code is read: 80 or 90a.
    #[arg(long, default_value = "90a", value_name = "SM")]
    sm: String,
    /// A folder of .cu files, or one such file, that is compiled and read instead of the program's.
    #[arg(long, value_name = "FOLDER")]
    kernels: Option<PathBuf>,
    /// All of the machine code instead of the hot loop.
    #[arg(long)]
    all: bool,
}

/// Names that are offered in place of an unknown one.
const MEANT: usize = 6;

fn known(name: &str) -> Result<(&'static Operator, &'static Kernel)> {
    let all = || registry::ALL.iter().flat_map(|o| o.kernels.iter().map(move |k| (*o, k)));
    all().find(|(_, k)| k.names().any(|n| n == name)).ok_or_else(|| {
        // An operator's name, or the beginning of some kernels', means all of these.
        let of_operator = all().filter(|(o, _)| o.name == name).flat_map(|(_, k)| k.names());
        let begun = all().flat_map(|(_, k)| k.names()).filter(|k| !name.is_empty() && k.starts_with(name));
        let mut meant: Vec<_> = of_operator.chain(begun).collect();
        meant.dedup();
        if meant.is_empty() {
            let names = all().flat_map(|(_, k)| k.names());
            meant.extend(names.min_by_key(|k| strsim::damerau_levenshtein(name, k)));
        }
        meant.truncate(MEANT);
        Error::usage("kernels show", format!("there is no kernel '{name}'"))
            .next(format!("did you mean {}? `rallrec kernels` lists all", meant.join(" or ")))
    })
}

/// The machine code of a kernel, or why there is none.
fn code(args: &ShowArgs, operator: &Operator) -> Result<Function> {
    let of = |functions: Vec<Function>| functions.into_iter().find(|f| f.name == args.kernel);
    let read = |bytes: &[u8]| -> Result<Option<Function>> {
        let mut file = tempfile::NamedTempFile::new().map_err(|e| Error::failed("a temporary file", e))?;
        file.write_all(bytes).map_err(|e| Error::io(file.path(), "write", &e))?;
        sass::of_file(file.path()).map(of)
    };
    if let Some(folder) = &args.kernels {
        let sources = Sources::open(folder)?;
        let (compiled, _) = compile::for_gpu(&sources, sources.all(operator.sources)?, &args.sm)?;
        if let Some(own) = compiled.iter().find(|c| c.kernels.contains(&args.kernel)) {
            return read(&own.code)?.ok_or_else(|| Error::failed(&own.unit, "has no such kernel"));
        }
    }
    let mut own = images::IMAGES.iter().filter(|i| !i.ptx && i.architecture == args.sm);
    let image = own.find(|i| operator.sources.contains(&i.unit) && images::unit_of(&args.kernel) == Some(i.unit));
    let image = image.ok_or_else(|| {
        Error::failed("machine code", format!("this program has none for sm_{}", args.sm))
            .next("build with nvcc (scripts/nvcc-venv fetches one), or give --kernels a folder that `rallrec kernels write` made")
    })?;
    read(image.bytes)?.ok_or_else(|| Error::failed(&args.kernel, "is not in its unit"))
}

/// What an instruction may make a warp wait for.
fn mark(i: &Instruction) -> &'static str {
    match i.name() {
        "LDL" | "STL" => "local memory",
        "LDG" | "LD" => "memory",
        "BAR" => "waits for all warps",
        "DEPBAR" | "LDGDEPBAR" | "SYNCS" | "WARPGROUP" => "waits for copies or products",
        "MUFU" | "F2F" | "F2I" | "I2F" | "POPC" | "FLO" => "slow unit",
        "ATOMS" | "ATOMG" | "ATOM" | "RED" => "atomic",
        "SHFL" => "between lanes",
        name if name.starts_with('D') => "f64",
        _ => "",
    }
}

fn listing(function: &Function, hot: &Hot, all: bool) -> String {
    let (first, last) = if all { (0, function.code.len().saturating_sub(1)) } else { hot.range };
    let mut out = String::new();
    let mut source = &None;
    for (at, i) in function.code.iter().enumerate().take(last + 1).skip(first) {
        if i.source != *source {
            source = &i.source;
            if let Some((file, line)) = source {
                out.push_str(&format!("  {file}:{line}\n"));
            }
        }
        let inside = |range: (usize, usize)| (range.0..=range.1).contains(&at);
        let sign = match (hot.twice.is_some_and(inside), all && hot.is_loop && inside(hot.range)) {
            (true, _) => '=',
            (false, true) => '|',
            (false, false) => ' ',
        };
        let text = format!("{} {} {}", i.predicate, i.operation, i.operands);
        let text = format!("{sign} {:04x} {:>5}{}", i.at, "", text.trim_start());
        let mark = mark(i);
        out.push_str(
            if mark.is_empty() { text.trim_end().to_owned() } else { format!("{text:<76} <- {mark}") }.as_str(),
        );
        out.push('\n');
    }
    out
}

fn expectations(entry: &Entry) -> String {
    let mut out = String::new();
    for e in ledger::expected(entry, &resources::all()) {
        let share = e.share.map_or(String::new(), |s| format!("{:.0} % of the floor, ", 100.0 * s));
        let spent: Vec<String> =
            e.cycles.iter().filter(|c| c.1 > 0.0).map(|(what, c)| format!("{} {c:.0}", what.name())).collect();
        out.push_str(&format!("  {}: {share}bound by {}; cycles: {}\n", e.gpu, e.limit.name(), spent.join(", ")));
    }
    out
}

pub fn main(args: &ShowArgs) -> Result<()> {
    let (operator, kernel) = known(&args.kernel)?;
    let reported = resources::all();
    let found = reported.iter().find(|r| r.kernel == args.kernel && r.architecture == args.sm);
    let found = found.ok_or_else(|| {
        Error::usage("--sm", format!("{} is not compiled for '{}'", args.kernel, args.sm)).next("use 80 or 90a")
    })?;
    let occupancy = found.occupancy(kernel.block).map_or("?".to_owned(), |o| format!("{:.0} %", 100.0 * o));
    let mut out = format!(
        "{} of {}, for sm_{}\n  serves {}\n  blocks: {}; {} threads a block\n  cost: {}\n  \
         {} registers, {} bytes of static shared memory, occupancy {occupancy} as far as these allow\n",
        args.kernel,
        operator.name,
        args.sm,
        kernel.serves,
        kernel.grid,
        kernel.block,
        kernel.cost,
        found.registers,
        found.shared,
    );
    let committed = ledger::committed().into_iter().find(|e| e.kernel == args.kernel && e.architecture == args.sm);
    let code = code(args, operator);
    let entry = match &code {
        Ok(function) => ledger::entries(std::slice::from_ref(function), &args.sm).pop(),
        Err(_) => committed.clone(),
    };
    if let Some(entry) = &entry {
        let c = &entry.counts;
        out.push_str(&format!(
            "\na warp's turn of the hot loop (the model of docs/kernels.md; no GPU was asked)\n  \
             {} instructions: {} products by mma.sync, {} by wgmma (16 x 8 x 8 each), {} fma, {} alu, {} special, {} f64\n  \
             {} wavefronts of shared memory; bytes: {} loaded, {} copied to shared memory, {} stored\n",
            c.instructions, c.products, c.warpgroup_products, c.fma, c.alu, c.special, c.double, c.wavefronts, c.loaded, c.copied, c.stored
        ));
        out.push_str(&expectations(entry));
    }
    if let (Some(committed), true) = (&committed, args.kernels.is_some() && code.is_ok()) {
        out.push_str(&format!("the program's own\n{}", expectations(committed)));
    }
    match &code {
        Ok(function) => {
            let hot = model::hot(function);
            let what = match (args.all, hot.is_loop, hot.twice.is_some()) {
                (true, ..) => "machine code; | is the hot loop, = a loop in it that is counted twice",
                (false, true, true) => "the hot loop; = is a loop in it that is counted twice",
                (false, true, false) => "the hot loop",
                (false, false, _) => "machine code; it has no loop",
            };
            out.push_str(&format!("\n{what}\n{}", listing(function, &hot, args.all)));
        }
        Err(why) => out.push_str(&format!("\nnothing to list: {why}\n")),
    }
    out.push_str(&format!(
        "\ncounters on a GPU:\n  ncu --set full --clock-control none --kernel-name {} --launch-skip 1 --launch-count 1 \\\n    \
         rallrec bench {} --device cuda --seconds 0.001\n",
        args.kernel, operator.name
    ));
    output::text(&out)
}
