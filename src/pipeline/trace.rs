//! A file that timeline viewers open (Perfetto, chrome://tracing): stages, every operator call and
//! every kernel launch, each with its bytes, FLOP and share of the measured ceiling.
//!
//! The format is the Trace Event Format's array of events. Viewers do without the closing bracket,
//! so a file whose run was cut off can be opened too.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench::Ceilings;
use crate::error::{Error, Result};
use crate::tensor::profile::Place;
use crate::tensor::profile::trace::Span;

/// Calls that a file holds; at about 150 bytes each, and more than a viewer shows with ease.
const MOST: u64 = 2_000_000;

/// Process numbers of the viewer's groups.
const STAGES: u32 = 1;
const CPU: u32 = 2;
const DEVICE: u32 = 3;

/// An open trace.
pub struct TraceFile {
    path: PathBuf,
    file: BufWriter<File>,
    origin: Instant,
    threads: Vec<(u32, usize)>,
    left: u64,
}

impl TraceFile {
    /// Begins a file; what was there is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path, "create the trace", &e))?;
        let mut trace = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            origin: Instant::now(),
            threads: Vec::new(),
            left: MOST,
        };
        trace.file.write_all(b"[\n").map_err(|e| Error::io(path, "write the trace", &e))?;
        trace.meta("process_name", STAGES, 0, "stages")?;
        Ok(trace)
    }

    /// A stage that is through.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn stage(&mut self, name: &str, began: Instant, seconds: f64) -> Result<()> {
        self.event("stage", name, STAGES, 1, began, seconds, json!({}))
    }

    /// Calls of operators and kernels, those on the CPU with their share of `ceilings`. False when
    /// the file is full: the rest is left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn calls(&mut self, calls: &[(usize, Span)], ceilings: Option<Ceilings>) -> Result<bool> {
        for (thread, span) in calls {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let (category, group) = match span.place {
                Place::Cpu => ("operator", CPU),
                Place::Kernel { .. } => ("kernel", DEVICE),
            };
            let line = self.line(group, *thread, span.place.device())?;
            let mut args = json!({ "bytes": span.cost.bytes, "flops": span.cost.flops });
            if let Some(shape) = span.place.shape() {
                args["launch"] = shape.into();
            }
            // The ceilings are the CPU's.
            if let (Some(ceilings), Place::Cpu, true) = (ceilings, span.place, span.seconds > 0.0) {
                args["share of the ceiling"] = (ceilings.seconds(span.cost) / span.seconds).into();
            }
            self.event(category, span.name, group, line, span.began, span.seconds, args)?;
        }
        Ok(true)
    }

    /// Closes the array.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> Result<()> {
        // An array's last event has no comma behind it.
        let last = meta("process_sort_index", STAGES, 0, json!({ "sort_index": 0 }));
        let written = write!(self.file, "{last}\n]\n").and_then(|()| self.file.flush());
        written.map_err(|e| Error::io(&self.path, "write the trace", &e))
    }

    /// Number of a thread's line within its group; a new one is named.
    fn line(&mut self, group: u32, thread: usize, device: &str) -> Result<u32> {
        if let Some(at) = self.threads.iter().position(|known| *known == (group, thread)) {
            return Ok(at as u32 + 1);
        }
        if !self.threads.iter().any(|known| known.0 == group) {
            let name = if group == CPU { "operators on the CPU".to_owned() } else { format!("launches on {device}") };
            self.meta("process_name", group, 0, &name)?;
        }
        self.threads.push((group, thread));
        let line = self.threads.len() as u32;
        let nth = self.threads.iter().filter(|known| known.0 == group).count();
        self.meta("thread_name", group, line, &format!("thread {nth}"))?;
        Ok(line)
    }

    fn meta(&mut self, what: &str, group: u32, line: u32, name: &str) -> Result<()> {
        let event = meta(what, group, line, json!({ "name": name }));
        self.put(&event)
    }

    #[allow(clippy::too_many_arguments)]
    fn event(
        &mut self,
        category: &str,
        name: &str,
        group: u32,
        line: u32,
        began: Instant,
        seconds: f64,
        args: Value,
    ) -> Result<()> {
        let start = began.saturating_duration_since(self.origin).as_secs_f64();
        self.put(&json!({
            "name": name, "cat": category, "ph": "X", "pid": group, "tid": line,
            "ts": 1e6 * start, "dur": 1e6 * seconds, "args": args,
        }))
    }

    fn put(&mut self, event: &Value) -> Result<()> {
        let written = writeln!(self.file, "{event},");
        written.map_err(|e| Error::io(&self.path, "write the trace", &e))
    }
}

fn meta(what: &str, group: u32, line: u32, args: Value) -> Value {
    json!({ "name": what, "ph": "M", "pid": group, "tid": line, "args": args })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Cost;

    fn span(name: &'static str, place: Place) -> Span {
        Span { name, place, began: Instant::now(), seconds: 0.25, cost: Cost { bytes: 8.0, flops: 4.0 } }
    }

    #[test]
    fn a_viewer_can_read_it_whole_or_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut trace = TraceFile::create(&path).unwrap();
        trace.stage("graph", Instant::now(), 1.5).unwrap();
        let kernel = Place::Kernel { device: "host", grid: [2, 1, 1] };
        let calls = [(7, span("spmm", Place::Cpu)), (9, span("adam", Place::Cpu)), (7, span("spmm_rows", kernel))];
        assert!(trace.calls(&calls, None).unwrap());
        trace.file.flush().unwrap();
        let cut = std::fs::read_to_string(&path).unwrap();
        assert!(serde_json::from_str::<Value>(&format!("{}]", cut.trim_end().trim_end_matches(','))).is_ok());
        trace.finish().unwrap();
        let whole: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let timed: Vec<&Value> = whole.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(timed.len(), 4);
        assert_eq!((&timed[0]["name"], &timed[0]["dur"]), (&json!("graph"), &json!(1.5e6)));
        assert_ne!(timed[1]["tid"], timed[2]["tid"], "two threads, two lines");
        assert_eq!(timed[3]["args"]["launch"], "grid 2 x 1 x 1");
        let named = |group: &Value| whole.iter().any(|e| e["name"] == "process_name" && e["pid"] == *group);
        assert!(timed.iter().all(|e| named(&e["pid"])));
    }

    #[test]
    fn a_full_file_says_so_and_stays_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut trace = TraceFile::create(&path).unwrap();
        trace.left = 1;
        assert!(!trace.calls(&[(1, span("a", Place::Cpu)), (1, span("b", Place::Cpu))], None).unwrap());
        trace.finish().unwrap();
        let whole: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(whole.iter().filter(|e| e["ph"] == "X").count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = TraceFile::create(Path::new("/nowhere/trace.json")).err().unwrap().to_string();
        assert!(error.contains("/nowhere/trace.json"), "{error}");
    }
}
