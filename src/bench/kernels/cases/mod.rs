//! The cases by family: shapes of an 8B model of the Llama kind, of SmolLM2, and of LightGCN on ML-1M and on larger sets. Each family's
//! list names every kernel that serves it, in both storages; a test holds the lists to the catalogue.

mod attention;
mod contrast;
mod decode;
mod decoder;
mod graph;
mod merge;
mod products;
mod search;
mod step;
mod vocabulary;

use super::{Case, Prepared, Scale};
use crate::bench::cases::normals;
use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::rows::kernel::duplicate;

type Make = fn(&KernelDevice, Scale) -> Result<Prepared>;

const fn case(op: &'static str, work: &'static str, make: Make) -> Case {
    Case { op, work, needs: (0, 0), make }
}

/// A case of a kernel for compute capability 9.0 alone.
const fn hopper(op: &'static str, work: &'static str, make: Make) -> Case {
    Case { op, work, needs: (9, 0), make }
}

const FAMILIES: [&[Case]; 10] = [
    graph::CASES,
    contrast::CASES,
    search::CASES,
    products::CASES,
    decode::CASES,
    attention::CASES,
    decoder::CASES,
    vocabulary::CASES,
    step::CASES,
    merge::CASES,
];

const COUNT: usize = {
    let (mut count, mut i) = (0, 0);
    while i < FAMILIES.len() {
        count += FAMILIES[i].len();
        i += 1;
    }
    count
};

const fn joined() -> [Case; COUNT] {
    let mut all = [case("", "", |_, _| unreachable!()); COUNT];
    let (mut at, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut i = 0;
        while i < FAMILIES[family].len() {
            all[at] = FAMILIES[family][i];
            at += 1;
            i += 1;
        }
        family += 1;
    }
    all
}

/// All cases, those of one operator together.
pub const CASES: &[Case] = &joined();

/// Bytes of inputs that are rotated through, beyond a GPU's second-level cache.
const ROTATED: usize = 256 << 20;

/// How many sets of so many bytes that takes.
fn sets(scale: Scale, bytes: usize) -> usize {
    if scale == Scale::Tiny { 2 } else { (ROTATED / bytes.max(1) + 1).clamp(2, 256) }
}

/// `n x width` normal values.
fn rows<T: Storage>(device: &KernelDevice, n: usize, width: usize, stream: u32) -> Result<DeviceRows<T>> {
    let values: Vec<T> = normals(n * width, stream).into_iter().map(T::from_f32).collect();
    DeviceRows::upload(device, width, &values, "bench")
}

/// The same rows in `count` places.
fn copies<T: Storage>(of: DeviceRows<T>, count: usize) -> Result<Vec<DeviceRows<T>>> {
    let mut all = Vec::with_capacity(count);
    for _ in 1..count {
        all.push(duplicate(&of, "bench")?);
    }
    all.push(of);
    Ok(all)
}

/// [`rows`] in as many places as rotating takes when a set has nothing else that is large.
fn rotated<T: Storage>(
    device: &KernelDevice,
    scale: Scale,
    (n, width): (usize, usize),
    stream: u32,
) -> Result<Vec<DeviceRows<T>>> {
    copies(rows(device, n, width, stream)?, sets(scale, size_of::<T>() * n * width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_reach_beyond_the_cache_or_are_many() {
        for bytes in [1 << 20, 3 << 20, 100 << 20, 1 << 30] {
            let n = sets(Scale::Full, bytes);
            assert!(n >= 2 && n * bytes >= ROTATED && (n - 2) * bytes <= ROTATED, "{n} sets of {bytes} bytes");
        }
        assert_eq!(sets(Scale::Full, 0), 256);
        assert!(CASES.windows(2).filter(|c| c[0].op != c[1].op).count() < 30, "an operator's cases are apart");
    }
}
