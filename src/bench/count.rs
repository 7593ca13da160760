//! Instructions of small works, counted by callgrind: the same from hour to hour, where clocks
//! differ by a third. `.ci/counts` reads the dumps and holds them against committed counts.
//!
//! callgrind simulates a processor with AVX2 and without AVX-512. One thread works, and what is cut
//! by the size of a cache takes it for 1 MiB, so that the machine does not show in the counts.

use std::fmt::Write;

use crate::error::{Error, Result};
use crate::ops::registry::{self, Case, Make};
use crate::tensor::simd::{self, Level, cache};

/// Bytes that are taken for the second-level cache.
const CACHE: usize = 1 << 20;

/// What a program can ask of the simulator that it runs under.
mod simulator {
    use std::ffi::CString;

    /// Whether there is one.
    const RUNNING: u64 = 0x1001;
    /// callgrind's own begin here: 'C', 'T'.
    const CALLGRIND: u64 = 0x4354_0000;

    /// Valgrind knows a request by five instructions that do nothing; the answer is 0 without it.
    fn ask(request: u64, argument: u64) -> u64 {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        {
            let arguments = [request, argument, 0, 0, 0, 0];
            let mut answer = 0u64;
            // SAFETY: rdi is turned by 128 bits in all; rbx is exchanged with itself. Valgrind
            // reads the six arguments at rax and writes rdx.
            unsafe {
                std::arch::asm!(
                    "rol rdi, 3",
                    "rol rdi, 13",
                    "rol rdi, 61",
                    "rol rdi, 51",
                    "xchg rbx, rbx",
                    in("rax") arguments.as_ptr(),
                    inout("rdx") answer,
                    options(nostack),
                );
            }
            answer
        }
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        {
            let _ = (request, argument);
            0
        }
    }

    pub fn is_there() -> bool {
        ask(RUNNING, 0) > 0
    }

    /// Counts what `work` does, and writes it to a dump of this name.
    pub fn count<T>(name: &str, work: impl FnOnce() -> T) -> T {
        // A name from the lists of cases has no byte 0 in it.
        let name = CString::new(name).unwrap_or_default();
        ask(CALLGRIND + 4, 0);
        ask(CALLGRIND + 1, 0);
        let out = work();
        ask(CALLGRIND + 3, name.as_ptr() as u64);
        ask(CALLGRIND + 5, 0);
        out
    }
}

/// The works that are counted.
fn cases() -> impl Iterator<Item = &'static Case> {
    registry::ALL.iter().flat_map(|o| o.counted)
}

/// Runs every small work once, between two dumps of callgrind's counts, on the pool's one thread;
/// returns their names.
///
/// # Errors
/// No callgrind, a processor without AVX2, a work that fails.
pub fn all() -> Result<String> {
    if !simulator::is_there() {
        return Err(Error::usage("--count", "counts instructions under valgrind --tool=callgrind --instr-atstart=no")
            .next("run .ci/counts"));
    }
    if simd::level() != Level::Avx2 {
        let what = format!("counts are those of AVX2, and this is {:?}", simd::level());
        return Err(Error::usage("--count", what).next("run it on a processor with AVX2 and FMA"));
    }
    cache::assume_second_level(CACHE);
    registry::one_set();
    let mut names = String::new();
    // On the thread of the pool, where nothing is handed over.
    rayon::scope(|_| {
        for case in cases() {
            let Make::Cpu(make) = case.make else { continue };
            let mut prepared = make()?;
            // Once before, so that what is made at the first call is not counted.
            (prepared.run)(0)?;
            let name = format!("{}: {}", case.op, case.work);
            simulator::count(&name, || (prepared.run)(0))?;
            writeln!(names, "{name}").map_err(|e| Error::failed("bench", e))?;
        }
        Ok(names)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_works_run_and_have_names_of_their_own() {
        let mut names: Vec<(&str, &str)> = cases().map(|case| (case.op, case.work)).collect();
        assert!(names.len() > 20, "{} works", names.len());
        for case in cases() {
            let Make::Cpu(make) = case.make else { panic!("{}: not of the CPU", case.op) };
            (make().unwrap().run)(0).unwrap();
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases().count(), "a name is taken twice");
    }

    #[test]
    fn without_callgrind_the_way_to_it_is_told() {
        if !simulator::is_there() {
            assert!(all().unwrap_err().next_step().contains(".ci/counts"));
        }
    }
}
