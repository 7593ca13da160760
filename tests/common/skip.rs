//! What a test says that cannot run here. A test that was skipped has not passed, so `.ci/run`
//! counts them, says why, and fails where one could have run.

use std::fmt::Display;
use std::io::Write;

/// Says that the running test is skipped. `needs` is what it lacks, in words that `.ci/skips` looks
/// for: `file PATH`, `env NAME`, `model NAME`, `mount`, `plain user`, or anything else.
pub fn skip(needs: &str, why: impl Display) {
    println!("skipped: {why}");
    let Some(file) = std::env::var_os("RALLREC_SKIPPED") else { return };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let why = why.to_string().replace(['\t', '\n'], " ");
    let mut file = std::fs::File::options().append(true).create(true).open(file).expect("the list of skipped tests");
    // One write, so that lines of several tests do not mix.
    file.write_all(format!("{needs}\t{test}\t{why}\n").as_bytes()).expect("the list of skipped tests");
}
