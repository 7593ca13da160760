//! Attention on the CPU: cut into jobs of one kv head and a few dozen query vectors, run in
//! parallel.

use rayon::prelude::*;

use super::tiles::{Pass, State};
use super::{Heads, Item, Run, TILE, append};
use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Level};

/// Query vectors of one job: enough to reuse each tile, few enough to keep all threads busy.
const QUERIES: usize = 48;

/// Rows `from..to` of one item.
#[derive(Clone, Copy)]
struct Piece {
    item: usize,
    from: usize,
    to: usize,
}

/// Pieces of one kv head; when there are several they share their first run.
struct Job {
    head: usize,
    pieces: Vec<Piece>,
}

struct Shared<T>(*mut T);
// SAFETY: jobs write disjoint rows and heads.
unsafe impl<T> Sync for Shared<T> {}

/// See the contract. With `lse`, (rows, heads), also the log of each softmax's denominator, for the
/// backward. Panics when the shapes do not fit.
pub fn attend(q: &[f32], heads: Heads, items: &[Item<'_>], out: &mut [f32], lse: Option<&mut [f32]>) {
    attend_within(q, heads, (None, None), items, out, lse);
}

/// As [`attend`], where each row sees no more than the `window` last of its keys, and scores are
/// softly capped.
pub(super) fn attend_within(
    q: &[f32],
    heads: Heads,
    (window, cap): (Option<usize>, Option<f32>),
    items: &[Item<'_>],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let _timed = timed("attention", || super::cost_of(heads, items));
    attend_at(simd::level(), q, (heads, window, cap), items, out, lse);
}

pub(super) fn attend_at(
    level: Level,
    q: &[f32],
    (heads, window, cap): (Heads, Option<usize>, Option<f32>),
    items: &[Item<'_>],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let width = heads.query * heads.dim;
    let rows: usize = items.iter().map(|i| i.rows).sum();
    assert!(heads.kv > 0 && heads.query.is_multiple_of(heads.kv), "attention: {heads:?}");
    assert!(q.len() == rows * width && out.len() == q.len(), "attention: {} values for {rows} rows", q.len());
    assert!(lse.as_ref().is_none_or(|l| l.len() == rows * heads.query), "attention: log-sum-exp");
    for item in items {
        assert!(item.runs.len() == heads.kv && item.keys() >= item.rows, "attention: too few keys or heads");
        for run in item.runs.iter().flatten() {
            let blocks = run.len.div_ceil(super::BLOCK) * super::BLOCK;
            assert!(run.keys.len() >= blocks * heads.dim && run.values.len() >= run.len * heads.dim, "attention: run");
        }
    }
    let first_row: Vec<usize> = items
        .iter()
        .scan(0, |at, i| {
            *at += i.rows;
            Some(*at - i.rows)
        })
        .collect();
    let out = Shared(out.as_mut_ptr());
    let lse = lse.map(|l| Shared(l.as_mut_ptr()));
    let jobs = plan(items, heads);
    let work = |job: &Job| one(level, q, (heads, window, cap), items, &first_row, job, &out, lse.as_ref());
    if jobs.len() == 1 {
        jobs.iter().for_each(work);
    } else {
        // Late rows of a causal block see most keys: hand them out first.
        jobs.par_iter().rev().with_max_len(1).for_each(work);
    }
}

fn same(a: &Run<'_>, b: &Run<'_>) -> bool {
    a.len == b.len && std::ptr::eq(a.keys.as_ptr(), b.keys.as_ptr())
}

/// Cuts items into jobs. Neighbours with few rows and one first run go together, so that the run is
/// read once.
fn plan(items: &[Item<'_>], heads: Heads) -> Vec<Job> {
    let room = (QUERIES / heads.group()).max(1);
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    let mut open = 0;
    for (i, item) in items.iter().enumerate() {
        if item.rows == 0 {
            continue;
        }
        let joins = open > 0
            && open + item.rows <= room
            && groups.last().is_some_and(|g| {
                let other = &items[g[0].item];
                let (a, b) = (&other.runs[0], &item.runs[0]);
                a.len() > 1 && b.len() > 1 && same(&a[0], &b[0]) && b[0].len + item.rows <= item.keys()
            });
        if joins {
            open += item.rows;
            if let Some(group) = groups.last_mut() {
                group.push(Piece { item: i, from: 0, to: item.rows });
            }
            continue;
        }
        let mut from = 0;
        while from < item.rows {
            let to = (from + room).min(item.rows);
            groups.push(vec![Piece { item: i, from, to }]);
            open = if from == 0 && to == item.rows { to } else { 0 };
            from = to;
        }
    }
    let mut jobs = Vec::with_capacity(groups.len() * heads.kv);
    for pieces in groups {
        jobs.extend((0..heads.kv).map(|head| Job { head, pieces: pieces.clone() }));
    }
    jobs
}

#[allow(clippy::too_many_arguments)]
fn one(
    level: Level,
    q: &[f32],
    (heads, window, cap): (Heads, Option<usize>, Option<f32>),
    items: &[Item<'_>],
    first_row: &[usize],
    job: &Job,
    out: &Shared<f32>,
    lse: Option<&Shared<f32>>,
) {
    let (dim, group, width) = (heads.dim, heads.group(), heads.query * heads.dim);
    let count: usize = job.pieces.iter().map(|p| (p.to - p.from) * group).sum();
    let scale = 1.0 / (dim as f32).sqrt();
    let mut state = State {
        dim,
        cap,
        queries: Vec::with_capacity(count * dim),
        sums: vec![0.0; count * dim],
        top: vec![f32::NEG_INFINITY; count],
        total: vec![0.0; count],
        visible: Vec::with_capacity(count),
        first: Vec::with_capacity(count),
    };
    // (row, query head) of each query vector.
    let mut places = Vec::with_capacity(count);
    for piece in &job.pieces {
        let item = &items[piece.item];
        for row in piece.from..piece.to {
            for g in 0..group {
                let place = (first_row[piece.item] + row, job.head * group + g);
                state.queries.extend(q[place.0 * width + place.1 * dim..][..dim].iter().map(|x| x * scale));
                let visible = item.keys() - item.rows + row + 1;
                state.visible.push(visible);
                state.first.push(window.map_or(0, |window| visible.saturating_sub(window)));
                places.push(place);
            }
        }
    }
    let mut shared = 0;
    if job.pieces.len() > 1 {
        let runs = &items[job.pieces[0].item].runs[job.head][..1];
        shared = runs[0].len / TILE;
        simd::run(level, Pass { state: &mut state, from: 0, to: count, runs, first: 0, last: shared });
    }
    let mut from = 0;
    for piece in &job.pieces {
        let to = from + (piece.to - piece.from) * group;
        let runs = &items[piece.item].runs[job.head];
        let last = state.visible[from..to].iter().copied().fold(0, usize::max).div_ceil(TILE);
        // Tiles before every row's window are not read.
        let first = shared.max(state.first[from..to].iter().copied().fold(usize::MAX, usize::min) / TILE);
        simd::run(level, Pass { state: &mut state, from, to, runs, first, last });
        from = to;
    }
    for (n, &(row, head)) in places.iter().enumerate() {
        let inverse = 1.0 / state.total[n];
        // SAFETY: (row, head) belongs to this job alone, and lies inside out and lse, whose lengths
        // were checked.
        unsafe {
            let to = out.0.add(row * width + head * dim);
            for (i, s) in state.sums[n * dim..(n + 1) * dim].iter().enumerate() {
                *to.add(i) = s * inverse;
            }
            if let Some(lse) = lse {
                *lse.0.add(row * heads.query + head) = state.top[n] + state.total[n].ln();
            }
        }
    }
}

/// Causal attention of whole sequences with row-major k and v (rows of all sequences, kv heads,
/// dim), no cache: what training needs. `lengths` are the sequences' rows in order. Panics when the
/// shapes do not fit.
pub fn causal(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    lengths: &[usize],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let width = heads.kv * heads.dim;
    let rows: usize = lengths.iter().sum();
    assert!(k.len() == rows * width && v.len() == k.len(), "attention: {} keys for {rows} rows", k.len());
    let mut from = 0;
    let mut stored = Vec::with_capacity(lengths.len() * heads.kv);
    for &n in lengths {
        for head in 0..heads.kv {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            if n > 0 {
                let span = from * width + head * heads.dim..(from + n - 1) * width + (head + 1) * heads.dim;
                append(&mut keys, &mut values, 0, &k[span.clone()], &v[span], width, heads.dim);
            }
            stored.push((keys, values, n));
        }
        from += n;
    }
    let items: Vec<Item<'_>> = stored
        .chunks(heads.kv)
        .zip(lengths)
        .map(|(parts, &rows)| Item {
            rows,
            runs: parts.iter().map(|p| vec![Run { keys: &p.0, values: &p.1, len: p.2 }]).collect(),
        })
        .collect();
    attend(q, heads, &items, out, lse);
}
