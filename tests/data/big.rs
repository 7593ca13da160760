//! Thirty million ratings; run on request, in a build with optimisation.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use rallrec::Silent;
use rallrec::data::{self, DataSettings, Kind};
use rallrec::rng::{Rng, Use};

/// Peak of the resident memory so far, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().map_or(0, |kb| kb >> 10)
}

#[test]
#[ignore = "writes 200 MB and takes a minute; RALLREC_ROWS sets the number of rows"]
fn thirty_million_ratings_in_bounded_memory_and_time() {
    let rows: u64 = std::env::var("RALLREC_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(30_000_000);
    // 200,000 users and 80,000 items at thirty million; fewer rows keep the ratings of a user.
    let (users, items) = ((rows / 150).max(1) as u32, (rows / 375).max(1) as u32);
    let dir = tempfile::tempdir().expect("folder");
    let mut movies = BufWriter::new(File::create(dir.path().join("movies.csv")).expect("creates"));
    writeln!(movies, "movieId,title,genres").expect("writes");
    (0..items).for_each(|i| writeln!(movies, "{},\"Title, {i}\",Drama|Comedy", 3 * i + 1).expect("writes"));
    movies.flush().expect("writes");
    let file = File::create(dir.path().join("ratings.csv.gz")).expect("creates");
    let mut ratings = BufWriter::new(GzEncoder::new(file, Compression::fast()));
    writeln!(ratings, "userId,movieId,rating,timestamp").expect("writes");
    let mut rng = Rng::new(7, Use::Synthetic, 0, 0);
    for n in 0..rows {
        let user = n * u64::from(users) / rows + 1;
        // Squared: some items are far more popular.
        let item = 3 * ((rng.uniform() * rng.uniform() * items as f32) as u32) + 1;
        let (half, time) = (1 + rng.below(10), 800_000_000 + rng.below(900_000_000));
        writeln!(ratings, "{user},{item},{}.{},{time}", half / 2, 5 * (half % 2)).expect("writes");
    }
    ratings.into_inner().expect("writes").finish().expect("packs");
    println!("before: {} MiB", peak());
    let start = Instant::now();
    let settings = DataSettings::new(Kind::ML_25M, dir.path());
    let dataset = data::open(&settings, &Silent).expect("opens");
    let (read, read_peak) = (start.elapsed().as_secs_f64(), peak());
    println!("read {rows} ratings, gzip: {read:.1} s, peak {read_peak} MiB");
    assert_eq!(dataset.interactions.len() as u64, rows);
    let start = Instant::now();
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    println!("{} samples: {:.1} s, peak {} MiB", samples.samples.len(), start.elapsed().as_secs_f64(), peak());
    assert!(read < 60.0, "{read} s");
    assert!(peak() < 4096, "{} MiB", peak());
}
