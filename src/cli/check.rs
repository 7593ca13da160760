//! `rallrec check`: is the arithmetic right on this machine?

use serde::Serialize;

use super::output;
use crate::check::{self, Finding};
use crate::device::{Device, KernelDevice};
use crate::error::{Error, Result};
use crate::ops::registry::{self, Check, Shape};

/// Compare operators with their f64 definition on random cases.
///
/// Errors are in units of the stated tolerance: up to 1 is right. A case that fails is made smaller
/// and printed with the command that runs it again. Exit code 1 if any fails.
#[derive(clap::Args)]
#[command(after_help = "Example: rallrec check topk infonce --device host --cases 20 --seed 7")]
pub struct CheckArgs {
    /// Operators, by any name that a profile or the dashboard shows (default: all; a wrong name
    /// prints the list).
    #[arg(value_name = "OP")]
    ops: Vec<String>,
    /// What runs them: the CPU backend, the CUDA kernels compiled for the CPU (slow, finds races
    /// and stray accesses), or a GPU.
    #[arg(long, value_enum, default_value_t = On::Host)]
    device: On,
    /// Cases for each operator, storage type and sort of shapes; above 0.
    #[arg(long, default_value_t = 8, value_name = "N")]
    cases: usize,
    /// Seed of the first case; the next has the next number.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Only this shape: three sizes, as printed.
    #[arg(long, value_delimiter = ',', num_args = 3, value_name = "A,B,C")]
    shape: Option<Vec<usize>>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the operators that have a check on --device, a line each, and check nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    Cpu,
    Host,
    Cuda,
}

fn has(checks: &[&Check], check: &Check) -> bool {
    checks.iter().any(|c| c.name == check.name)
}

#[derive(Serialize)]
struct Report {
    device: String,
    findings: Vec<Finding>,
}

pub fn main(args: CheckArgs) -> Result<()> {
    if args.cases == 0 {
        return Err(Error::usage("--cases", "0 cases check nothing").next("use e.g. 8"));
    }
    let shape: Option<Shape> = args.shape.map(|s| [s[0], s[1], s[2]]);
    if shape.is_some_and(|s| s.contains(&0) || s.iter().any(|&n| n > 1 << 20)) {
        return Err(Error::usage("--shape", "sizes must be 1 to 1048576"));
    }
    let ops = check::select(&args.ops)?;
    if args.list {
        // The host build has a check of everything that a GPU may have.
        let device = if args.device == On::Cpu { Device::Cpu } else { Device::Kernels(KernelDevice::host(0)) };
        let of_it = registry::ALL.iter().filter(|o| o.checks.iter().any(|c| c.runs_on(&device) && has(&ops, c)));
        return output::text(&of_it.map(|o| format!("{}\n", o.name)).collect::<String>());
    }
    let device = match args.device {
        On::Cpu => Device::Cpu,
        On::Host => Device::Kernels(KernelDevice::host(args.seed)),
        On::Cuda => Device::Kernels(KernelDevice::cuda(0)?),
    };
    let mut findings = Vec::new();
    // Behind an error of the device nothing can be asked of it any more; what was found before is
    // shown.
    let ended = ops.into_iter().try_for_each(|op| {
        check::check(op, &device, args.cases, args.seed, shape, &mut findings)
            .map_err(|e| e.within(format!("check of {}, behind {} finished sorts of shapes", op.name, findings.len())))
    });
    let name = format!("{:?}", args.device).to_lowercase();
    let report = Report { device: name, findings };
    if args.json {
        output::json(&report)?
    } else {
        output::text(&render(&report))?
    }
    ended?;
    let failed: Vec<&Finding> = report.findings.iter().filter(|f| !f.pass).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let again = failed.iter().map(|f| {
        let [a, b, c] = f.worst.shape;
        format!(
            "rallrec check {} --device {} --cases 1 --seed {} --shape {a},{b},{c}",
            f.op, report.device, f.worst.seed
        )
    });
    Err(Error::failed("check", format!("{} of {} are wrong", failed.len(), report.findings.len()))
        .next(again.collect::<Vec<_>>().join("\n        ")))
}

fn render(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["op", "storage", "shapes", "values", "median", "99 %", "worst", "where", ""]);
    for f in &report.findings {
        let [a, b, c] = f.worst.shape;
        table.add_row([
            f.op.to_owned(),
            f.dtype.to_owned(),
            f.class.to_owned(),
            f.values.to_string(),
            format!("{:.1e}", f.median),
            format!("{:.1e}", f.p99),
            format!("{:.1e}", f.worst.error),
            format!("{a},{b},{c} seed {} value {}", f.worst.seed, f.worst.at),
            (if f.pass { "ok" } else { "WRONG" }).to_owned(),
        ]);
    }
    format!("errors in units of the tolerance, on {}\n\n{table}\n", report.device)
}
