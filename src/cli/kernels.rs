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
#[command(after_help = "Example: rallrec kernels attention --sm 80")]
pub struct KernelsArgs {
    /// Only the kernels of this operator, in more words; any name that a profile shows.
    #[arg(value_name = "OP")]
    op: Option<String>,
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
    occupancy: Option<f64>,
    cost: &'static str,
    serves: &'static str,
}

fn rows(sm: &str, only: Option<&Operator>) -> Vec<Row> {
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
            occupancy: found.and_then(|r| r.occupancy(entry.block)),
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

pub fn main(args: KernelsArgs) -> Result<()> {
    let only = args.op.as_deref().map(|name| registry::named("kernels", name)).transpose()?;
    let rows = rows(&args.sm, only);
    if args.json {
        return output::json(&rows);
    }
    if let Some(op) = only {
        return output::text(&ledger(op, &rows, &args.sm));
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
        out.push_str(&format!("  blocks: {}\n  cost: {}\n  serves: {}\n", row.grid, row.cost, row.serves));
    }
    out
}
