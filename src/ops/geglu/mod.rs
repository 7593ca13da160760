//! GEGLU with the tanh form of GELU, as Gemma has it (Shazeer, 2020): `y = gelu(gate) * up`,
//! element by element, with `gelu(g) = g / 2 (1 + tanh z)`, `z = sqrt(2 / pi) (g + 0.044715 g^3)`,
//! which is `g / (1 + e^(-2 z))`.
//!
//! Shapes: gate, up and y of one shape, at one place. The backward puts the gradients of gate and
//! up where those stood. Cost: about `16 n` FLOP and three passes over `n` values forward, `28 n`
//! and five backward.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

use crate::device::{Rows, mixed};
use crate::error::Result;
use crate::tensor::Cost;

/// sqrt(2 / pi) twice, and the factor of the cube.
const TWICE: f64 = 1.595_769_121_605_731;
const CUBE: f64 = 0.044715;
/// Beyond it either side the gate is open or shut to every float; the cube stays finite within.
const WIDE: f32 = 20.0;

fn same(gate: &Rows, up: &Rows, y: &Rows) -> Result<()> {
    gate.must_be("geglu", "gate", y.rows(), y.dim())?;
    up.must_be("geglu", "up", y.rows(), y.dim())
}

/// `y = gelu(gate) up`; gate and up stay for the backward.
///
/// # Errors
/// Shapes that differ, operands in different places, a device that fails.
pub fn geglu(gate: &Rows, up: &Rows, y: &mut Rows) -> Result<Cost> {
    same(gate, up, y)?;
    let places = [gate.place(), up.place(), y.place()];
    match (gate, up, y) {
        (Rows::Cpu(gate), Rows::Cpu(up), Rows::Cpu(y)) => {
            cpu::forward(gate.as_slice(), up.as_slice(), y.as_mut_slice());
            Ok(cost(up.as_slice().len()))
        }
        (Rows::F32(gate), Rows::F32(up), Rows::F32(y)) => kernel::forward(gate, up, y),
        (Rows::Bf16(gate), Rows::Bf16(up), Rows::Bf16(y)) => kernel::forward(gate, up, y),
        _ => Err(mixed("geglu", &places)),
    }
}

/// Replaces gate and up by their gradients, from `dy`.
///
/// # Errors
/// As [`geglu`](geglu()).
pub fn geglu_backward(gate: &mut Rows, up: &mut Rows, dy: &Rows) -> Result<Cost> {
    same(gate, up, dy)?;
    let places = [gate.place(), up.place(), dy.place()];
    match (gate, up, dy) {
        (Rows::Cpu(gate), Rows::Cpu(up), Rows::Cpu(dy)) => {
            cpu::backward(gate.as_mut_slice(), up.as_mut_slice(), dy.as_slice());
            Ok(backward_cost(dy.as_slice().len()))
        }
        (Rows::F32(gate), Rows::F32(up), Rows::F32(dy)) => kernel::backward(gate, up, dy),
        (Rows::Bf16(gate), Rows::Bf16(up), Rows::Bf16(dy)) => kernel::backward(gate, up, dy),
        _ => Err(mixed("geglu backward", &places)),
    }
}

/// Cost of `n` elements in f32.
pub fn cost(n: usize) -> Cost {
    Cost { bytes: 12.0 * n as f64, flops: 16.0 * n as f64 }
}

/// Cost of the backward of `n` elements in f32.
pub fn backward_cost(n: usize) -> Cost {
    Cost { bytes: 20.0 * n as f64, flops: 28.0 * n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, KernelDevice};
    use crate::tensor::{Dtype, Matrix};

    #[test]
    fn the_oracle_is_pytorchs_and_its_gradient_that_of_finite_differences() {
        // torch.nn.functional.gelu(x, approximate="tanh")
        let known = [(-2.0, -0.045402), (-0.5, -0.154286), (0.0, 0.0), (1.0, 0.841192), (3.0, 2.996363)];
        for (x, want) in known {
            let got = oracle::geglu(&[x], &[1.0])[0];
            assert!((got - want).abs() <= 1e-6, "gelu({x}) is {got}");
        }
        for x in [-3.0f32, -0.7, 0.0, 0.4, 2.5] {
            let h = 1.0 / 1024.0;
            let slope =
                (oracle::geglu(&[x + h], &[2.0])[0] - oracle::geglu(&[x - h], &[2.0])[0]) / (2.0 * f64::from(h));
            let (by_gate, by_up) = oracle::backward(&[x], &[2.0], &[1.0]);
            assert!((by_gate[0] - slope).abs() <= 1e-5, "at {x}: {} and not {slope}", by_gate[0]);
            assert!((by_up[0] - oracle::geglu(&[x], &[1.0])[0]).abs() <= 1e-12);
        }
    }

    #[test]
    fn extremes_are_finite_and_a_nan_stays() {
        let row = |values: [f32; 4]| Rows::Cpu(Matrix::from_vec(1, 4, values.to_vec()).unwrap());
        let (mut gate, mut up, mut y) = (row([1e30, -1e30, f32::NAN, 0.0]), row([1.0; 4]), row([5.0; 4]));
        geglu(&gate, &up, &mut y).unwrap();
        let got = y.download().unwrap();
        assert!(got[0] == 1e30 && got[1].abs() <= 1e-7 && got[2].is_nan() && got[3] == 0.0, "{got:?}");
        geglu_backward(&mut gate, &mut up, &row([1.0; 4])).unwrap();
        let by = gate.download().unwrap();
        assert!((by[0] - 1.0).abs() <= 1e-6 && by[1].abs() <= 1e-7 && by[2].is_nan(), "{by:?}");
        assert!((by[3] - 0.5).abs() <= 1e-6, "{by:?}");
    }

    #[test]
    fn shapes_and_places_that_do_not_fit_are_errors() {
        let rows = |device: &Device, n, dim| Rows::zeros(device, Dtype::F32, n, dim, "rows").unwrap();
        let cpu = &Device::Cpu;
        assert!(geglu(&rows(cpu, 2, 4), &rows(cpu, 2, 3), &mut rows(cpu, 2, 4)).is_err());
        assert!(geglu(&rows(cpu, 2, 4), &rows(cpu, 2, 4), &mut rows(cpu, 1, 4)).is_err());
        let host = &Device::Kernels(KernelDevice::host(0));
        let error = geglu(&rows(host, 2, 4), &rows(cpu, 2, 4), &mut rows(host, 2, 4)).unwrap_err();
        assert!(error.to_string().contains("different places"), "{error}");
        assert!(geglu_backward(&mut rows(cpu, 2, 4), &mut rows(cpu, 2, 4), &rows(cpu, 2, 5)).is_err());
    }
}
