//! Graph, ranking, contrast, search, merge: shapes of LightGCN on ML-1M.

use super::{normals, sets};
use crate::bench::Prepared;
use crate::device::Device;
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
    let rows = |s| spmm::Lines::from_packed(dim, &normals((users + items) * dim, s as u32));
    let place = |s| spmm::Nodes::from_lines(&Device::Cpu, rows(s), "x");
    let x = (0..n).map(place).collect::<Result<Vec<_>>>()?;
    let mut out = spmm::Nodes::zeros(&Device::Cpu, users + items, dim, "out")?;
    let graph: &'static spmm::Adjacency = Box::leak(Box::new(graph));
    let mut through = spmm::Propagation::new(&Device::Cpu, graph, dim, precision)?;
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| {
            drop(spmm::propagate(&Device::Cpu, &mut through, &x[i], 3, spmm::Sparse::default(), &mut out));
        }),
    })
}

pub(super) fn contrast(n: usize, dim: usize) -> Result<Prepared> {
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.1, weight: 1.0 };
    let x: Vec<_> = (0..3).map(|s| normals(n * dim, s)).collect();
    // Checked once here, so that the timed runs may take success for granted.
    let run = move |i: usize| {
        infonce::infonce(&Device::Cpu, (&x[i][..], dim).into(), (&x[(i + 1) % 3][..], dim).into(), &params)
    };
    run(0)?;
    Ok(Prepared { cost: infonce::cost(n, dim), sets: 3, run: Box::new(move |i| drop(std::hint::black_box(run(i)))) })
}

pub(super) fn top(queries: usize, items: usize, dim: usize) -> Result<Prepared> {
    let cost = topk::cost(queries, items, dim);
    let n = sets(cost.bytes).min(16);
    let inputs: Vec<_> =
        (0..n as u32).map(|s| (normals(queries * dim, 2 * s), normals(items * dim, 2 * s + 1))).collect();
    let run = move |i: usize| {
        let (q, x) = &inputs[i];
        topk::topk(&Device::Cpu, (&q[..], dim).into(), (&x[..], dim).into(), 20, &topk::Nothing)
    };
    run(0)?;
    Ok(Prepared { cost, sets: n, run: Box::new(move |i| drop(std::hint::black_box(run(i)))) })
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
            drop(adam::step(&Device::Cpu, &adam, t, adam::State::of(p, m, v), (&g[..], g.len()).into(), None));
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
    let e = spmm::Nodes::from_lines(&Device::Cpu, spmm::Lines::from_packed(dim, &normals(nodes * dim, 0)), "e")?;
    let mut gradient = spmm::Nodes::zeros(&Device::Cpu, nodes, dim, "gradient")?;
    let mut op = Bpr::new(&Device::Cpu, nodes, 1e-4)?;
    Ok(Prepared {
        cost: bpr::cost(batch, dim),
        sets: batches.len(),
        run: Box::new(move |i| {
            let given = op.given(&batches[i]);
            drop(std::hint::black_box(
                given.and_then(|()| bpr::backward(&Device::Cpu, &mut op, &e, &e, &mut gradient)),
            ));
        }),
    })
}

pub(super) fn project(rows: usize, input: usize, hidden: usize, output: usize) -> Result<Prepared> {
    let mlp = Mlp { input, hidden, output, activation: Activation::Relu };
    let (tensors, by_out) = (mlp.init(1), normals(rows * output, 9));
    let x: Vec<_> = (0..4).map(|s| normals(rows * input, s)).collect();
    let placed = mlp::Placed::new(&Device::Cpu, &mlp, &tensors)?;
    let run = move |i: usize| {
        let (x, by) = ((&x[i][..], input).into(), (&by_out[..], output).into());
        let (_, saved, _) = mlp::forward(&Device::Cpu, &placed, x)?;
        mlp::backward(&Device::Cpu, &placed, x, &saved, by)
    };
    run(0)?;
    Ok(Prepared { cost: mlp::cost(&mlp, rows), sets: 4, run: Box::new(move |i| drop(std::hint::black_box(run(i)))) })
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
        run: Box::new(move |i| {
            let of = merge::Samples { values: &x[i], stride: samples, counts: &counts };
            drop(merge::moments(&Device::Cpu, of, samples, &mut mean, &mut var));
        }),
    })
}
