//! `rallrec doctor`: what this machine has, and what to do about each gap.

use std::path::Path;

use serde::Serialize;

use super::output;
use crate::device::{driver, probe};
use crate::error::Result;

/// Show what rallrec finds on this machine and what to do about each gap.
///
/// Looks at CPU features, memory, free disk space, GPU and driver, the embedded kernels, and the
/// models that are already here.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    /// What to do; empty when all is well.
    next: String,
}

pub fn main(args: DoctorArgs) -> Result<()> {
    let findings = look();
    if args.json {
        return output::json(&findings);
    }
    let mut text = String::new();
    for finding in &findings {
        let mark = if finding.next.is_empty() { "ok " } else { "gap" };
        text.push_str(&format!("{mark}  {:<8}  {}\n", finding.what, finding.found));
        if !finding.next.is_empty() {
            text.push_str(&format!("               next: {}\n", finding.next));
        }
    }
    output::text(&text)
}

fn look() -> Vec<Finding> {
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let mut findings = vec![Finding {
        what: "program",
        found: format!("rallrec {} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH),
        next: String::new(),
    }];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let simd = probe::simd();
    findings.push(Finding {
        what: "cpu",
        found: format!("{cores} threads, {simd}"),
        next: if simd == "SSE2" {
            "the fast kernels need AVX2 or better; everything works, slowly".into()
        } else {
            String::new()
        },
    });
    let memory = sysinfo::System::new().map(|mut system| {
        system.refresh_memory();
        (system.total_memory(), system.available_memory())
    });
    if let Ok((total, free)) = memory {
        findings.push(Finding {
            what: "memory",
            found: format!("{:.1} GiB, {:.1} GiB free", gib(total), gib(free)),
            next: if gib(free) < 4.0 {
                "the demo needs 1 GiB and the quick recipe 4 GiB: close something".into()
            } else {
                String::new()
            },
        });
    }
    if let Some(free) = free_disk(Path::new(".")) {
        findings.push(Finding {
            what: "disk",
            found: format!("{:.1} GiB free here", gib(free)),
            next: if gib(free) < 2.0 {
                "a run of ML-1M writes up to 1 GiB: free some space or use --out".into()
            } else {
                String::new()
            },
        });
    }
    findings.push(match probe::gpus() {
        Ok(gpus) if gpus.is_empty() => Finding {
            what: "gpu",
            found: "driver present, no device visible".into(),
            next: "check CUDA_VISIBLE_DEVICES and nvidia-smi".into(),
        },
        Ok(gpus) => {
            let list: Vec<_> =
                gpus.iter().map(|g| format!("{} (sm {}, {:.0} GiB)", g.name, g.capability, gib(g.memory))).collect();
            Finding { what: "gpu", found: list.join("; "), next: String::new() }
        }
        Err(why) => Finding { what: "gpu", found: why, next: "nothing needs one: runs use the CPU".into() },
    });
    if let (Ok(version), gate) = (driver::speaks(), driver::gate()) {
        let (found, next) = match gate {
            Ok(()) => (format!("CUDA {}", driver::text(version)), String::new()),
            Err(error) => (error.what().to_owned(), error.next_step().to_owned()),
        };
        findings.push(Finding { what: "driver", found, next });
    }
    let none = crate::device::images::IMAGES.is_empty();
    findings.push(Finding {
        what: "kernels",
        found: crate::device::images::compiled(),
        next: if none {
            "`scripts/nvcc-venv` fetches a CUDA compiler (five pip packages); or install a CUDA toolkit; then build again"
                .into()
        } else {
            String::new()
        },
    });
    let models = crate::store::hub::installed();
    findings.push(if models.is_empty() {
        Finding {
            what: "models",
            found: "none in the model store".into(),
            next: "`rallrec model pull smollm2-135m` (98 MB); the demo needs none".into(),
        }
    } else {
        Finding { what: "models", found: models.join(", "), next: String::new() }
    });
    findings
}

/// Free bytes on the disk that holds `path`.
pub fn free_disk(path: &Path) -> Option<u64> {
    let path = path.canonicalize().ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    disks
        .iter()
        .filter(|d| path.starts_with(d.mount_point()))
        .max_by_key(|d| d.mount_point().as_os_str().len())
        .map(sysinfo::Disk::available_space)
}
