//! The gated activation of the MLP.

use super::layer::LABEL;
use crate::device::Rows;
use crate::error::Result;
use crate::ops::geglu::{geglu, geglu_backward};
use crate::ops::swiglu::{swiglu_backward, swiglu_in_place, swiglu_kept};

/// Which function opens the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu(gate) up`.
    SwiGlu,
    /// `gelu(gate) up`, with the tanh form of GELU.
    GeGlu,
}

impl Activation {
    /// The activated rows, in `act` or in the gate's place. With `kept`, gate and up stay for the
    /// backward.
    ///
    /// # Errors
    /// Shapes that differ, operands in different places; out of memory.
    pub(crate) fn forward<'a>(self, kept: bool, gate: &'a mut Rows, up: &Rows, act: &'a mut Rows) -> Result<&'a Rows> {
        if self == Self::SwiGlu && !kept {
            swiglu_in_place(gate, up)?;
            return Ok(gate);
        }
        act.fit(gate.rows(), gate.dim(), LABEL)?;
        match self {
            Self::SwiGlu => swiglu_kept(gate, up, act)?,
            Self::GeGlu => geglu(gate, up, act)?,
        };
        Ok(act)
    }

    /// Replaces gate and up by their gradients, from that of the activated rows.
    ///
    /// # Errors
    /// Shapes that differ, operands in different places.
    pub(crate) fn backward(self, gate: &mut Rows, up: &mut Rows, by_act: &Rows) -> Result<()> {
        match self {
            Self::SwiGlu => swiglu_backward(gate, up, by_act)?,
            Self::GeGlu => geglu_backward(gate, up, by_act)?,
        };
        Ok(())
    }

    /// The definition, in f64.
    pub(crate) fn oracle(self, gate: f64, up: f64) -> f64 {
        match self {
            Self::SwiGlu => gate / (1.0 + (-gate).exp()) * up,
            Self::GeGlu => {
                let z = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044715 * gate.powi(3));
                0.5 * gate * (1.0 + z.tanh()) * up
            }
        }
    }
}
