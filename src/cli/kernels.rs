//! `rallrec kernels`: the CUDA kernels of this program.

use serde::Serialize;

use super::output;
use crate::device::{images, resources};
use crate::error::Result;
use crate::ops::registry::{self, Kernel, Operator};

/// List the CUDA kernels: what each serves, how it is launched, what it costs, which resources it
/// takes.
///
/// Registers and shared memory are the compiler's report for the architecture; `s` is the bytes of
/// a stored value.
#[derive(clap::Args)]
pub struct KernelsArgs {
    /// The report of this architecture: 80, 86, 89, 90a or 100.
    #[arg(long, default_value = "90a", value_name = "SM")]
    sm: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
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
    cost: &'static str,
    serves: &'static str,
}

fn rows(sm: &str) -> Vec<Row> {
    let reported = resources::all();
    let row = |op: &Operator, entry: &Kernel, kernel: String| {
        let found = reported.iter().find(|r| r.kernel == kernel && r.architecture == sm);
        Row {
            op: op.name,
            grid: entry.grid,
            block: entry.block,
            registers: found.map(|r| r.registers),
            static_shared: found.map(|r| r.shared),
            spilled: found.map(|r| r.spilled),
            cost: entry.cost,
            serves: entry.serves,
            kernel,
        }
    };
    let kernels = registry::ALL.iter().flat_map(|op| op.kernels.iter().map(move |kernel| (op, kernel)));
    kernels
        .flat_map(|(op, kernel)| kernel.names().map(move |name| (op, kernel, name)))
        .map(|(o, k, n)| row(o, k, n))
        .collect()
}

pub fn main(args: KernelsArgs) -> Result<()> {
    let rows = rows(&args.sm);
    if args.json {
        return output::json(&rows);
    }
    let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["op", "kernel", "blocks", "threads", "registers", "shared", "spilled", "cost", "serves"]);
    for row in &rows {
        table.add_row([
            row.op.to_owned(),
            row.kernel.clone(),
            row.grid.to_owned(),
            row.block.to_string(),
            number(row.registers),
            number(row.static_shared),
            number(row.spilled),
            row.cost.to_owned(),
            row.serves.to_owned(),
        ]);
    }
    output::text(&format!("{}\nresources for sm_{}\n\n{table}\n", images::compiled(), args.sm))
}
