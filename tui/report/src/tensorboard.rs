//! The curves of a run as event files that TensorBoard reads: TFRecord frames with masked CRC-32C
//! around protocol buffers. Every point of the event stream is written, none is thinned.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use rallrec_events::tail::{Item, State, Tail};
use rallrec_events::{Event, Record, RunFolder};

/// `tensorflow.Event`, as far as it is written here.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// A checksum as TFRecord keeps it, so that a checksum of checksums stays one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// One frame: length, its checksum, data, their checksum.
fn frame(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked(data).to_le_bytes())
}

/// (tag, step, value) of everything that a record says as a number over steps.
fn scalars(record: &Record, first_ms: u64) -> Vec<(String, i64, f64)> {
    let at = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let second = at(record.t_ms.saturating_sub(first_ms) / 1000);
    match &record.event {
        Event::TrainStep { stage, step, loss, learning_rate, gradient_norm, rate, .. } => {
            let mut out = vec![
                (format!("{stage}/loss"), at(*step), *loss),
                (format!("{stage}/learning_rate"), at(*step), *learning_rate),
            ];
            out.extend(gradient_norm.map(|n| (format!("{stage}/gradient_norm"), at(*step), n)));
            out.extend(rate.map(|r| (format!("{stage}/units_per_second"), at(*step), r)));
            out
        }
        Event::Similarity { stage, epoch, positive, negative } => vec![
            (format!("{stage}/similarity_positive"), at(u64::from(*epoch)), *positive),
            (format!("{stage}/similarity_negative"), at(u64::from(*epoch)), *negative),
        ],
        Event::Memory { resident, .. } => vec![("system/resident_gib".into(), second, gib(*resident))],
        Event::System { cores, memory_used, gpus, .. } => {
            let mut out = vec![("system/memory_gib".into(), second, gib(*memory_used))];
            if !cores.is_empty() {
                let mean = f64::from(cores.iter().sum::<f32>()) / cores.len() as f64;
                out.push(("system/cpu_percent".into(), second, mean));
            }
            for (n, gpu) in gpus.iter().flatten().enumerate() {
                let mut add = |name: &str, value: Option<f64>| {
                    out.extend(value.map(|v| (format!("system/gpu{n}_{name}"), second, v)));
                };
                add("percent", gpu.utilisation);
                add("memory_gib", gpu.memory_used.map(gib));
                add("watts", gpu.power);
                add("celsius", gpu.temperature);
            }
            out
        }
        Event::ResultRow { row, metrics, table, .. } => {
            let table = table.as_deref().unwrap_or("Test rows");
            metrics.iter().map(|m| (format!("results/{table}/{row}/{}", m.0), 0, m.1)).collect()
        }
        _ => Vec::new(),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Metrics without an epoch stand at the stage's latest step.
#[derive(Default)]
struct Steps(std::collections::HashMap<String, u64>);

impl Steps {
    fn metric(&mut self, event: &Event) -> Option<(String, i64, f64)> {
        match event {
            Event::TrainStep { stage, step, .. } => {
                self.0.insert(stage.clone(), *step);
                None
            }
            Event::Metric { stage, name, split, value, epoch, .. } => {
                let step = epoch.map_or(self.0.get(stage).copied().unwrap_or(0), u64::from);
                Some((format!("{stage}/{split}/{name}"), i64::try_from(step).unwrap_or(i64::MAX), *value))
            }
            _ => None,
        }
    }
}

/// Writes `folder/events.out.tfevents...` from the events of a run, whole or not at all; the path
/// and the count of scalars. An earlier export of the same run is replaced.
///
/// # Errors
/// The run holds no events, or `folder` cannot be written.
pub fn export(run: &Path, folder: &Path) -> io::Result<(PathBuf, u64)> {
    let run = RunFolder::new(run);
    let mut tail = Tail::with_limit(&run.events(), u64::MAX);
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".rallrec.{}", std::process::id()));
    let mut first = None;
    let written = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        let (mut count, mut steps, mut failed) = (0u64, Steps::default(), None);
        loop {
            let polled = tail.poll(|item| {
                let Item::Record(record) = item else { return };
                let begin = *first.get_or_insert(record.t_ms);
                let mut all = scalars(&record, begin);
                all.extend(steps.metric(&record.event));
                if count == 0 {
                    let what = What::FileVersion("brain.Event:2".into());
                    let entry = Entry { wall_time: begin as f64 / 1e3, step: 0, what: Some(what) };
                    failed = failed.take().or(frame(&mut out, &entry.encode_to_vec()).err());
                    count += 1;
                }
                for (tag, step, value) in all.into_iter().filter(|s| s.2.is_finite()) {
                    let value = Value { tag: tag.replace(' ', "_"), simple_value: value as f32 };
                    let what = What::Summary(Summary { value: vec![value] });
                    let entry = Entry { wall_time: record.t_ms as f64 / 1e3, step, what: Some(what) };
                    failed = failed.take().or(frame(&mut out, &entry.encode_to_vec()).err());
                    count += 1;
                }
            });
            if let Some(error) = failed.take() {
                return Err(error);
            }
            if !polled.more {
                break;
            }
        }
        out.flush()?;
        if tail.state() != &State::Open || count == 0 {
            let what = format!("{} holds no events", run.events().display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(count - 1)
    })();
    let name = folder.join(format!("events.out.tfevents.{:010}.rallrec", first.unwrap_or(0) / 1000));
    let moved = written.and_then(|count| std::fs::rename(&temporary, &name).map(|()| count));
    if moved.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    moved.map(|count| (name, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_format() {
        let mut out = Vec::new();
        frame(&mut out, b"abc").unwrap();
        assert_eq!(out.len(), 8 + 4 + 3 + 4);
        assert_eq!(&out[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        // CRC-32C of "123456789", the check value of its definition.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let unmasked = u32::from_le_bytes(out[15..].try_into().unwrap()).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, crc32c::crc32c(b"abc"));
    }

    #[test]
    fn a_run_without_events_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("tb");
        assert!(export(&folder.path().join("absent"), &to).is_err());
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
    }
}
