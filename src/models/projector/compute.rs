//! The perceptron and the loss on whatever device a run uses. Parameters and the optimiser stay on the CPU: they are small
//! beside a batch.

use crate::device::{Device, DeviceRows};
use crate::error::Result;
use crate::ops::infonce::{self, Gradients, Params};
use crate::ops::mlp::cuda::{self as kernels, DeviceTensors};
use crate::ops::mlp::{Mlp, Tensors};

/// f(x) for rows of x.
pub(super) fn forward(device: &Device, mlp: &Mlp, p: &Tensors, x: &[f32]) -> Result<Vec<f32>> {
    let Device::Kernels(device) = device else { return Ok(mlp.forward(p, x)?.0) };
    let p = DeviceTensors::upload(device, mlp, p)?;
    let x = DeviceRows::upload(device, mlp.input, x, "texts")?;
    kernels::forward(mlp, &p, &x)?.0.download()
}

/// The loss of f(x) against c.
pub(super) fn loss(device: &Device, mlp: &Mlp, p: &Tensors, x: &[f32], c: &[f32], params: &Params) -> Result<f64> {
    let Device::Kernels(kernel_device) = device else {
        return Ok(infonce::infonce(&forward(device, mlp, p, x)?, c, mlp.output, params, false)?.loss);
    };
    let p = DeviceTensors::upload(kernel_device, mlp, p)?;
    let x = DeviceRows::upload(kernel_device, mlp.input, x, "texts")?;
    let (out, ..) = kernels::forward(mlp, &p, &x)?;
    let c = DeviceRows::upload(kernel_device, mlp.output, c, "collaborative rows")?;
    Ok(infonce::cuda::loss(&out, &c, params)?.0)
}

/// The loss with its gradients by f(x), c and tau, and by the perceptron.
pub(super) fn learn(
    device: &Device,
    mlp: &Mlp,
    p: &Tensors,
    x: &[f32],
    c: &[f32],
    params: &Params,
) -> Result<(Gradients, Tensors)> {
    let Device::Kernels(device) = device else {
        let (out, kept) = mlp.forward(p, x)?;
        let loss = infonce::infonce(&out, c, mlp.output, params, true)?;
        let g = mlp.backward(p, x, &kept, &loss.x)?;
        return Ok((loss, g));
    };
    let p = DeviceTensors::upload(device, mlp, p)?;
    let x = DeviceRows::upload(device, mlp.input, x, "texts")?;
    let c = DeviceRows::upload(device, mlp.output, c, "collaborative rows")?;
    let (out, saved, _) = kernels::forward(mlp, &p, &x)?;
    let loss = infonce::cuda::infonce(&out, &c, params)?;
    let mut g = DeviceTensors::zeros(device, mlp)?;
    kernels::backward(mlp, &p, &x, &saved, &loss.x, &mut g)?;
    let gradients = Gradients { loss: loss.loss, x: loss.x.download()?, y: loss.y.download()?, tau: loss.tau };
    Ok((gradients, g.download()?))
}
