//! `rallrec report`: a run as one HTML file, or as event files for TensorBoard.

use std::path::PathBuf;

use super::output;
use crate::durable;
use crate::error::{Error, Result};

/// Make the report of a run: one HTML file with its tables and pictures.
///
/// The file needs nothing beside it and no network: pictures are inside as SVG. It follows the
/// reader's light or dark setting and prints well. A run that is still at work is reported as far
/// as it has come.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  rallrec report runs/demo\n  rallrec report runs/ml-1m -o ml-1m.html\n  \
    rallrec report runs/demo --tensorboard runs/demo/tensorboard")]
pub struct ReportArgs {
    /// The run folder.
    run: PathBuf,
    /// The file to write; `-` is standard output (default: report.html in the run folder).
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write TensorBoard event files into this folder instead.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    tensorboard: Option<PathBuf>,
}

pub fn main(args: ReportArgs) -> Result<()> {
    let hint = "give the folder that `rallrec run` wrote into, e.g. runs/demo";
    let unread = |e: std::io::Error| {
        let what = e.to_string();
        match e.kind() {
            std::io::ErrorKind::NotFound => Error::input(args.run.display(), what).next(hint),
            _ => Error::failed(args.run.display(), what),
        }
    };
    if let Some(folder) = &args.tensorboard {
        if !args.run.is_dir() {
            return Err(Error::input(args.run.display(), "is not a folder").next(hint));
        }
        let (file, scalars) = rallrec_report::tensorboard::export(&args.run, folder).map_err(unread)?;
        return output::text(&format!(
            "{scalars} values written to {}\nlook at them: tensorboard --logdir {}\n",
            file.display(),
            folder.display()
        ));
    }
    let page = rallrec_report::html(&args.run).map_err(unread)?;
    let file = args.out.unwrap_or_else(|| args.run.join("report.html"));
    if file.as_os_str() == "-" {
        return output::text(&page);
    }
    durable::write(&file, page.as_bytes())?;
    output::text(&format!("{}\n", file.display()))
}
