//! Matrices of an artifact, as safetensors files that any other tool can read.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::durable;
use crate::error::{Error, Result};
use crate::tensor::Matrix;

/// Writes named matrices to `path`.
pub fn write(path: &Path, matrices: &[(&str, &Matrix)]) -> Result<()> {
    let failed = |e: safetensors::SafeTensorError| Error::failed(path.display(), e);
    let mut views = Vec::new();
    for (name, matrix) in matrices {
        let bytes = bytemuck::cast_slice(matrix.as_slice());
        views.push((*name, TensorView::new(Dtype::F32, vec![matrix.rows(), matrix.cols()], bytes).map_err(failed)?));
    }
    let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).map_err(failed)?;
    durable::write(path, &bytes)
}

/// Reads the matrix `name` of `path`.
pub fn read(path: &Path, name: &str) -> Result<Matrix> {
    let bad = |what: String| {
        Error::input(format!("{}, tensor {name}", path.display()), what)
            .next("run the stage that writes it again: --from STAGE")
    };
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read the file", &e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let view = tensors.tensor(name).map_err(|e| bad(e.to_string()))?;
    let [rows, cols] = *view.shape() else { return Err(bad(format!("shape {:?} is not a matrix", view.shape()))) };
    if view.dtype() != Dtype::F32 {
        return Err(bad(format!("{:?} instead of F32", view.dtype())));
    }
    Matrix::from_vec(rows, cols, bytemuck::pod_collect_to_vec(view.data()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_come_back_as_they_were_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let a = Matrix::from_vec(2, 3, vec![1.0, -2.0, 0.5, 3.0, f32::MIN_POSITIVE, 7.0]).unwrap();
        let b = Matrix::zeros(0, 4);
        write(&path, &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(read(&path, "a").unwrap(), a);
        assert_eq!(read(&path, "b").unwrap(), b);
        assert!(read(&path, "c").is_err());
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 4, 9, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(read(&path, "a").is_err(), "cut at {cut}");
        }
    }
}
