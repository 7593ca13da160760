//! Against PyTorch: LightGCN with BPR and Adam, InfoNCE, top-K. `tests/goldens/recsys.json`
//! explains the tensors.

use rallrec::data::{ItemIdx, UserIdx};
use rallrec::device::Device;
use rallrec::models::lightgcn::{Graph, LightGcnSettings, Negatives, Trainer};
use rallrec::ops::bpr::Batch;
use rallrec::ops::infonce::{Params, Similarity, infonce};
use rallrec::ops::spmm::{self, Lines, Nodes, Precision, Propagation, Sparse};
use rallrec::ops::topk::{self, Nothing};
use safetensors::SafeTensors;

const FILE: &[u8] = include_bytes!("../goldens/recsys.safetensors");
const USERS: usize = 30;
const ITEMS: usize = 20;
const DIM: usize = 8;

fn floats(name: &str) -> Vec<f32> {
    let all = SafeTensors::deserialize(FILE).expect("a safetensors file");
    let data = all.tensor(name).expect("the tensor").data().to_vec();
    data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("4 bytes"))).collect()
}

fn doubles(name: &str) -> Vec<f64> {
    let all = SafeTensors::deserialize(FILE).expect("a safetensors file");
    let data = all.tensor(name).expect("the tensor").data().to_vec();
    data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("8 bytes"))).collect()
}

fn ints(name: &str) -> Vec<u32> {
    floats(name).into_iter().map(f32::to_bits).collect()
}

/// Every value within `tolerance` of the f64 reference; NaN fails.
fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*a) - b).abs() <= tolerance, "{what}[{i}]: {a} and not {b}");
    }
}

fn graph() -> Graph {
    let (indptr, indices) = (ints("lightgcn.csr_indptr"), ints("lightgcn.csr_indices"));
    let mut edges = Vec::new();
    for u in 0..USERS {
        for &i in &indices[indptr[u] as usize..indptr[u + 1] as usize] {
            edges.push((UserIdx(u as u32), ItemIdx(i - USERS as u32)));
        }
    }
    Graph::new(USERS, ITEMS, &edges).expect("a graph")
}

#[test]
fn propagation_is_pytorchs() {
    let (graph, e0) = (graph(), Lines::from_packed(DIM, &floats("lightgcn.e0")));
    let e0 = Nodes::from_lines(&Device::Cpu, e0, "e0").expect("rows");
    let mut out = Nodes::zeros(&Device::Cpu, USERS + ITEMS, DIM, "out").expect("rows");
    let mut through = Propagation::new(&Device::Cpu, graph.adjacency(), DIM, Precision::F32).expect("a graph");
    spmm::propagate(&Device::Cpu, &mut through, &e0, 3, Sparse::default(), &mut out).expect("the shapes fit");
    close("final", &out.lines().expect("rows").to_packed(), &doubles("lightgcn.final_f64"), 1e-7);
}

#[test]
fn loss_gradient_and_three_adam_steps_are_pytorchs() {
    let graph = graph();
    let settings =
        LightGcnSettings { dim: DIM, layers: 3, lambda: 1e-4, learning_rate: 1e-3, ..LightGcnSettings::default() };
    let e0 = Lines::from_packed(DIM, &floats("lightgcn.e0"));
    let mut trainer = Trainer::from_rows(&Device::Cpu, &graph, &settings, e0).expect("one row a node");
    let batch = Batch {
        users: ints("lightgcn.batch_users"),
        positives: ints("lightgcn.batch_pos"),
        negatives: ints("lightgcn.batch_neg"),
    };
    let loss = trainer.backward(&batch, Negatives::Given).expect("nodes of the graph");
    close("loss", &[loss as f32], &doubles("lightgcn.loss_f64"), 1e-6);
    close("gradient", &trainer.gradient().expect("rows").to_packed(), &doubles("lightgcn.grad_f64"), 1e-8);
    for _ in 0..3 {
        trainer.step(&batch, Negatives::Given).expect("nodes of the graph");
    }
    let after = trainer.layer0().expect("rows").to_packed();
    close("after Adam", &after, &doubles("lightgcn.after_3_adam_f64"), 2e-6);
}

#[test]
fn top_k_is_the_sorted_order() {
    let (queries, items) = (floats("topk.queries"), floats("topk.items"));
    let (queries, items) = ((&queries[..], 6).into(), (&items[..], 6).into());
    let (got, _) = topk::topk(&Device::Cpu, queries, items, 11, &Nothing).expect("scores");
    let (indices, scores) = (ints("topk.indices"), floats("topk.scores"));
    let flat: Vec<_> = got.iter().flatten().collect();
    assert_eq!(flat.iter().map(|h| h.index).collect::<Vec<_>>(), indices);
    assert_eq!(flat.iter().map(|h| h.score).collect::<Vec<_>>(), scores);
}

#[test]
fn infonce_is_pytorchs() {
    let params = Params { similarity: Similarity::Cosine, tau: 0.07, weight: 0.5 };
    let (x, y) = (floats("infonce.x"), floats("infonce.y"));
    let got = infonce(&Device::Cpu, (&x[..], 19).into(), (&y[..], 19).into(), &params).expect("a loss");
    close("loss", &[got.loss as f32], &doubles("infonce.loss_f64"), 2e-6);
    close("by x", &got.x.download().expect("rows"), &doubles("infonce.grad_x_f64"), 2e-7);
    close("by y", &got.y.download().expect("rows"), &doubles("infonce.grad_y_f64"), 2e-7);
}
