//! `rallrec kernels`: the CUDA kernels of this program.

use std::path::{Path, PathBuf};

use serde::Serialize;

mod show;

use super::output;
use crate::device::images;
use crate::device::resources::{self, Resources};
use crate::durable;
use crate::error::{Error, Result};
use crate::kernels::ledger::{self, Entry};
use crate::kernels::sources;
use crate::ops::registry::{self, Kernel, Operator};

/// List the CUDA kernels: what each serves, how it is launched, what it costs, which resources it
/// takes.
///
/// Registers and shared memory are the compiler's report for the architecture; `s` is the bytes of
/// a stored value.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  rallrec kernels attention --sm 80\n  rallrec kernels show spmm_layer_f32_16\n  rallrec kernels write my-kernels",
    args_conflicts_with_subcommands = true
)]
pub struct KernelsArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only the kernels of this operator, in more words; any name that a profile shows.
    #[arg(value_name = "OP")]
    op: Option<String>,
    /// The report of this architecture: 80, 86, 89, 90a or 100.
    #[arg(long, default_value = "90a", value_name = "SM")]
    sm: String,
    /// A JSON file of `rallrec bench --device cuda --write`: what was measured beside what is
    /// expected.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write the sources of the kernels to a new folder, for `rallrec check --kernels`.
    Write {
        /// A folder that is not there, or empty.
        folder: PathBuf,
    },
    /// One kernel: its launches, what its machine code lets expect of a GPU, its hot loop.
    Show(show::ShowArgs),
    /// Count the hot loops of compiled kernels (`kernels/MODEL.tsv`), and hold them to the table.
    Model {
        /// The folder out/cuda of a build, with its .cubin files.
        #[arg(long, value_name = "FOLDER")]
        from: PathBuf,
        /// Write the table to this file instead of comparing with the one in this program.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Row {
    op: &'static str,
    kernel: String,
    grid: &'static str,
    block: u32,
    registers: Option<u32>,
    static_shared: Option<u32>,
    spilled: Option<u32>,
    occupancy: Option<f64>,
    /// By the model, on each GPU of the architecture.
    expected: Vec<Expectation>,
    /// Per cent of the ceiling in a report of bench.
    measured: Option<f64>,
    cost: &'static str,
    serves: &'static str,
}

/// What the model expects, short.
#[derive(Serialize)]
struct Expectation {
    gpu: &'static str,
    /// Per cent of the floor.
    percent: Option<f64>,
    limit: &'static str,
}

fn expectations(entry: Option<&Entry>, reported: &[Resources]) -> Vec<Expectation> {
    let all = entry.into_iter().flat_map(|entry| ledger::expected(entry, reported));
    all.map(|e| Expectation { gpu: e.gpu, percent: e.share.map(|s| 100.0 * s), limit: e.limit.name() }).collect()
}

fn rows(sm: &str, only: Option<&Operator>, measured: &[(String, f64)]) -> Vec<Row> {
    let (reported, counted) = (resources::all(), ledger::committed());
    let row = |op: &Operator, entry: &Kernel, kernel: String| {
        let found = reported.iter().find(|r| r.kernel == kernel && r.architecture == sm);
        Row {
            op: op.name,
            grid: entry.grid,
            block: entry.block,
            registers: found.map(|r| r.registers),
            static_shared: found.map(|r| r.shared),
            spilled: found.map(|r| r.spilled),
            occupancy: found.and_then(|r| r.occupancy(entry.block)),
            expected: expectations(counted.iter().find(|e| e.kernel == kernel && e.architecture == sm), &reported),
            measured: measured.iter().find(|(name, _)| *name == kernel).map(|(_, percent)| *percent),
            cost: entry.cost,
            serves: entry.serves,
            kernel,
        }
    };
    let operators = registry::ALL.iter().filter(|op| only.is_none_or(|only| only.name == op.name));
    let kernels = operators.flat_map(|op| op.kernels.iter().map(move |kernel| (op, kernel)));
    kernels
        .flat_map(|(op, kernel)| kernel.names().map(move |name| (op, kernel, name)))
        .map(|(o, k, n)| row(o, k, n))
        .collect()
}

fn write(folder: &Path) -> Result<()> {
    let files = sources::write(folder)?;
    let folder = folder.display();
    output::text(&format!(
        "{folder}: {files} files. Edit a kernel, then:\n  rallrec check OP --kernels {folder} --watch\n"
    ))
}

/// Counts the hot loops of a folder's machine code; writes the table, or fails where a loop is
/// worse than it says.
fn model(from: &Path, to: Option<&Path>) -> Result<()> {
    let now = ledger::read(from)?;
    if let Some(path) = to {
        durable::write(path, ledger::text(&now).as_bytes())?;
        return output::text(&format!("{} kernels in {}\n", now.len(), path.display()));
    }
    let worse = ledger::worse(&ledger::committed(), &now);
    if worse.is_empty() {
        return output::text(&format!("{} hot loops cost no more than kernels/MODEL.tsv says\n", now.len()));
    }
    let next = "if that is meant: rallrec kernels model --from FOLDER --write kernels/MODEL.tsv";
    Err(Error::failed("kernels", worse.join("\n")).next(next))
}

/// Per cent of the ceiling that each kernel reached in a report of `rallrec bench`: the best of its
/// launches.
fn measured(path: &Path) -> Result<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", &e))?;
    let report: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Error::input(path.display(), e).next("`rallrec bench --device cuda --write FILE` writes one"))?;
    let cases = report["cases"].as_array().into_iter().flatten();
    let launches = cases.flat_map(|case| case["launches"].as_array().into_iter().flatten());
    let mut found: Vec<(String, f64)> = Vec::new();
    for launch in launches {
        let (Some(kernel), Some(percent)) = (launch["kernel"].as_str(), launch["percent"].as_f64()) else { continue };
        match found.iter_mut().find(|(known, _)| known == kernel) {
            Some((_, best)) => *best = best.max(percent),
            None => found.push((kernel.to_owned(), percent)),
        }
    }
    if found.is_empty() {
        return Err(Error::input(path.display(), "there is no launch of a kernel in it")
            .next("`rallrec bench --device cuda --write FILE` writes one"));
    }
    Ok(found)
}

pub fn main(args: KernelsArgs) -> Result<()> {
    match &args.command {
        Some(Command::Write { folder }) => return write(folder),
        Some(Command::Show(show)) => return show::main(show),
        Some(Command::Model { from, write }) => return model(from, write.as_deref()),
        None => {}
    }
    let only = args.op.as_deref().map(|name| registry::named("kernels", name)).transpose()?;
    let measured = args.measured.as_deref().map(measured).transpose()?.unwrap_or_default();
    let rows = rows(&args.sm, only, &measured);
    if args.json {
        return output::json(&rows);
    }
    if let Some(op) = only {
        return output::text(&ledger(op, &rows, &args.sm));
    }
    let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "op",
        "kernel",
        "blocks",
        "threads",
        "registers",
        "shared",
        "spilled",
        "expected",
        "measured",
        "cost",
        "serves",
    ]);
    for row in &rows {
        table.add_row([
            row.op.to_owned(),
            row.kernel.clone(),
            row.grid.to_owned(),
            row.block.to_string(),
            number(row.registers),
            number(row.static_shared),
            number(row.spilled),
            row.expected.last().map_or("-".to_owned(), expected),
            row.measured.map_or("-".to_owned(), |percent| format!("{percent:.0} %")),
            row.cost.to_owned(),
            row.serves.to_owned(),
        ]);
    }
    let about = "expected: share of the floor by the model (docs/kernels.md), and what binds; no GPU was asked";
    output::text(&format!("{}\nresources for sm_{}\n{about}\n\n{table}\n", images::compiled(), args.sm))
}

fn expected(e: &Expectation) -> String {
    e.percent.map_or_else(|| e.limit.to_owned(), |percent| format!("{percent:.0} % {}", e.limit))
}

/// The kernels of one operator, a few lines each.
fn ledger(op: &Operator, rows: &[Row], sm: &str) -> String {
    if rows.is_empty() {
        return format!("{} has no kernel of its own\n", op.name);
    }
    let mut out = format!(
        "kernels of {} for sm_{sm}, as the compiler reports them\n\
         occupancy: as far as registers, blocks and static shared memory allow\n",
        op.name
    );
    for row in rows {
        let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
        let occupancy = row.occupancy.map_or("?".into(), |x| format!("{:.0} %", x * 100.0));
        out.push_str(&format!(
            "\n{}\n  {} threads, {} registers, {} bytes of static shared memory, {} bytes spilled, occupancy {occupancy}\n",
            row.kernel,
            row.block,
            number(row.registers),
            number(row.static_shared),
            number(row.spilled),
        ));
        for e in &row.expected {
            out.push_str(&format!("  expected of an {}: {} (the model's, not measured)\n", e.gpu, expected(e)));
        }
        if let Some(percent) = row.measured {
            out.push_str(&format!("  measured: {percent:.0} % of the ceiling\n"));
        }
        out.push_str(&format!("  blocks: {}\n  cost: {}\n  serves: {}\n", row.grid, row.cost, row.serves));
    }
    out
}
