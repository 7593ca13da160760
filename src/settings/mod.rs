//! What the settings of all modules have in common.
//!
//! The range of a key stands once, as an attribute of its field, and goes from there into the
//! schema of the type: the printed recipe and [`Checked::check`] both read it. A fault names a
//! field as its own type does; whoever holds the settings puts the section in front, so that no
//! module knows where in a recipe it stands.

mod fault;
mod range;
mod schedule;
mod schema;
mod value;
mod walk;

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use schemars::{JsonSchema, schema_for};
use serde::Serialize;

pub use fault::{Fault, Faults};
pub use range::Range;
pub use schedule::Schedule;
pub use schema::{Kind, Schema};
pub use value::Value;
pub use walk::{nearest, walk};

use crate::error::{Error, Result};

/// Settings that can say what is wrong with them.
pub trait Checked: Serialize + JsonSchema + Sized + 'static {
    /// What the range of a single key cannot say: keys that contradict each other.
    fn contradictions(&self) -> Faults {
        Faults::default()
    }

    /// All that is wrong: values outside their ranges, then contradictions.
    fn faults(&self) -> Faults {
        let mut faults = match (serde_json::to_value(self), schema_of::<Self>()) {
            (Ok(values), Ok(schema)) => walk(&Value::from(values), &Schema::root(&schema)),
            (Err(e), _) | (_, Err(e)) => Faults::one("", format!("cannot be read: {e}"), "report this"),
        };
        faults.extend("", self.contradictions());
        faults
    }

    /// Refuses values out of range and contradictions.
    ///
    /// # Errors
    /// Names every field that is wrong, and what it may be.
    fn check(&self) -> Result<()> {
        self.faults().into_result()
    }
}

/// The schema of a type, made once.
pub fn schema_of<T: JsonSchema + 'static>() -> serde_json::Result<Arc<serde_json::Value>> {
    static MADE: LazyLock<Mutex<HashMap<TypeId, Arc<serde_json::Value>>>> = LazyLock::new(Mutex::default);
    let Ok(mut made) = MADE.lock() else {
        return Ok(Arc::new(serde_json::to_value(schema_for!(T))?));
    };
    if let Some(schema) = made.get(&TypeId::of::<T>()) {
        return Ok(schema.clone());
    }
    let schema = Arc::new(serde_json::to_value(schema_for!(T))?);
    made.insert(TypeId::of::<T>(), schema.clone());
    Ok(schema)
}

impl Faults {
    /// An error that names all of them; nothing is wrong where there are none.
    ///
    /// # Errors
    /// There is a fault.
    pub fn into_result(self) -> Result<()> {
        let list: Vec<Fault> = self.into_iter().collect();
        match list.as_slice() {
            [] => Ok(()),
            [Fault { key, what, next }] => Err(Error::usage(key, what).next(next)),
            many => {
                let lines: Vec<String> = many.iter().map(|f| format!("{}: {}", f.key, f.what)).collect();
                let next: Vec<&str> = many.iter().map(|f| f.next.as_str()).collect();
                Err(Error::usage("settings", lines.join("; ")).next(next.join("; ")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
