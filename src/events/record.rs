//! One line of the stream.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Event;
use crate::view::bounded::cut;

/// Version of the record layout. Raised when a field changes its meaning; adding an event or an
/// optional field does not raise it.
pub const VERSION: u32 = 1;
/// Longest line, bytes: [`Record::to_line`] writes none that is longer, and a reader skips one that
/// is.
pub const LONGEST: usize = 1 << 20;
/// Bytes that are left of each text in a record that would be too long: the first that make it fit.
const CUTS: [usize; 3] = [4096, 512, 64];

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Layout version, see [`VERSION`].
    pub v: u32,
    /// Milliseconds since the Unix epoch.
    pub t_ms: u64,
    /// The event, its fields beside `v` and `t_ms`.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// The line is torn, or no JSON, or a known event without its fields; the caller decides
    /// whether it was the last.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// The line that stands for this record, with its end. Texts come from users' files and have no
    /// bound of their own; where the line would be beyond [`LONGEST`] they are cut, and where that
    /// does not help a message says so.
    ///
    /// # Errors
    /// None of the events that there are; a new one that has no JSON.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let mut line = serde_json::to_string(self)?;
        for most in CUTS {
            if line.len() < LONGEST {
                break;
            }
            let mut value = serde_json::to_value(self)?;
            shorten(&mut value, most);
            line = serde_json::to_string(&value)?;
        }
        if line.len() >= LONGEST {
            let text = format!("an event of {} bytes was too long to be written", line.len());
            line = serde_json::to_string(&Self { event: Event::Log { level: "warn".into(), text }, ..*self })?;
        }
        line.push('\n');
        Ok(line)
    }

    /// As [`Record::parse`], from bytes that need not be UTF-8.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub fn parse_bytes(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// Cuts every text in `value` after `most` bytes.
fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) if text.len() > most => *text = cut(text, most),
        Value::Array(list) => list.iter_mut().for_each(|v| shorten(v, most)),
        Value::Object(fields) => fields.values_mut().for_each(|v| shorten(v, most)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::{HistoryItem, ItemName};

    #[test]
    fn records_survive_a_round_trip() {
        let record = Record {
            v: VERSION,
            t_ms: 7,
            event: Event::StageProgress { stage: "graph".into(), done: 1, total: 2, unit: "edges".into() },
        };
        let line = serde_json::to_string(&record).expect("serialises");
        assert!(!line.contains('\n'));
        assert_eq!(Record::parse(&line).expect("parses"), record);
    }

    #[test]
    fn an_event_of_a_newer_version_is_kept_as_unknown() {
        let record = Record::parse(r#"{"v":9,"t_ms":1,"kind":"from_the_future","x":3}"#).expect("parses");
        assert_eq!(record.event, Event::Unknown);
    }

    #[test]
    fn a_torn_line_is_an_error() {
        assert!(Record::parse(r#"{"v":1,"t_ms":1,"kind":"sta"#).is_err());
    }

    #[test]
    fn lines_written_before_a_field_was_added_are_read() {
        let line =
            r#"{"v":1,"t_ms":1,"kind":"result_row","row":"tuned","split":"test","metrics":[["auc",0.5,0.4,0.6]]}"#;
        let Event::ResultRow { row, table, n, against, .. } = Record::parse(line).expect("parses").event else {
            panic!("another event");
        };
        assert_eq!((row.as_str(), table, n, against.len()), ("tuned", None, None, 0));
    }

    #[test]
    fn a_number_that_is_none_is_read_as_such() {
        // JSON has no NaN: the writer says null.
        let event = Event::Metric {
            stage: "tune".into(),
            name: "auc".into(),
            split: "valid".into(),
            value: f64::NAN,
            epoch: None,
            best: false,
        };
        let line = serde_json::to_string(&Record { v: VERSION, t_ms: 1, event }).expect("serialises");
        let Event::Metric { value, .. } = Record::parse(&line).expect("parses").event else { panic!("another event") };
        assert!(value.is_nan());
    }

    fn example(title: &str, items: usize) -> Record {
        let item = ItemName { id: "7".into(), title: title.into(), genres: vec!["Drama".into()] };
        let history = vec![HistoryItem { item: item.clone(), rating: 4.0, ..HistoryItem::default() }; items];
        let event = Event::RetrievalExample { row: 3, target: item, label: None, embedding: "mix3".into(), history };
        Record { v: VERSION, t_ms: 1, event }
    }

    #[test]
    fn texts_without_bound_are_cut_so_that_the_line_stays_readable() {
        // A character of three bytes, so that cuts fall inside of it; a control character grows
        // sixfold in JSON.
        for (title, items) in [("\u{20ac}uro ".repeat(12_000), 40), ("\u{1}".repeat(9_000), 150)] {
            let line = example(&title, items).to_line().expect("serialises");
            assert!(line.len() <= LONGEST && line.ends_with("}\n"), "{} bytes", line.len());
            let Event::RetrievalExample { row: 3, history, target, .. } =
                Record::parse(line.trim_end()).expect("parses").event
            else {
                panic!("another event");
            };
            assert_eq!(history.len(), items);
            assert!(title.starts_with(&target.title) && target.title.len() > 60, "{} bytes", target.title.len());
        }
        let short = example("Alien", 2);
        assert_eq!(short.to_line().expect("serialises"), serde_json::to_string(&short).unwrap() + "\n");
    }

    #[test]
    fn a_record_that_no_cut_makes_fit_is_said_to_be_missing() {
        let line = example("x", 30_000).to_line().expect("serialises");
        let Event::Log { level, text } = Record::parse(&line).expect("parses").event else { panic!("another event") };
        assert_eq!(level, "warn");
        assert!(text.contains("too long"), "{text}");
    }
}
