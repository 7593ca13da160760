//! Writes Parquet files, for tests.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A file with columns of every sort that a log of ratings has.
pub fn parquet(path: &Path, rows: usize, group: usize) {
    let schema = "message schema { REQUIRED BYTE_ARRAY user (UTF8); REQUIRED INT64 item; OPTIONAL DOUBLE rating; \
                  REQUIRED INT64 time (TIMESTAMP(MICROS,true)); REPEATED INT64 tags; }";
    let schema = Arc::new(parse_message_type(schema).expect("schema"));
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).expect("creates"), schema, Arc::new(properties)).expect("writer");
    for start in (0..rows).step_by(group) {
        let of = start..(start + group).min(rows);
        let mut part = writer.next_row_group().expect("group");
        let mut column = 0;
        while let Some(mut next) = part.next_column().expect("column") {
            match column {
                0 => {
                    let values: Vec<ByteArray> = of.clone().map(|n| ByteArray::from(&*format!("u{}", n % 7))).collect();
                    next.typed::<ByteArrayType>().write_batch(&values, None, None).expect("writes");
                }
                1 => {
                    let values: Vec<i64> = of.clone().map(|n| (n % 11) as i64).collect();
                    next.typed::<Int64Type>().write_batch(&values, None, None).expect("writes");
                }
                2 => {
                    let there: Vec<i16> = of.clone().map(|n| i16::from(n != 5)).collect();
                    let values: Vec<f64> = of.clone().filter(|&n| n != 5).map(|n| 1.0 + (n % 9) as f64 / 2.0).collect();
                    next.typed::<DoubleType>().write_batch(&values, Some(&there), None).expect("writes");
                }
                3 => {
                    let values: Vec<i64> = of.clone().map(|n| (n as i64 + 1_000_000) * 1_000_000).collect();
                    next.typed::<Int64Type>().write_batch(&values, None, None).expect("writes");
                }
                _ => {
                    let none = vec![0; of.len()];
                    next.typed::<Int64Type>().write_batch(&[], Some(&none), Some(&none)).expect("writes");
                }
            }
            next.close().expect("closes");
            column += 1;
        }
        part.close().expect("closes");
    }
    writer.close().expect("closes");
}
