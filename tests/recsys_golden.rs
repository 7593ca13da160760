//! Against PyTorch: LightGCN with BPR and Adam, InfoNCE, top-K. `tests/goldens/recsys.json` explains the tensors.

use rallrec::data::{ItemIdx, UserIdx};
use rallrec::models::lightgcn::{Graph, Settings, Trainer};
use rallrec::ops::bpr::Batch;
use rallrec::ops::infonce::{Params, Similarity, infonce};
use rallrec::ops::spmm::{self, Rows};
use rallrec::ops::topk::{self, Nothing};
use safetensors::SafeTensors;

const FILE: &[u8] = include_bytes!("goldens/recsys.safetensors");
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
    let (graph, e0) = (graph(), Rows::from_packed(DIM, &floats("lightgcn.e0")));
    let mut out = Rows::zeros(USERS + ITEMS, DIM);
    let mut space = spmm::Workspace::new(USERS + ITEMS, DIM, spmm::Precision::F32);
    spmm::propagate(graph.adjacency(), &e0, 3, spmm::Sparse::No, &mut space, &mut out);
    close("final", &out.to_packed(), &doubles("lightgcn.final_f64"), 1e-7);
}

#[test]
fn loss_gradient_and_three_adam_steps_are_pytorchs() {
    let graph = graph();
    let settings = Settings { dim: DIM, layers: 3, lambda: 1e-4, learning_rate: 1e-3, ..Settings::default() };
    let mut trainer = Trainer::from_rows(&graph, &settings, Rows::from_packed(DIM, &floats("lightgcn.e0")));
    let batch = Batch {
        users: ints("lightgcn.batch_users"),
        positives: ints("lightgcn.batch_pos"),
        negatives: ints("lightgcn.batch_neg"),
    };
    let loss = trainer.backward(&batch);
    close("loss", &[loss as f32], &doubles("lightgcn.loss_f64"), 1e-6);
    close("gradient", &trainer.gradient().to_packed(), &doubles("lightgcn.grad_f64"), 1e-8);
    for _ in 0..3 {
        trainer.step(&batch);
    }
    close("after Adam", &trainer.layer0().to_packed(), &doubles("lightgcn.after_3_adam_f64"), 2e-6);
}

#[test]
fn top_k_is_the_sorted_order() {
    let (queries, items) = (floats("topk.queries"), floats("topk.items"));
    let got = topk::topk(&queries, &items, 6, 11, &Nothing).expect("scores");
    let (indices, scores) = (ints("topk.indices"), floats("topk.scores"));
    let flat: Vec<_> = got.iter().flatten().collect();
    assert_eq!(flat.iter().map(|h| h.index).collect::<Vec<_>>(), indices);
    assert_eq!(flat.iter().map(|h| h.score).collect::<Vec<_>>(), scores);
}

#[test]
fn infonce_is_pytorchs() {
    let params = Params { similarity: Similarity::Cosine, tau: 0.07, weight: 0.5 };
    let got = infonce(&floats("infonce.x"), &floats("infonce.y"), 19, &params, true).expect("a loss");
    close("loss", &[got.loss as f32], &doubles("infonce.loss_f64"), 2e-6);
    close("by x", &got.x, &doubles("infonce.grad_x_f64"), 2e-7);
    close("by y", &got.y, &doubles("infonce.grad_y_f64"), 2e-7);
}
