//! Typed columns, of Parquet and of Arrow files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::{Decimal128Type, Float16Type, Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int64Array, PrimitiveArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rallrec::data::table::TableSettings as Table;
use rallrec::data::{DataSettings, Dataset, Kind};

use crate::common::*;

const ROWS: usize = 60;
const START: i64 = 1_500_000_000;

fn user(n: usize) -> usize {
    n % 6
}

fn item(n: usize) -> usize {
    n * n % 11
}

fn rating(n: usize) -> usize {
    1 + n % 5
}

fn column<T>(of: impl Fn(usize) -> T) -> Vec<T> {
    (0..ROWS).map(of).collect()
}

fn users() -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("u{}", user(n)))))
}

fn items() -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("i{}", item(n)))))
}

fn ratings() -> ArrayRef {
    Arc::new(Int64Array::from(column(|n| rating(n) as i64)))
}

fn times() -> ArrayRef {
    Arc::new(Int64Array::from(column(|n| START + n as i64)))
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, array.clone()))).expect("a batch")
}

fn parquet(path: &Path, batch: &RecordBatch, compression: Compression) {
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).expect("creates"), batch.schema(), Some(properties)).expect("writer");
    writer.write(batch).expect("writes");
    writer.close().expect("closes");
}

fn read(columns: &[(&str, ArrayRef)], change: impl Fn(&mut Table)) -> rallrec::Result<Dataset> {
    let dir = tempfile::tempdir().expect("folder");
    parquet(&dir.path().join("ratings.csv"), &batch(columns), Compression::SNAPPY);
    let mut settings = DataSettings::new(Kind::TABLE, dir.path());
    change(&mut settings.table);
    open(&settings)
}

fn plain() -> [(&'static str, ArrayRef); 4] {
    [("user", users()), ("item", items()), ("rating", ratings()), ("time", times())]
}

/// The rows with another column in place of one.
#[track_caller]
fn with(name: &str, array: ArrayRef) -> Dataset {
    let columns = plain().map(|(own, there)| (own, if own == name { array.clone() } else { there }));
    read(&columns, |_| {}).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_codec_and_arrow_files_give_the_same_rows() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("ratings.csv");
    let settings = DataSettings::new(Kind::TABLE, dir.path());
    let wanted = rows(&read(&plain(), |_| {}).expect("reads"));
    assert_eq!(wanted.len(), ROWS);
    let batch = batch(&plain());
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        parquet(&file, &batch, compression);
        assert_eq!(rows(&open(&settings).expect("opens")), wanted, "{compression:?}");
    }
    // Within gzip, and within a zip file.
    let bytes = std::fs::read(&file).expect("reads");
    std::fs::write(&file, pack(&bytes)).expect("writes");
    assert_eq!(rows(&open(&settings).expect("opens")), wanted);
    std::fs::remove_file(&file).expect("removes");
    zipped(&dir.path().join("all.zip"), &[("x/ratings.csv", &bytes)]);
    assert_eq!(rows(&open(&settings).expect("opens")), wanted);
    for compression in [None, Some(arrow_ipc::CompressionType::LZ4_FRAME), Some(arrow_ipc::CompressionType::ZSTD)] {
        let options = arrow_ipc::writer::IpcWriteOptions::default().try_with_compression(compression).expect("options");
        let mut writer = arrow_ipc::writer::FileWriter::try_new_with_options(
            File::create(&file).expect("creates"),
            &batch.schema(),
            options,
        )
        .expect("writer");
        writer.write(&batch).expect("writes");
        writer.finish().expect("finishes");
        assert_eq!(rows(&open(&settings).expect("opens")), wanted, "{compression:?}");
    }
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(File::create(&file).expect("creates"), &batch.schema())
        .expect("writer");
    writer.write(&batch).expect("writes");
    writer.finish().expect("finishes");
    assert_eq!(rows(&open(&settings).expect("opens")), wanted, "a stream");
}

#[test]
fn ids_of_every_type_are_written_as_text_would_have_them() {
    let ids = |dataset: &Dataset| dataset.users.iter().map(|u| u.raw.0.clone()).collect::<Vec<_>>();
    let numbers = ["0", "1", "2", "3", "4", "5"];
    let decimal = |scale: i8| {
        let unit = 10i128.pow(scale as u32);
        let array = Decimal128Array::from(column(|n| user(n) as i128 * unit));
        Arc::new(array.with_precision_and_scale(38, scale).expect("a scale")) as ArrayRef
    };
    assert_eq!(ids(&with("user", decimal(0))), numbers);
    assert_eq!(ids(&with("user", decimal(2))), numbers);
    assert_eq!(ids(&with("user", Arc::new(Float64Array::from(column(|n| user(n) as f64))))), numbers);
    let beyond = i64::MAX as u64 + 5;
    let found = ids(&with("user", Arc::new(UInt64Array::from(column(|n| beyond + user(n) as u64)))));
    assert_eq!(found[0], beyond.to_string());
    let uuid =
        |n: usize| [0xac, 0x08, 0x59, 0x6c, 0xc2, 0x3e, 0x5a, 0x6e, 0xa2, 0x8c, 0x0d, 0xce, 0x69, 0x39, 0x4d, n as u8];
    let bytes = FixedSizeBinaryArray::try_from_iter((0..ROWS).map(|n| uuid(user(n)))).expect("bytes");
    assert_eq!(ids(&with("user", Arc::new(bytes)))[3], "ac08596c-c23e-5a6e-a28c-0dce69394d03");
    let words: DictionaryArray<Int32Type> = (0..ROWS).map(|n| ["a", "b", "c", "d", "e", "f"][user(n)]).collect();
    assert_eq!(ids(&with("user", Arc::new(words))), ["a", "b", "c", "d", "e", "f"]);
    let view =
        StringViewArray::from_iter_values((0..ROWS).map(|n| format!("a long name that is not inlined {}", user(n))));
    assert_eq!(ids(&with("user", Arc::new(view))).len(), 6);
    // Nothing known of a user, as null and as NaN.
    for array in [
        Arc::new(Float64Array::from(column(|n| if n == 9 { f64::NAN } else { user(n) as f64 }))) as ArrayRef,
        Arc::new(Float64Array::from(column(|n| (n != 9).then_some(user(n) as f64)))),
    ] {
        let columns = plain().map(|(own, there)| (own, if own == "user" { array.clone() } else { there }));
        refuse(read(&columns, |_| {}), ": row 10", "the user id is empty");
    }
}

#[test]
fn ratings_of_every_type_are_numbers() {
    let wanted = read(&plain(), |_| {}).expect("reads");
    let halves: PrimitiveArray<Float16Type> = (0..ROWS).map(|n| Some(half::f16::from_f32(rating(n) as f32))).collect();
    assert_eq!(with("rating", Arc::new(halves)), wanted);
    let tenths: PrimitiveArray<Decimal128Type> = (0..ROWS).map(|n| Some(rating(n) as i128 * 10)).collect();
    let tenths = tenths.with_precision_and_scale(4, 1).expect("a scale");
    assert_eq!(with("rating", Arc::new(tenths)), wanted);
    let liked = BooleanArray::from(column(|n| rating(n) > 3));
    let columns =
        plain().map(|(own, there)| (own, if own == "rating" { Arc::new(liked.clone()) as ArrayRef } else { there }));
    let found = read(&columns, |t| t.scale = (0.0, 1.0)).expect("reads");
    assert!(found.interactions.iter().zip(&wanted.interactions).all(|(a, b)| (a.rating == 1.0) == (b.rating > 3.0)));
}

#[test]
fn times_need_no_format_and_a_format_that_contradicts_them_is_an_error() {
    let wanted = read(&plain(), |_| {}).expect("reads");
    let millis = Arc::new(TimestampMillisecondArray::from(column(|n| (START + n as i64) * 1000))) as ArrayRef;
    for array in [
        Arc::new(TimestampSecondArray::from(column(|n| START + n as i64)).with_timezone("Europe/Berlin")) as ArrayRef,
        millis.clone(),
        Arc::new(TimestampMicrosecondArray::from(column(|n| (START + n as i64) * 1_000_000)).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(column(|n| (START + n as i64) * 1_000_000_000))),
    ] {
        assert_eq!(with("time", array), wanted);
    }
    let days = with("time", Arc::new(Date32Array::from(column(|n| 17_361 + n as i32))));
    assert_eq!(days.interactions[0].time, START - START % 86_400);
    let columns = plain().map(|(own, there)| (own, if own == "time" { millis.clone() } else { there }));
    for format in ["milliseconds", "iso", "auto"] {
        let found = read(&columns, |t| t.time_format = format.parse().expect("a format")).expect(format);
        assert_eq!(found, wanted, "{format}");
    }
    for format in ["seconds", "microseconds", "%d.%m.%Y", "year"] {
        let error = read(&columns, |t| t.time_format = format.parse().expect("a format")).expect_err(format);
        assert!(error.what().contains("times in milliseconds") && error.next_step().contains("time_format"), "{error}");
    }
    // Within a second, by milliseconds.
    let close = Arc::new(TimestampMillisecondArray::from(column(|n| START * 1000 + n as i64)));
    let order = |d: &Dataset| d.interactions.iter().map(|r| (r.user, r.item)).collect::<Vec<_>>();
    assert_eq!(order(&with("time", close)), order(&wanted));
}

#[test]
fn nested_fields_have_names_with_dots_and_lists_are_genres() {
    let dir = tempfile::tempdir().expect("folder");
    let by = StructArray::from(vec![(Arc::new(Field::new("Id", DataType::Utf8, false)), users())]);
    let columns = [("by", Arc::new(by) as ArrayRef), ("item", items()), ("rating", ratings()), ("time", times())];
    parquet(&dir.path().join("ratings.parquet"), &batch(&columns), Compression::SNAPPY);
    let mut genres = ListBuilder::new(StringBuilder::new());
    let (mut ids, mut titles) = (Vec::new(), Vec::new());
    for n in 0..11 {
        genres.values().append_value("Drama");
        genres.values().append_value(format!("Genre \"{n}\", or so"));
        genres.append(n != 3);
        ids.push(format!("i{n}"));
        titles.push((n != 4).then(|| format!("Title {n}")));
    }
    let meta = StructArray::from(vec![(
        Arc::new(Field::new("Title", DataType::Utf8, true)),
        Arc::new(StringArray::from(titles)) as ArrayRef,
    )]);
    let about = [
        ("item", Arc::new(StringArray::from(ids)) as ArrayRef),
        ("meta", Arc::new(meta)),
        ("genres", Arc::new(genres.finish())),
    ];
    parquet(&dir.path().join("items.parquet"), &batch(&about), Compression::SNAPPY);
    let mut settings = DataSettings::new(Kind::TABLE, dir.path());
    settings.table = Table {
        ratings: "ratings.parquet".into(),
        user: "by.id".into(),
        items: "items.parquet".into(),
        title: "{{ meta.title }}".into(),
        genres: "genres".into(),
        ..Table::default()
    };
    let found = open(&settings).expect("opens");
    assert_eq!(found.users.len(), 6);
    for item in &found.items {
        let n = &item.raw.0[1..];
        assert_eq!(item.title, if n == "4" { String::new() } else { format!("Title {n}") });
        let wanted = ["Drama".to_owned(), format!("Genre \"{n}\", or so")];
        assert_eq!(item.genres, if n == "3" { &[][..] } else { &wanted[..] });
    }
}
