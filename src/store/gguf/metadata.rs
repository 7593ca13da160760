//! The key-value part.

use std::collections::HashMap;

use super::cursor::Cursor;
use crate::error::{Error, Result};

/// A value; all widths of integers are one, both widths of floats are one.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    /// An array of something that no model of these families needs.
    Other,
}

/// The metadata of a file.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    values: HashMap<String, Value>,
    place: String,
}

/// A float as its shortest decimal says it: 1e-5 stored in 32 bits becomes 1e-5 in 64 bits, as
/// config.json has it.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn width(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn scalar(cursor: &mut Cursor, kind: u32) -> Result<Value> {
    Ok(match kind {
        0 => Value::Int(u8::from_le_bytes(cursor.array()?).into()),
        1 => Value::Int(i8::from_le_bytes(cursor.array()?).into()),
        2 => Value::Int(u16::from_le_bytes(cursor.array()?).into()),
        3 => Value::Int(i16::from_le_bytes(cursor.array()?).into()),
        4 => Value::Int(cursor.u32()?.into()),
        5 => Value::Int(i32::from_le_bytes(cursor.array()?).into()),
        6 => Value::Float(decimal(f32::from_le_bytes(cursor.array()?))),
        7 => match cursor.array::<1>()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => return Err(cursor.bad(format!("{other} is no truth value"))),
        },
        8 => Value::Text(cursor.string()?.to_owned()),
        10 => Value::Int(cursor.u64()?.into()),
        11 => Value::Int(i64::from_le_bytes(cursor.array()?).into()),
        12 => Value::Float(f64::from_le_bytes(cursor.array()?)),
        other => return Err(cursor.bad(format!("values of type {other} are unknown"))),
    })
}

fn value(cursor: &mut Cursor) -> Result<Value> {
    let kind = cursor.u32()?;
    if kind != 9 {
        return scalar(cursor, kind);
    }
    let inner = cursor.u32()?;
    if inner == 8 {
        let count = cursor.count(8, "texts")?;
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            texts.push(cursor.string()?.to_owned());
        }
        return Ok(Value::Texts(texts));
    }
    let Some(width) = width(inner) else {
        return Err(cursor.bad(format!("arrays of type {inner} are not supported")));
    };
    let count = cursor.count(width, "values")?;
    if !matches!(inner, 0..=5 | 10 | 11) {
        cursor.take(count * width)?;
        return Ok(Value::Other);
    }
    let mut ints = Vec::with_capacity(count);
    for _ in 0..count {
        match scalar(cursor, inner)? {
            Value::Int(n) => ints.push(i64::try_from(n).map_err(|_| cursor.bad(format!("{n} is too large")))?),
            _ => return Ok(Value::Other),
        }
    }
    Ok(Value::Ints(ints))
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read(cursor: &mut Cursor, count: usize, place: &str) -> Result<Self> {
        let mut values = HashMap::new();
        for _ in 0..count {
            let key = cursor.string()?;
            let value = value(cursor)
                .map_err(|e| Error::input(e.place(), format!("{key}: {}", e.what())).next(e.next_step()))?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(cursor.bad(format!("the key {key} comes twice")));
            }
        }
        Ok(Self { values, place: place.to_owned() })
    }

    /// An error about a key.
    pub(crate) fn bad(&self, key: &str, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {key}", self.place), what).next("use a GGUF file made by llama.cpp's converter")
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, "is not a text")),
        }
    }

    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Int(n)) => match usize::try_from(*n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(self.bad(key, format!("{n} is not a count"))),
            },
            Some(_) => Err(self.bad(key, "is not one whole number")),
        }
    }

    pub(crate) fn need(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.bad(key, "is missing"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) => Ok(Some(*x)),
            Some(Value::Int(n)) => Ok(Some(*n as f64)),
            Some(_) => Err(self.bad(key, "is not a number")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(x)) => Ok(Some(*x)),
            Some(_) => Err(self.bad(key, "is neither true nor false")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Texts(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "is not a list of texts")),
        }
    }

    pub(crate) fn ints(&self, key: &str) -> Result<Option<&[i64]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Ints(list)) => Ok(Some(list)),
            Some(_) => Err(self.bad(key, "is not a list of whole numbers")),
        }
    }
}
