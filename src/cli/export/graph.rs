//! The training graph, and what the run made of it: edges, and vectors of users and items as
//! safetensors and as NumPy files. Nothing of validation and test rows is in them.

use std::io::Write as _;

use super::folder::{Folder, Labelled};
use crate::data::Part;
use crate::durable;
use crate::error::Result;
use crate::pipeline::finished::Finished;
use crate::pipeline::matrices;
use crate::tensor::Matrix;

/// A cell of CSV.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// Writes the files; returns the number of edges.
pub fn write(all: &Labelled<'_>, finished: &Finished, folder: &Folder) -> Result<u64> {
    let dataset = all.dataset;
    let users = dataset.users.iter().enumerate().map(|(n, user)| format!("{n},{}", cell(&user.raw.0)));
    folder.lines("users.csv", std::iter::once("node,user".to_string()).chain(users))?;
    let items = dataset.items.iter().enumerate();
    let items = items.map(|(n, item)| format!("{n},{},{}", cell(&item.raw.0), cell(&item.title)));
    folder.lines("items.csv", std::iter::once("node,item,title".to_string()).chain(items))?;
    let edge = |(row, s): (usize, &crate::data::Sample)| {
        format!("{row},{},{},{},{},{}", s.user.0, s.item.0, s.rating, u8::from(s.label), s.time)
    };
    let head = "row,user_node,item_node,rating,label,time".to_string();
    let edges = folder.lines("edges.csv", std::iter::once(head).chain(all.part(Part::Train).map(edge)))? - 1;

    let made = finished.embeddings()?;
    let colla = made.graph.get()?;
    let mut vectors: Vec<(&str, &Matrix)> = vec![("users", &colla.users), ("items", &colla.items)];
    for (name, matrix) in [("text", &made.text), ("ssl", &made.ssl)] {
        if let Some(matrix) = matrix {
            vectors.push((name, matrix.get()?));
        }
    }
    matrices::write(&folder.path("vectors.safetensors"), &vectors)?;
    for (name, matrix) in vectors {
        durable::write(&folder.path(&format!("{name}.npy")), &npy(matrix))?;
    }
    Ok(edges)
}

/// A matrix in NumPy's format, version 1.0.
fn npy(matrix: &Matrix) -> Vec<u8> {
    let shape = format!("({}, {})", matrix.rows(), matrix.cols());
    let mut head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The numbers begin at a multiple of 64 bytes, behind a line break.
    let length = (10 + head.len() + 1).next_multiple_of(64) - 10;
    head += &" ".repeat(length - 1 - head.len());
    head.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(length as u16).to_le_bytes());
    let _ = out.write_all(head.as_bytes());
    for value in matrix.as_slice() {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_files_begin_as_numpy_wants_them() {
        let matrix = Matrix::from_vec(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, -6.5]).unwrap();
        let bytes = npy(&matrix);
        let at = bytes.len() - 24;
        assert_eq!((at % 64, &bytes[..8], bytes[at - 1]), (0, &b"\x93NUMPY\x01\x00"[..], b'\n'));
        assert_eq!(usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10, at);
        assert!(bytes[10..at].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert_eq!(&bytes[at + 20..], (-6.5f32).to_le_bytes());
    }

    #[test]
    fn cells_with_commas_are_quoted() {
        assert_eq!((cell("plain").as_str(), cell("a,\"b\"").as_str()), ("plain", "\"a,\"\"b\"\"\""));
    }
}
