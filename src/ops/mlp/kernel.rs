//! The projector as products with fused bias, activation and its slope (`kernels/linear.cu`).

use super::{Activation, Mlp, Tensors};
use crate::device::{Buffer, DeviceRows, KernelDevice};
use crate::error::Result;
use crate::ops::linear::kernel::{Epilogue, Form, column_sums, gemm};
use crate::tensor::Cost;

/// The four tensors on a device: parameters or gradients.
#[derive(Debug)]
pub struct DeviceTensors {
    /// hidden x in.
    pub w1: DeviceRows<f32>,
    /// hidden.
    pub b1: Buffer<f32>,
    /// out x hidden.
    pub w2: DeviceRows<f32>,
    /// out.
    pub b2: Buffer<f32>,
}

impl DeviceTensors {
    /// A copy.
    pub fn upload(device: &KernelDevice, shape: &Mlp, p: &Tensors) -> Result<Self> {
        Ok(Self {
            w1: DeviceRows::upload(device, shape.input, &p.w1, "projector w1")?,
            b1: device.upload(&p.b1, "projector b1")?,
            w2: DeviceRows::upload(device, shape.hidden, &p.w2, "projector w2")?,
            b2: device.upload(&p.b2, "projector b2")?,
        })
    }

    /// Zeros.
    pub fn zeros(device: &KernelDevice, shape: &Mlp) -> Result<Self> {
        Ok(Self {
            w1: DeviceRows::zeros(device, shape.hidden, shape.input, "projector w1")?,
            b1: device.zeros(shape.hidden, "projector b1")?,
            w2: DeviceRows::zeros(device, shape.output, shape.hidden, "projector w2")?,
            b2: device.zeros(shape.output, "projector b2")?,
        })
    }

    /// A copy on the CPU.
    pub fn download(&self) -> Result<Tensors> {
        let device = self.w1.device();
        Ok(Tensors {
            w1: self.w1.download()?,
            b1: device.download(&self.b1)?,
            w2: self.w2.download()?,
            b2: device.download(&self.b2)?,
        })
    }
}

/// What the backward needs of a forward.
#[derive(Debug)]
pub struct DeviceSaved {
    before: DeviceRows<f32>,
    after: DeviceRows<f32>,
}

impl DeviceSaved {
    /// Rows of the forward.
    pub(super) fn rows(&self) -> usize {
        self.before.rows()
    }
}

fn code(activation: Activation) -> i32 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Tanh => 2,
        Activation::Silu => 3,
    }
}

/// As [`super::forward`].
pub fn forward(shape: &Mlp, p: &DeviceTensors, x: &DeviceRows<f32>) -> Result<(DeviceRows<f32>, DeviceSaved, Cost)> {
    let device = x.device();
    let before = DeviceRows::unwritten(device, x.rows(), shape.hidden, "projector before")?;
    let mut after = DeviceRows::unwritten(device, x.rows(), shape.hidden, "projector after")?;
    let mut out = DeviceRows::unwritten(device, x.rows(), shape.output, "projector output")?;
    let act = code(shape.activation);
    let first = Epilogue { activation: act, bias: Some(&p.b1), before: Some(&before), ..Epilogue::default() };
    let mut cost = gemm(Form::Nt, x, &p.w1, &first, &mut after)?;
    let second = Epilogue { bias: Some(&p.b2), ..Epilogue::default() };
    cost += gemm(Form::Nt, &after, &p.w2, &second, &mut out)?;
    Ok((out, DeviceSaved { before, after }, cost))
}

/// As [`super::backward`].
pub fn backward(
    shape: &Mlp,
    p: &DeviceTensors,
    x: &DeviceRows<f32>,
    saved: &DeviceSaved,
    by_out: &DeviceRows<f32>,
    g: &mut DeviceTensors,
) -> Result<Cost> {
    let mut by_hidden = DeviceRows::unwritten(x.device(), x.rows(), shape.hidden, "projector gradient")?;
    let plain = Epilogue::default();
    let slope = Epilogue { activation: code(shape.activation), slope_of: Some(&saved.before), ..plain };
    let mut cost = column_sums(by_out, &mut g.b2)?;
    cost += gemm(Form::Tn, by_out, &saved.after, &plain, &mut g.w2)?;
    cost += gemm(Form::Nn, by_out, &p.w2, &slope, &mut by_hidden)?;
    cost += gemm(Form::Tn, &by_hidden, x, &plain, &mut g.w1)?;
    cost += column_sums(&by_hidden, &mut g.b1)?;
    Ok(cost)
}
