//! The item embeddings in two dimensions, for dashboards and reports: a file of the run folder, no
//! artifact, as no stage depends on it.

use rallrec_events::Event;
use rallrec_events::scatter::{Dot, FILE, Scatter, Space};

use super::run::Run;
use super::stages::Embeddings;
use crate::data::Dataset;
use crate::durable;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::retrieval::pca::Pca;
use crate::tensor::Matrix;

/// Items in the picture at most; of a larger catalogue evenly many are taken.
const ITEMS: usize = 4000;

/// Writes the scatter when its embeddings have changed, and says where it lies.
pub fn scatter(run: &Run, dataset: &Dataset, from: Embeddings<'_>) -> Result<()> {
    let Embeddings { text, colla, ssl } = from;
    let key = format!("{}-{}-{}", text.text.content(), colla.content(), ssl.content());
    let known = Scatter::read(run.folder()).ok().flatten().filter(|s| s.key == key);
    let picture = match known {
        Some(picture) => picture,
        None => {
            let picture = draw(dataset, text.text.get()?, &colla.get()?.items, ssl.get()?, key)?;
            let json = serde_json::to_vec(&picture).map_err(|e| Error::failed(FILE, e))?;
            durable::write(&run.folder().join(FILE), &json)?;
            picture
        }
    };
    run.reporter().emit(Event::Scatter {
        file: FILE.into(),
        items: picture.items.len() as u64,
        spaces: picture.spaces.into_iter().map(|s| s.name).collect(),
    });
    Ok(())
}

/// The rows that are embeddings (not zero), as unit rows, with their places among all.
fn filled(m: &Matrix, chosen: &[usize]) -> (Matrix, Vec<usize>) {
    let norm = |i: usize| m.row(i).iter().map(|x| x * x).sum::<f32>().sqrt();
    let places: Vec<usize> = (0..chosen.len()).filter(|&at| norm(chosen[at]) > 0.0).collect();
    let mut unit = Matrix::zeros(places.len(), m.cols());
    for (to, &at) in places.iter().enumerate() {
        let length = norm(chosen[at]);
        unit.row_mut(to).iter_mut().zip(m.row(chosen[at])).for_each(|(t, x)| *t = x / length);
    }
    (unit, places)
}

/// Retrieval and alignment look at directions alone, so unit rows are what is projected.
fn draw(dataset: &Dataset, text: &Matrix, colla: &Matrix, ssl: &Matrix, key: String) -> Result<Scatter> {
    let all = &dataset.items;
    let step = all.len().div_ceil(ITEMS).max(1);
    let chosen: Vec<usize> = (0..all.len()).step_by(step).collect();
    let items = chosen
        .iter()
        .map(|&i| Dot { title: all[i].title.clone(), genre: all[i].genres.first().cloned().unwrap_or_default() })
        .collect();
    let mut spaces = Vec::new();
    let mut axes: Option<Pca> = None;
    for (name, matrix) in [("text", text), ("collaborative", colla), ("aligned", ssl)] {
        let (unit, places) = filled(matrix, &chosen);
        if unit.rows() < 3 || unit.cols() < 2 {
            continue;
        }
        // Aligned rows live in the collaborative space: on its axes one sees whether they came to
        // lie with it.
        let shared = axes.as_ref().filter(|_| name == "aligned" && unit.cols() == colla.cols());
        let own;
        let (pca, method) = match shared {
            Some(pca) => (pca, "PCA of unit rows, on the axes of the collaborative space"),
            None => {
                own = Pca::fit(&unit, 2)?;
                (&own, "PCA of unit rows")
            }
        };
        let total = variance(&unit);
        let explained = (shared.is_none() && total > 0.0)
            .then(|| [0, 1].map(|k| pca.variances().get(k).map_or(0.0, |v| v / total)));
        let flat = pca.apply(&unit)?;
        let mut points = vec![None; chosen.len()];
        for (row, &at) in places.iter().enumerate() {
            let xy = flat.row(row);
            points[at] = Some([xy[0], xy.get(1).copied().unwrap_or(0.0)]);
        }
        spaces.push(Space { name: name.into(), method: method.into(), explained, points });
        if name == "collaborative" {
            axes = Some(pca.clone());
        }
    }
    Ok(Scatter { version: 1, key, items, spaces })
}

/// Sum of the variances of all columns.
fn variance(m: &Matrix) -> f64 {
    let n = m.rows() as f64;
    let mut total = 0.0;
    for c in 0..m.cols() {
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for r in 0..m.rows() {
            let x = f64::from(m.row(r)[c]);
            sum += x;
            squares += x * x;
        }
        total += (squares / n - (sum / n).powi(2)).max(0.0);
    }
    total
}
