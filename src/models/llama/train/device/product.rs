//! A linear layer with its adapter, forward and backward.

use super::batch::Side;
use super::upload::DeviceLinear;
use crate::device::DeviceRows;
use crate::ops::linear::cuda::{Epilogue, Form, gemm};
use crate::ops::lora::cuda::{self as lora, Adapters, Beside, Gradients};
use crate::ops::lora::{Dropout, mask};
use crate::{Error, Result};

/// A linear layer for the rows of a side, perhaps with an adapter, perhaps with a mask of the adapter's input.
pub(super) struct Product<'a> {
    pub side: &'a Side,
    pub linear: &'a DeviceLinear,
    pub low: Option<&'a Adapters<f32>>,
    pub mask: Option<Dropout>,
}

/// What the forward of a product read, and its low-rank rows.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub x: Option<&'a DeviceRows<f32>>,
    pub s: Option<&'a DeviceRows<f32>>,
}

fn zeros(like: &DeviceRows<f32>, width: usize) -> Result<DeviceRows<f32>> {
    DeviceRows::zeros(like.device(), like.rows(), width, "low-rank rows")
}

impl Product<'_> {
    /// The adapter's input, where a mask makes it another than the layer's.
    fn dropped(&self, x: &DeviceRows<f32>) -> Result<Option<DeviceRows<f32>>> {
        let Some(mask) = self.mask else { return Ok(None) };
        let mut dropped = zeros(x, x.dim())?;
        mask::apply(mask, &self.side.names, x, false, &mut dropped)?;
        Ok(Some(dropped))
    }

    /// `y (+)= x W^T + b + S B^T`; gives `S = scale drop(x) A^T` back.
    pub fn forward(
        &self,
        x: &DeviceRows<f32>,
        accumulate: bool,
        y: &mut DeviceRows<f32>,
    ) -> Result<Option<DeviceRows<f32>>> {
        let (weight, bias) = (&self.linear.weight, self.linear.bias.as_ref());
        let Some(low) = self.low else {
            lora::forward(&self.side.plain, x, weight, &Beside { low: None, bias, accumulate }, y)?;
            return Ok(None);
        };
        let mut s = zeros(x, low.rank())?;
        lora::shrink(&self.side.adapted, self.dropped(x)?.as_ref().unwrap_or(x), low, &mut s)?;
        lora::forward(&self.side.adapted, x, weight, &Beside { low: Some((&s, low)), bias, accumulate }, y)?;
        Ok(Some(s))
    }

    /// Zero gradients of the adapter, if there is one.
    pub fn gradients(&self) -> Result<Option<Gradients>> {
        let Some(low) = self.low else { return Ok(None) };
        let zeros =
            |of: &DeviceRows<f32>| DeviceRows::zeros(of.device(), of.rows(), of.dim(), "gradient of an adapter");
        Ok(Some(Gradients { a: zeros(&low.a)?, b: zeros(&low.b)? }))
    }

    /// Adds to `by` the gradients of A and B (that needs what the forward read), and writes or adds (true) to `dx` that
    /// of x.
    pub fn backward(
        &self,
        read: Read<'_>,
        dy: &DeviceRows<f32>,
        dx: Option<(&mut DeviceRows<f32>, bool)>,
        by: Option<&mut Gradients>,
    ) -> Result<()> {
        let weight = &self.linear.weight;
        let Some(low) = self.low else {
            if let Some((dx, accumulate)) = dx {
                lora::backward(&self.side.plain, dy, weight, &Beside { accumulate, ..Beside::default() }, dx)?;
            }
            return Ok(());
        };
        if dx.is_none() && by.is_none() {
            return Ok(());
        }
        let mut ds = zeros(dy, low.rank())?;
        lora::shrink_backward(&self.side.adapted, dy, low, &mut ds)?;
        if let Some(by) = by {
            let (Some(x), Some(s)) = (read.x, read.s) else {
                return Err(Error::failed("training", "a pair is trained whose input was not kept"));
            };
            let dropped = self.dropped(x)?;
            let x = dropped.as_ref().unwrap_or(x);
            lora::gradients(&self.side.adapted, low, (x, s), (dy, &ds), by)?;
        }
        let Some((dx, accumulate)) = dx else { return Ok(()) };
        let Some(mask) = self.mask else {
            let beside = Beside { low: Some((&ds, low)), bias: None, accumulate };
            lora::backward(&self.side.adapted, dy, weight, &beside, dx)?;
            return Ok(());
        };
        // dX = dY W + mask (dS A): the mask stands between the two, so that they cannot be one product.
        lora::backward(&self.side.plain, dy, weight, &Beside { accumulate, ..Beside::default() }, dx)?;
        let mut by_dropped = zeros(&ds, low.a.dim())?;
        gemm(Form::Nn, &ds, &low.a, &Epilogue::default(), &mut by_dropped)?;
        mask::apply(mask, &self.side.names, &by_dropped, true, dx)?;
        Ok(())
    }
}
