//! `rallrec check`: is the arithmetic right on this machine?

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::edited::{self, Edited};
use super::{output, rerun};
use crate::check::{self, Finding};
use crate::device::{Device, KernelDevice, Kind};
use crate::durable;
use crate::error::{Error, Result};
use crate::kernels::compile;
use crate::ops::registry::{self, Check, Operator, Shape};

/// Compare operators with their f64 definition on random cases.
///
/// Errors are in units of the stated tolerance: up to 1 is right. A case that fails is made smaller
/// and printed with the command that runs it again. Exit code 1 if any fails.
///
/// With --kernels, the kernels of a folder are compiled and checked, and the program's own stand
/// beside them. Only what differs from the program is compiled, and what was compiled once is kept.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    rallrec check topk infonce --device host --cases 20 --seed 7\n  \
    rallrec check rmsnorm --kernels kernels --watch")]
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
    #[arg(long, value_delimiter = ',', value_name = "A,B,C")]
    shape: Option<Vec<usize>>,
    /// A folder of .cu files, or one such file, whose kernels are taken before the program's:
    /// compiled by g++ for --device host, by nvcc for a GPU. `rallrec kernels write` makes such a
    /// folder.
    #[arg(long, value_name = "FOLDER")]
    kernels: Option<PathBuf>,
    /// Check again whenever a file of --kernels is saved, until Ctrl-C.
    #[arg(long, requires = "kernels")]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the operators that have a check on --device, a line each, and check nothing.
    #[arg(long)]
    list: bool,
}

impl CheckArgs {
    /// Whether the command goes on until it is stopped.
    pub fn watches(&self) -> bool {
        self.watch
    }
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

/// The operators that some of the checks belong to.
fn operators(checks: &[&Check]) -> Vec<&'static Operator> {
    registry::ALL.iter().copied().filter(|o| o.checks.iter().any(|c| has(checks, c))).collect()
}

#[derive(Serialize)]
struct Report {
    device: String,
    findings: Vec<Finding>,
    /// What the program's own kernels do in the same cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    built_in: Option<Vec<Finding>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<Edited>,
}

/// What is asked of each operator.
struct Cases {
    ops: Vec<&'static Check>,
    count: usize,
    seed: u64,
    shape: Option<Shape>,
}

impl Cases {
    /// Behind an error of the device nothing can be asked of it any more; what was found before is
    /// returned beside it.
    fn run(&self, device: &Device) -> (Vec<Finding>, Result<()>) {
        let mut findings = Vec::new();
        let ended = self.ops.iter().try_for_each(|op| {
            check::check(op, device, self.count, self.seed, self.shape, &mut findings).map_err(|e| {
                e.within(format!("check of {}, behind {} finished sorts of shapes", op.name, findings.len()))
            })
        });
        (findings, ended)
    }

    /// As [`Self::run`] of the program's own kernels on the host build, which give the same
    /// findings every time: they are kept beside compiled kernels.
    fn kept(&self, device: &Device) -> Result<Vec<Finding>> {
        let program = std::env::current_exe().and_then(|path| Ok((path.metadata()?, path)));
        let (about, program) = program.map_err(|e| Error::failed("check", e))?;
        let names: Vec<&str> = self.ops.iter().map(|op| op.name).collect();
        let rounding = std::env::var("RALLREC_MMA").unwrap_or_default();
        let of = format!(
            "{program:?} {:?} {} {names:?} {} {} {:?} {rounding}",
            about.modified().ok(),
            about.len(),
            self.count,
            self.seed,
            self.shape
        );
        let path = compile::cache()?.join(format!("check-{}.json", &blake3::hash(of.as_bytes()).to_hex()[..24]));
        let json: Option<Value> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let read = json.as_ref().and_then(Value::as_array).map(|all| all.iter().filter_map(Finding::read).collect());
        if let Some(known) = read.filter(|known: &Vec<Finding>| !known.is_empty()) {
            return Ok(known);
        }
        let (findings, _) = self.run(device);
        let text = serde_json::to_vec(&findings).map_err(|e| Error::failed("check", e))?;
        durable::write(&path, &text)?;
        Ok(findings)
    }
}

pub fn main(args: CheckArgs) -> Result<()> {
    if args.cases == 0 {
        return Err(Error::usage("--cases", "0 cases check nothing").next("use e.g. 8"));
    }
    let shape: Option<Shape> = match args.shape.as_deref().map(Shape::try_from) {
        None => None,
        Some(Ok(shape)) => Some(shape),
        Some(Err(_)) => return Err(Error::usage("--shape", "is three sizes").next("write e.g. --shape 4,3,7")),
    };
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
    let kind = match (args.device, &args.kernels) {
        (On::Cpu, Some(_)) => {
            return Err(Error::usage("--kernels", "the CPU backend has no kernels").next("use --device host or cuda"));
        }
        (On::Cpu, None) => None,
        (On::Host, _) => Some(Kind::Host),
        (On::Cuda, _) => Some(Kind::Cuda),
    };
    if let (true, Some(folder)) = (args.watch, &args.kernels) {
        return rerun::on_save(folder);
    }
    let cases = Cases { ops, count: args.cases, seed: args.seed, shape };
    let built_in = || match kind {
        None => Ok(Device::Cpu),
        Some(Kind::Host) => Ok(Device::Kernels(KernelDevice::host(args.seed))),
        Some(Kind::Cuda) => KernelDevice::cuda(0).map(Device::Kernels),
    };
    let name = format!("{:?}", args.device).to_lowercase();
    let (report, ended) = match (&args.kernels, kind) {
        (Some(folder), Some(kind)) => {
            let (device, kernels) = edited::device(folder, kind, &operators(&cases.ops), args.seed)?;
            let (device, own) = (Device::Kernels(device), built_in()?);
            // The program's own first: an edited kernel may leave a GPU that answers nothing.
            let beside = match kind {
                Kind::Host => cases.kept(&own)?,
                Kind::Cuda => cases.run(&own).0,
            };
            let (findings, ended) = cases.run(&device);
            (Report { device: name, findings, built_in: Some(beside), kernels: Some(kernels) }, ended)
        }
        _ => {
            let (findings, ended) = cases.run(&built_in()?);
            (Report { device: name, findings, built_in: None, kernels: None }, ended)
        }
    };
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
    let from = args.kernels.as_ref().map_or(String::new(), |folder| format!(" --kernels {}", folder.display()));
    let again = failed.iter().map(|f| {
        let [a, b, c] = f.worst.shape;
        format!(
            "rallrec check {} --device {}{from} --cases 1 --seed {} --shape {a},{b},{c}",
            f.op, report.device, f.worst.seed
        )
    });
    Err(Error::failed("check", format!("{} of {} are wrong", failed.len(), report.findings.len()))
        .next(again.collect::<Vec<_>>().join("\n        ")))
}

/// An error of the edited kernel, and that of the program's own behind it.
fn pair(edited: f64, own: Option<f64>) -> String {
    own.map_or_else(|| format!("{edited:.1e}"), |own| format!("{edited:.1e} | {own:.1e}"))
}

fn render(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["op", "storage", "shapes", "values", "median", "99 %", "worst", "where", ""]);
    let key = |f: &Finding| (f.op, f.dtype, f.class);
    for f in &report.findings {
        let own = report.built_in.as_ref().and_then(|all| all.iter().find(|own| key(own) == key(f)));
        let [a, b, c] = f.worst.shape;
        table.add_row([
            f.op.to_owned(),
            f.dtype.to_owned(),
            f.class.to_owned(),
            f.values.to_string(),
            pair(f.median, own.map(|o| o.median)),
            pair(f.p99, own.map(|o| o.p99)),
            pair(f.worst.error, own.map(|o| o.worst.error)),
            format!("{a},{b},{c} seed {} value {}", f.worst.seed, f.worst.at),
            (if f.pass { "ok" } else { "WRONG" }).to_owned(),
        ]);
    }
    let beside = if report.built_in.is_some() { "; edited | built in" } else { "" };
    let kernels = report.kernels.as_ref().map_or(String::new(), Edited::text);
    format!("{kernels}errors in units of the tolerance, on {}{beside}\n\n{table}\n", report.device)
}
