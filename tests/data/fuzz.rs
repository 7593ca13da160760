//! The fuzz targets on mutated seeds, without a fuzzer: a few seconds a target, or as long as
//! RALLREC_FUZZ_SECONDS says. RALLREC_FUZZ_SEED varies the draw; RALLREC_FUZZ_TARGET names one
//! target.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rallrec::rng::{Rng, Use};

use super::parquet_file;

/// The committed seeds of a target and one for each of its sound files.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let (_, files) = targets::TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let mut seeds: Vec<Vec<u8>> =
        files.iter().enumerate().map(|(n, (_, sound))| [&[n as u8][..], sound].concat()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut committed: Vec<_> = fs::read_dir(&folder).map_or(Vec::new(), |d| d.flatten().map(|e| e.path()).collect());
    committed.sort();
    if target == "table_parquet" {
        for (rows, group) in [(3, 3), (40, 17)] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            parquet_file::parquet(file.path(), rows, group);
            // The second bit from above: damaged rows are skipped.
            seeds.push([&[0x40][..], &fs::read(file.path()).expect("reads")].concat());
        }
    }
    seeds.extend(committed.iter().map(|path| fs::read(path).expect("reads")));
    seeds
}

const WORDS: [&[u8]; 20] = [
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b";",
    b",",
    b"::",
    b"|",
    b"\t",
    b"\0",
    b"-1",
    b"NaN",
    b"1e999",
    b"18446744073709551616",
    b"4102444801",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"{\"",
];

fn mutate(seed: &[u8], seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + rng.below(6) {
        let at = rng.below(bytes.len().max(1) as u32) as usize;
        match rng.below(8) {
            0 if !bytes.is_empty() => bytes[at] = rng.next_u32() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => {
                let word = WORDS[rng.below(WORDS.len() as u32) as usize];
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), word.iter().copied());
            }
            4 => {
                let end = (at + rng.below(12) as usize).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let other = &seeds[rng.below(seeds.len() as u32) as usize];
                let from = rng.below(other.len().max(1) as u32) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from.min(other.len())..]);
            }
            6 => {
                let end = (at + rng.below(40) as usize).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                for _ in 0..rng.below(4) {
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), piece.iter().copied());
                }
            }
            _ => {
                if let Some(first) = bytes.first_mut() {
                    *first = rng.next_u32() as u8;
                }
            }
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

#[test]
fn no_reader_breaks_on_mutated_seeds() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(or);
    let (seconds, seed) = (number("RALLREC_FUZZ_SECONDS", 2), number("RALLREC_FUZZ_SEED", 1));
    let only = std::env::var("RALLREC_FUZZ_TARGET").ok();
    let shm = Path::new("/dev/shm");
    for (t, (target, _)) in targets::TARGETS.iter().enumerate() {
        if only.as_deref().is_some_and(|only| only != *target) {
            continue;
        }
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("folder");
        let seeds = seeds(target);
        seeds.iter().for_each(|seed| targets::one(target, seed, folder.path()));
        let mut rng = Rng::new(seed, Use::Synthetic, t as u32, 77);
        let (start, mut runs, mut slowest) = (Instant::now(), 0u64, Duration::ZERO);
        while start.elapsed() < Duration::from_secs(seconds) {
            let of = &seeds[rng.below(seeds.len() as u32) as usize];
            let input = mutate(of, &seeds, &mut rng);
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| targets::one(target, &input, folder.path()));
            if outcome.is_err() {
                let kept = std::env::temp_dir().join(format!("rallrec-fuzz-{target}"));
                fs::write(&kept, &input).expect("writes");
                panic!("{target} broke on {}", kept.display());
            }
            slowest = slowest.max(begun.elapsed());
            runs += 1;
        }
        println!("{target}: {runs} inputs from {} seeds, slowest {slowest:?}", seeds.len());
        assert!(slowest < Duration::from_secs(20), "{target} hangs");
    }
}
