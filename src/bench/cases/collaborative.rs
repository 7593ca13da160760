//! Graph, ranking, contrast, search, merge: shapes of LightGCN on ML-1M.

use super::{normals, sets};
use crate::bench::Prepared;
use crate::error::Result;
use crate::ops::bpr::{self, Batch, Bpr};
use crate::ops::mlp::{self, Activation, Mlp};
use crate::ops::{adam, infonce, merge, spmm, topk};
use crate::rng::{Rng, Use};

pub(super) fn propagate(
    users: usize,
    items: usize,
    edges: usize,
    dim: usize,
    precision: spmm::Precision,
) -> Result<Prepared> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
    let pairs: Vec<(u32, u32)> = (0..edges)
        .flat_map(|_| {
            let (u, i) = (rng.below(users as u32), users as u32 + rng.below(items as u32));
            [(u, i), (i, u)]
        })
        .collect();
    let graph = spmm::Adjacency::new(users + items, pairs.iter().copied())?;
    let cost = spmm::cost(&graph, dim, 3, precision);
    let n = sets(4.0 * ((users + items) * dim) as f64).min(8);
    let x: Vec<_> = (0..n).map(|s| spmm::Rows::from_packed(dim, &normals((users + items) * dim, s as u32))).collect();
    let mut out = spmm::Rows::zeros(users + items, dim);
    let mut space = spmm::Workspace::new(users + items, dim, precision);
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| spmm::propagate(&graph, &x[i], 3, spmm::Sparse::No, &mut space, &mut out)),
    })
}

pub(super) fn contrast(n: usize, dim: usize) -> Result<Prepared> {
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.1, weight: 1.0 };
    let x: Vec<_> = (0..3).map(|s| normals(n * dim, s)).collect();
    // Checked once here, so that the timed runs may take success for granted.
    infonce::infonce(&x[0], &x[1], dim, &params, true)?;
    Ok(Prepared {
        cost: infonce::cost(n, dim),
        sets: 3,
        run: Box::new(move |i| {
            drop(std::hint::black_box(infonce::infonce(&x[i], &x[(i + 1) % 3], dim, &params, true)))
        }),
    })
}

pub(super) fn top(queries: usize, items: usize, dim: usize) -> Result<Prepared> {
    let cost = topk::cost(queries, items, dim);
    let n = sets(cost.bytes).min(16);
    let inputs: Vec<_> =
        (0..n as u32).map(|s| (normals(queries * dim, 2 * s), normals(items * dim, 2 * s + 1))).collect();
    topk::topk(&inputs[0].0, &inputs[0].1, dim, 20, &topk::Nothing)?;
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| {
            let (q, x) = &inputs[i];
            drop(std::hint::black_box(topk::topk(q, x, dim, 20, &topk::Nothing)));
        }),
    })
}

pub(super) fn step(n: usize) -> Result<Prepared> {
    let count = sets(28.0 * n as f64);
    let g = normals(n, 0);
    let state = || (vec![0.5f32; n], g.clone(), vec![0.0f32; n], vec![0.0f32; n]);
    let mut states: Vec<_> = (0..count).map(|_| state()).collect();
    let adam = adam::Adam::new(1e-3);
    let mut t = 0;
    Ok(Prepared {
        cost: adam::cost(n),
        sets: count,
        run: Box::new(move |i| {
            t += 1;
            let (p, g, m, v) = &mut states[i];
            adam::step(&adam, t, p, g, m, v);
        }),
    })
}

pub(super) fn rank(users: u32, items: u32, batch: usize, dim: usize) -> Result<Prepared> {
    let nodes = (users + items) as usize;
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 1);
    let mut draw = |from: u32, below: u32| -> Vec<u32> { (0..batch).map(|_| from + rng.below(below)).collect() };
    let batches: Vec<Batch> = (0..8)
        .map(|_| Batch { users: draw(0, users), positives: draw(users, items), negatives: draw(users, items) })
        .collect();
    let e = spmm::Rows::from_packed(dim, &normals(nodes * dim, 0));
    let (mut gradient, mut bpr) = (spmm::Rows::zeros(nodes, dim), Bpr::new(nodes));
    Ok(Prepared {
        cost: bpr::cost(batch, dim),
        sets: batches.len(),
        run: Box::new(move |i| {
            bpr.begin(&batches[i], 1e-4);
            std::hint::black_box(bpr.backward(&batches[i], &e, &e, 1e-4, &mut gradient));
        }),
    })
}

pub(super) fn project(rows: usize, input: usize, hidden: usize, output: usize) -> Result<Prepared> {
    let mlp = Mlp { input, hidden, output, activation: Activation::Relu };
    let (tensors, by_out) = (mlp.init(1), normals(rows * output, 9));
    let x: Vec<_> = (0..4).map(|s| normals(rows * input, s)).collect();
    mlp.forward(&tensors, &x[0])?;
    Ok(Prepared {
        cost: mlp::cost(&mlp, rows),
        sets: x.len(),
        run: Box::new(move |i| {
            if let Ok((_, saved)) = mlp.forward(&tensors, &x[i]) {
                drop(std::hint::black_box(mlp.backward(&tensors, &x[i], &saved, &by_out)));
            }
        }),
    })
}

pub(super) fn moments(rows: usize, samples: usize) -> Result<Prepared> {
    let count = sets(8.0 * (rows * samples) as f64);
    let x: Vec<Vec<f64>> =
        (0..count as u32).map(|s| normals(rows * samples, s).iter().map(|v| f64::from(*v)).collect()).collect();
    let counts = vec![samples as u32; rows];
    let (mut mean, mut var) = (vec![0.0; rows], vec![0.0; rows]);
    Ok(Prepared {
        cost: merge::moments_cost(rows, rows * samples),
        sets: count,
        run: Box::new(move |i| merge::moments(&x[i], samples, &counts, samples, &mut mean, &mut var)),
    })
}
