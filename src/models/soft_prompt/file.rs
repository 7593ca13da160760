//! A projector as one safetensors file: `w1` (hidden, d), `b1`, `w2` (width, hidden), `b2`, flat,
//! with shape, activation and gain as JSON in the metadata.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Projector;
use crate::error::{Error, Result};
use crate::models::checkpoint;
use crate::ops::mlp::{Activation, Mlp, Tensors};

const VERSION: u32 = 1;
const NAMES: [&str; 4] = ["w1", "b1", "w2", "b2"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    input: usize,
    hidden: usize,
    output: usize,
    activation: Activation,
    gain: f32,
}

impl Projector {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let Mlp { input, hidden, output, activation } = self.mlp;
        let header = Header { version: VERSION, input, hidden, output, activation, gain: self.gain };
        let tensors: Vec<(&str, &[f32])> =
            NAMES.into_iter().zip(self.tensors.each()).map(|(name, values)| (name, values.as_slice())).collect();
        checkpoint::save(path, &header, &tensors)
    }

    /// Reads a projector to vectors of `width` values.
    ///
    /// # Errors
    /// No such file, a damaged one, or one for a model of another width.
    pub fn load(path: &Path, width: usize) -> Result<Self> {
        let next = "run the stage that writes it again: --from tune";
        let mut found = checkpoint::load(path)?.ok_or_else(|| Error::input(path.display(), "is missing").next(next))?;
        let Header { version, input, hidden, output, activation, gain } = found.header()?;
        if version != VERSION || output != width || !(gain.is_finite() && gain > 0.0) {
            let what = format!("version {version}, width {output} and gain {gain}; the model's width is {width}");
            return Err(Error::input(path.display(), what).next(next));
        }
        let sizes = [hidden.checked_mul(input), Some(hidden), output.checked_mul(hidden), Some(output)];
        let mut take = |i: usize| -> Result<Vec<f32>> {
            let size = sizes[i].ok_or_else(|| Error::input(path.display(), "a shape overflows").next(next))?;
            found.take(NAMES[i], size)
        };
        let tensors = Tensors { w1: take(0)?, b1: take(1)?, w2: take(2)?, b2: take(3)? };
        Ok(Self { mlp: Mlp { input, hidden, output, activation }, tensors, gain })
    }
}
