//! Parquet files.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::file::Place;
use super::{Column, Kind, Value, Writer};
use crate::durable::Pending;
use crate::error::{Error, Result};

/// Rows that are handed over at a time, and rows of a group: what is in memory.
const BATCH: usize = 8192;
const GROUP: usize = 1 << 18;

/// A file that is being written.
pub struct Parquet {
    place: Place,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
    writer: ArrowWriter<Pending>,
}

enum Builder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    Boolean(BooleanBuilder),
}

impl Builder {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Integer => Self::Integer(Int64Builder::new()),
            Kind::Real => Self::Real(Float64Builder::new()),
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
        }
    }

    /// A value of another kind is missing; nobody hands one over.
    fn append(&mut self, value: Value<'_>) {
        match (self, value.known()) {
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Integer(builder), Value::Integer(number)) => builder.append_value(number),
            (Self::Integer(builder), _) => builder.append_null(),
            (Self::Real(builder), Value::Real(number)) => builder.append_value(number),
            (Self::Real(builder), _) => builder.append_null(),
            (Self::Boolean(builder), Value::Boolean(so)) => builder.append_value(so),
            (Self::Boolean(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Real(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
        }
    }
}

fn kind(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8,
        Kind::Integer => DataType::Int64,
        Kind::Real => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::failed("Parquet", format!("the file cannot be written: {error}")).next("check the space on the disk")
}

impl Parquet {
    pub fn new(place: Place, columns: &[Column]) -> Result<Self> {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name, kind(c.kind), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let writer = ArrowWriter::try_new(place.begin()?, schema.clone(), Some(properties)).map_err(failed)?;
        let builders = columns.iter().map(|c| Builder::new(c.kind)).collect();
        Ok(Self { place, schema, builders, rows: 0, writer })
    }

    fn flush(&mut self) -> Result<()> {
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        self.rows = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(failed)?;
        self.writer.write(&batch).map_err(failed)
    }
}

impl Writer for Parquet {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        for (builder, value) in self.builders.iter_mut().zip(values) {
            builder.append(*value);
        }
        self.rows += 1;
        if self.rows == BATCH { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        let Self { place, writer, .. } = *self;
        place.end(writer.into_inner().map_err(failed)?)
    }
}
