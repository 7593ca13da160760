//! How long a run folder takes to open: `open --make FILE LINES` writes a file like a long run's,
//! `open FOLDER` opens the run and says what it took.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use rallrec_events::{Event, Follow, Record, VERSION};

fn record(n: u64, lines: u64) -> Event {
    let stage = || "tune".to_string();
    match n {
        0 => Event::RunStarted { recipe: "long".into(), device: "cpu".into(), program: "0".into(), resumed: false },
        n if n.is_multiple_of(10_000) => Event::Metric {
            stage: stage(),
            name: "auc".into(),
            split: "valid".into(),
            value: n as f64 / lines as f64,
            epoch: Some((n / 10_000) as u32),
            best: true,
        },
        n if n % 10 < 4 => Event::TrainStep {
            stage: stage(),
            epoch: 1,
            step: n,
            steps: lines,
            loss: 1.0 / (1.0 + n as f64).sqrt(),
            learning_rate: 5e-4,
            gradient_norm: Some(0.123_456_789),
            rate: Some(1234.5678),
        },
        n if n % 10 < 6 => Event::StageProgress { stage: stage(), done: n, total: lines, unit: "steps".into() },
        n if n % 10 < 8 => Event::ReasoningSample {
            row: n / 80,
            sample: (n % 16) as u32,
            p: (n % 97) as f64 / 97.0,
            answer: Some(n % 3 == 0),
            tokens: (n % 700) as u32,
            finished: true,
            text: "The user gave five stars to films of this kind, so the answer is likely yes. ".repeat(2),
            label: Some(n % 2 == 0),
            hint: Some(0.7),
            set: Some("test".into()),
            yes_no_mass: Some(0.98),
        },
        n => Event::SampleScored {
            stage: "predict".into(),
            model: "tuned/recipe".into(),
            row: n,
            p: (n % 89) as f64 / 89.0,
            yes_no_mass: 0.99,
            label: Some(n % 2 == 0),
        },
    }
}

/// Peak resident memory of this process in MiB, where the system says it.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--make", file, lines] => {
            let lines: u64 = lines.parse().map_err(std::io::Error::other)?;
            let mut out = BufWriter::new(std::fs::File::create(file)?);
            for n in 0..lines {
                let record = Record { v: VERSION, t_ms: 1_700_000_000_000 + 100 * n, event: record(n, lines) };
                serde_json::to_writer(&mut out, &record)?;
                out.write_all(b"\n")?;
            }
            out.flush()
        }
        [folder] => {
            let began = Instant::now();
            let mut follow = Follow::new(Path::new(folder));
            follow.poll();
            let first = began.elapsed().as_secs_f64();
            follow.catch_up();
            let counts = follow.tail.counts();
            println!(
                "{} lines, {:.0} MB: first view after {first:.2} s, all after {:.2} s; {} records read; view {:.1} MiB, process at most {:.0} MiB",
                counts.lines,
                counts.bytes as f64 / 1e6,
                began.elapsed().as_secs_f64(),
                counts.records,
                follow.view.footprint() as f64 / 1048576.0,
                peak().unwrap_or(f64::NAN),
            );
            if let Some(sampled) = &follow.view.sampled {
                for (kind, all, read) in &sampled.kinds {
                    println!("  {kind}: {read} of {all}");
                }
            }
            Ok(())
        }
        _ => {
            eprintln!("usage: open --make FILE LINES | open FOLDER");
            std::process::exit(2)
        }
    }
}
