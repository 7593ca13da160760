//! `rallrec bench`: the operators against this machine's ceilings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comfy_table::CellAlignment;
use serde::Serialize;

use super::edited::{self, Edited};
use super::output;
use crate::bench::{self, About, Bound, Ceilings, Measured, Verdict, Versus};
use crate::device::{Choice, Device, KernelDevice, Kind};
use crate::durable;
use crate::error::{Error, Result};
use crate::ops::registry::{self, Case, Operator};
use crate::pipeline::control;
use crate::pipeline::progress::short;

/// Measure the operators against what this machine's memory and arithmetic units allow.
///
/// First measures two ceilings: bytes a second to and from memory, and FLOP a second of the
/// arithmetic units (multiply-adds of f32 from registers on the CPU, which also says what they give
/// in bf16 and in 8 bits; bf16 by mma.sync on a GPU). Then times each operator at several shapes
/// on rotated inputs and prints its median time with its spread, its floor, and how near it comes
/// to the ceiling that binds it.
///
/// With --device cuda an operator's time is the sum of its launches; a goal, where it has one, is
/// reached, or missed by how much; then each launch is held against the ceilings.
#[derive(clap::Args)]
#[command(after_help = "Example: rallrec bench linear attention --seconds 1 --threads 2")]
pub struct BenchArgs {
    /// Operators to measure, by any name that a profile or the dashboard shows, e.g. spmm, linear,
    /// attention_backward (default: all; a wrong name prints the list).
    #[arg(value_name = "OP")]
    ops: Vec<String>,
    /// Where operators run.
    #[arg(long, value_enum, default_value_t = Choice::Cpu)]
    device: Choice,
    /// Seconds for each case, above 0 and at most 3600.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Worker threads; 0 = one for each core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// A folder of .cu files, or one such file: its kernels and the program's run the same work in
    /// turns, and their ratio is printed. `rallrec check` has the same flag.
    #[arg(long, value_name = "FOLDER", conflicts_with = "write")]
    kernels: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Also write the JSON to a file, anew after each case.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the operators that have something to measure on --device, a line each, and measure
    /// nothing.
    #[arg(long)]
    list: bool,
    /// Under callgrind: run small works between two dumps of its counts (.ci/counts).
    #[arg(long, hide = true)]
    count: bool,
}

#[derive(Serialize)]
struct Report {
    about: About,
    ceilings: Ceilings,
    cases: Vec<Measured>,
    left_out: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LeftOut {
    op: &'static str,
    work: &'static str,
    why: String,
}

pub fn main(args: BenchArgs) -> Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(
            Error::usage("--seconds", format!("{} is not above 0 and at most 3600", args.seconds)).next("use e.g. 0.3")
        );
    }
    if args.count {
        crate::pipeline::set_threads(1)?;
        return output::text(&bench::count::all()?);
    }
    if args.list {
        // A GPU has the cases of the host build.
        let device = match args.device {
            Choice::Cpu | Choice::Auto => Device::Cpu,
            Choice::Cuda | Choice::Host => Device::Kernels(KernelDevice::host(0)),
        };
        let names = bench::select(&args.ops, &device)?.into_iter().map(|case| case.op);
        let names: BTreeSet<_> = names.map(|op| op.strip_suffix("_backward").unwrap_or(op)).collect();
        return output::text(&names.into_iter().map(|name| format!("{name}\n")).collect::<String>());
    }
    let (device, name) = args.device.resolve()?;
    let cases = bench::select(&args.ops, &device)?;
    crate::pipeline::set_threads(args.threads)?;
    if let Some(folder) = &args.kernels {
        return beside(folder, &device, &cases, args.seconds, args.json);
    }
    let ceilings = bench::ceilings(&device)?;
    let about = About::new(&device, &name);
    let mut report = Report { about, ceilings, cases: Vec::new(), left_out: Vec::new() };
    let mut failed = Vec::new();
    for case in cases {
        if control::interrupted() {
            return Err(Error::stopped("bench"));
        }
        let mut leave_out = |why| report.left_out.push(LeftOut { op: case.op, work: case.work, why });
        match bench::left_out(case, &device) {
            Some(why) => leave_out(why),
            None => match bench::time(&device, case, &ceilings, args.seconds) {
                Ok(measured) => report.cases.push(measured),
                // The next case may fit into the memory that this one did not.
                Err(error) => {
                    leave_out(format!("failed: {error}"));
                    failed.push(case.op);
                }
            },
        }
        if let Some(path) = &args.write {
            let text = serde_json::to_string_pretty(&report).map_err(|e| Error::failed("bench", e))?;
            durable::write(path, text.as_bytes())?;
        }
    }
    if args.json {
        output::json(&report)?
    } else {
        output::text(&render(&report))?
    }
    if failed.is_empty() {
        return Ok(());
    }
    failed.dedup();
    Err(Error::failed("bench", format!("cases of {} failed; the list `left out` says why", failed.join(", ")))
        .next(format!("`rallrec check {}` looks for the cause", failed.join(" "))))
}

/// The edited kernels and the program's, in turns.
#[derive(Serialize)]
struct Turns {
    kernels: Edited,
    cases: Vec<Versus>,
}

fn beside(folder: &Path, device: &Device, cases: &[&Case], seconds: f64, json: bool) -> Result<()> {
    let Device::Kernels(own) = device else {
        return Err(Error::usage("--kernels", "the CPU backend has no kernels").next("use --device host or cuda"));
    };
    let operators: Vec<&Operator> =
        registry::ALL.iter().copied().filter(|o| cases.iter().any(|c| o.has(c.op))).collect();
    let (edited, kernels) = edited::device(folder, own.kind(), &operators, 0)?;
    let edited = Device::Kernels(edited);
    let mut turns = Turns { kernels, cases: Vec::new() };
    for case in cases.iter().filter(|case| bench::left_out(case, device).is_none()) {
        if control::interrupted() {
            return Err(Error::stopped("bench"));
        }
        turns.cases.push(bench::versus(device, &edited, case, seconds)?);
    }
    if json {
        return output::json(&turns);
    }
    let mut rows = table(["op", "work", "stored", "built in", "edited", "times as fast", "10 - 90 %", "turns"], 3);
    for v in &turns.cases {
        rows.add_row([
            v.op.to_string(),
            v.work.to_string(),
            v.storage.to_string(),
            duration(v.built_in),
            duration(v.edited),
            format!("{:.3}", v.faster),
            format!("{:.3} - {:.3}", v.p10, v.p90),
            v.turns.to_string(),
        ]);
    }
    let note = match own.kind() {
        Kind::Host => "on the host build, whose times say nothing of a GPU's\n",
        Kind::Cuda => "",
    };
    output::text(&format!("{}{note}\n{rows}\n", turns.kernels.text()))
}

fn table<const N: usize>(header: [&str; N], left: usize) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(header);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn between(p10: f64, p90: f64) -> String {
    format!("{} - {}", duration(p10), duration(p90))
}

fn render(report: &Report) -> String {
    let mut operators = table(
        ["op", "work", "stored", "shape", "goal", "time", "10 - 90 %", "floor", "% of time", "GB/s", "GFLOP/s"],
        5,
    );
    let mut launches = table(["op", "kernel", "grid", "time", "10 - 90 %", "GB/s", "GFLOP/s", "% of ceiling"], 3);
    for m in &report.cases {
        operators.add_row([
            m.op.to_string(),
            m.work.to_string(),
            m.storage.to_string(),
            m.shape(),
            m.goal.as_ref().map_or(String::new(), Verdict::text),
            duration(m.seconds),
            between(m.p10, m.p90),
            duration(m.floor_seconds),
            format!("{:.0} {}", m.percent, bound(m.bound)),
            short(m.floor.bytes / m.seconds / 1e9),
            short(m.floor.flops / m.seconds / 1e9),
        ]);
        for l in &m.launches {
            let [x, y, z] = l.grid;
            launches.add_row([
                m.op.to_string(),
                l.kernel.to_string(),
                format!("{x} x {y} x {z}"),
                duration(l.seconds),
                between(l.p10, l.p90),
                short(l.gb_s),
                short(l.gflop_s),
                format!("{:.0} {}", l.percent, bound(l.bound)),
            ]);
        }
    }
    let (c, a) = (&report.ceilings, &report.about);
    let known = |what: &str, value: Option<&str>| value.map_or(String::new(), |v| format!(", {what} {v}"));
    let about = format!(
        "{}, {} threads{}{}\nkernels: {}\n{}{}, {}: {}",
        a.device,
        a.threads,
        known("compute capability", a.capability.as_deref()),
        known("driver", a.driver.as_deref()),
        a.kernels,
        a.program,
        known("commit", a.commit),
        a.date,
        a.command
    );
    let read = c.read_gb_s.map_or(String::new(), |read| format!("read {} GB/s, ", short(read)));
    let known = |what: &str, value: Option<f64>| value.map_or(String::new(), |v| format!(", {what} {}", short(v)));
    let of_caches = c.cache_gb_s.map_or(String::new(), |rates| {
        let [first, second, third] = rates.map(short);
        format!("from caches {first}, {second}, {third} GB/s (first level, second, four times the second), ")
    });
    let ceilings = format!(
        "{read}{of_caches}copy {} GB/s, products {} GFLOP/s{}{}{}",
        short(c.copy_gb_s),
        short(c.gflop_s),
        known("of one thread", c.core_gflop_s),
        known("in bf16", c.bf16_gflop_s),
        known("in 8 bits", c.int8_gop_s)
    );
    let left: String = report.left_out.iter().map(|l| format!("left out: {}, {}: {}\n", l.op, l.work, l.why)).collect();
    let launches = if launches.is_empty() { String::new() } else { format!("\n\n{launches}") };
    format!("{about}\nceilings: {ceilings}\n\n{operators}{launches}\n{left}")
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Memory => "memory",
        Bound::Compute => "compute",
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
