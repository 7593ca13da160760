//! One line of the stream.

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Version of the record layout. Raised when a field changes its meaning; adding an event or an
/// optional field does not raise it.
pub const VERSION: u32 = 1;

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
    /// The line is torn, or no JSON, or a known event without its fields; the caller decides whether it was the last.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// As [`Record::parse`], from bytes that need not be UTF-8.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub fn parse_bytes(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
