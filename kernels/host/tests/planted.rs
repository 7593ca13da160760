//! Each sort of bug that a GPU hides is found and named by its line. Built with `RALLREC_SANITIZE`,
//! the same kernels show that the sanitisers find what the plain build can only see in the results.

use rallrec_kernels_host::{Arg, Fault, Launch, Memory, TensorMap};

const SOURCE: &str = include_str!("planted.cu");

/// Lines marked `// BUG <what>`.
fn marked(what: &str) -> Vec<usize> {
    let lines: Vec<usize> = SOURCE
        .lines()
        .enumerate()
        .filter(|(_, l)| l.split("// BUG ").nth(1).is_some_and(|m| m.trim() == what))
        .map(|(i, _)| i + 1)
        .collect();
    assert!(!lines.is_empty(), "no line is marked {what}");
    lines
}

struct Floats(Memory, usize);

impl Floats {
    fn new(values: &[f32]) -> Self {
        let memory = Memory::new(4 * values.len(), "values").unwrap();
        // SAFETY: the buffer has room for these values.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), memory.address() as *mut f32, values.len()) };
        Self(memory, values.len())
    }
    fn arg(&self) -> Arg {
        Arg::Pointer(self.0.address())
    }
    fn get(&self) -> Vec<f32> {
        // SAFETY: as many values as were put there.
        unsafe { std::slice::from_raw_parts(self.0.address() as *const f32, self.1) }.to_vec()
    }
}

fn launch(kernel: &str, threads: u32, seed: u64, args: &[Arg]) -> Result<(), Box<Fault>> {
    Launch { kernel, grid: [1; 3], block: [threads, 1, 1], shared: 0, seed }.run(args)
}

#[track_caller]
fn named(result: Result<(), Box<Fault>>, bug: &str, says: &str) {
    let fault = result.expect_err("the bug was not found");
    let place = fault.place.clone().unwrap_or_default();
    let right = marked(bug).iter().any(|line| place == format!("planted.cu:{line}"));
    assert!(right, "named {place:?} and not line {:?}: {fault}", marked(bug));
    assert!(fault.message.contains(says), "{fault}");
}

fn out() -> Floats {
    Floats::new(&[0.0; 128])
}

fn ascending() -> Floats {
    Floats::new(&(0..128).map(|i| i as f32).collect::<Vec<_>>())
}

/// Whether the values are right under each of many orders.
fn always(kernel: &str, want: &[f32]) -> bool {
    (0..50).all(|seed| {
        let (out, input) = (out(), ascending());
        launch(kernel, 128, seed, &[out.arg(), input.arg()]).unwrap();
        out.get()[..want.len()] == *want
    })
}

const SUMS: [f32; 4] = [3568.0, 2544.0, 1520.0, 496.0];

#[test]
fn a_missing_barrier_shows_in_some_order() {
    assert!(always("planted_sum_good", &SUMS));
    if cfg!(not(sanitized)) {
        assert!(!always("planted_sum_bad", &SUMS), "no order of 50 showed it");
    }
}

/// Each thread of a test harness kept the stacks of its kernels for good: a process with many tests
/// ran out of mappings.
#[cfg(all(target_os = "linux", not(sanitized)))]
#[test]
fn a_thread_that_ends_gives_its_stacks_back() {
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = mappings();
    for _ in 0..20 {
        std::thread::spawn(|| assert!(always("planted_sum_good", &SUMS))).join().unwrap();
    }
    // 20 threads of 128 stacks with guards; the tests beside this one have some hundreds at work.
    assert!(mappings() < before + 2_000, "{before} mappings, then {}", mappings());
}

#[test]
fn a_divergent_barrier_is_named() {
    named(launch("planted_divergent", 128, 1, &[out().arg()]), "divergent barrier", "divergent barrier");
}

#[test]
fn a_barrier_that_a_thread_misses_is_named() {
    named(
        launch("planted_unreached", 128, 1, &[out().arg()]),
        "not reached",
        "127 of 128 threads wait here; thread 77 has ended",
    );
}

#[test]
fn half_a_warp_in_a_full_shuffle_is_named() {
    named(launch("planted_half_warp", 128, 1, &[out().arg()]), "half warp", "16 of the 32 lanes");
}

#[test]
fn a_lane_outside_the_mask_is_named() {
    named(launch("planted_strange_lane", 128, 1, &[out().arg()]), "lane outside the mask", "reads lane 20");
}

#[test]
fn a_copy_that_nobody_waits_for_is_named() {
    named(
        launch("planted_async_left", 32, 1, &[out().arg(), ascending().arg()]),
        "nobody waits",
        "nobody waits for it",
    );
}

#[test]
fn a_matrix_load_before_its_copy_landed_is_named() {
    let result = launch("planted_async_matrix", 32, 1, &[out().arg(), ascending().arg()]);
    named(result, "matrix read before it landed", "has not landed");
}

#[test]
fn reading_before_a_copy_landed_gives_no_numbers() {
    let want: Vec<f32> = (0..128).map(|i| 127.0 - i as f32).collect();
    assert!(always("planted_async_good", &want));
    if cfg!(not(sanitized)) {
        let (out, input) = (out(), ascending());
        launch("planted_async_bad", 128, 1, &[out.arg(), input.arg()]).unwrap();
        assert!(out.get().iter().any(|v| v.is_nan()), "every value had landed: {:?}", out.get());
    }
}

#[test]
fn shared_memory_is_fresh_for_every_block() {
    let out = out();
    let two = Launch { kernel: "planted_uninitialised", grid: [4, 1, 1], block: [32, 1, 1], shared: 0, seed: 0 };
    two.run(&[out.arg()]).unwrap();
    assert!(out.get().iter().all(|v| v.is_nan()), "{:?}", out.get());
}

/// Two numbers that all blocks of a launch share, after it, for each of many seeds.
fn shared_numbers(kernel: &str) -> Vec<[u32; 2]> {
    let run = |seed| {
        let words = Floats::new(&[0.0; 2]);
        let grid = Launch { kernel, grid: [16, 1, 1], block: [32, 1, 1], shared: 0, seed };
        grid.run(&[words.arg()]).unwrap();
        let got = words.get();
        [got[0].to_bits(), got[1].to_bits()]
    };
    (0..20).map(run).collect()
}

#[test]
fn a_race_between_blocks_shows_in_some_order() {
    assert!(shared_numbers("planted_count_good").iter().all(|n| n[0] == 16));
    if cfg!(not(sanitized)) {
        let bad = shared_numbers("planted_count_bad");
        assert!(bad.iter().filter(|n| n[0] < 16).count() > 10, "blocks ran one after the other: {bad:?}");
    }
}

#[test]
fn a_number_read_too_early_shows_in_some_order() {
    assert!(shared_numbers("planted_last_good").iter().all(|n| *n == [16, 1]));
    if cfg!(not(sanitized)) {
        let bad = shared_numbers("planted_last_bad");
        assert!(bad.iter().any(|n| *n != [16, 1]), "each block saw all that had ended: {bad:?}");
    }
}

#[test]
fn more_shared_memory_than_a_block_may_have_is_named() {
    // 16 KiB of its own: with 211 KiB of the launch it is all there is.
    let run = |shared| {
        let launch = Launch { kernel: "planted_shared_limit", grid: [1; 3], block: [32, 1, 1], shared, seed: 0 };
        launch.run(&[out().arg()])
    };
    run(211 * 1024).unwrap();
    named(run(211 * 1024 + 16), "more shared memory than there is", "a block may have 227 KiB");
}

#[test]
fn registers_that_nobody_gives_back_are_named() {
    let run = |kernel| {
        let out = Floats::new(&[0.0; 384]);
        Launch { kernel, grid: [1; 3], block: [384, 1, 1], shared: 0, seed: 3 }.run(&[out.arg()])
    };
    run("planted_registers_good").unwrap();
    named(run("planted_registers_bad"), "registers that nobody gives back", "launched with 168 for each");
}

#[test]
fn wrong_launches_are_refused() {
    let out = out();
    let says = |result: Result<(), Box<Fault>>, what: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    };
    says(launch("planted_unreached", 128, 0, &[]), "0 arguments; the kernel takes 1");
    says(launch("planted_unreached", 128, 0, &[Arg::U32(1)]), "argument 0 has 4 bytes; the kernel takes 8");
    says(launch("planted_stack", 64, 0, &[out.arg()]), "64 threads a block; the kernel takes 1 to 32");
    says(launch("planted_dynamic_bounds", 128, 0, &[out.arg()]), "no dynamic shared memory");
}

/// Steps of the ring, and the columns of both matrices.
const STEPS: u32 = 5;
const DEPTH: usize = 64 * STEPS as usize;

fn bf16(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16 // of small whole numbers: exact
}

/// Small whole numbers, so that sums are exact in any order.
fn whole(i: usize) -> f32 {
    (i * 7 % 11) as f32 - 5.0
}

/// One of the kernels on the ring of tiles, with A of 60 rows and B of 128: what it gives, 64 x
/// 128.
fn ring(bug: &str, seed: u64) -> Result<Vec<f32>, Box<Fault>> {
    let matrix = |rows: usize| {
        let values: Vec<u16> = (0..rows * DEPTH).map(|i| bf16(whole(i))).collect();
        let memory = Memory::new(2 * values.len(), "matrix").unwrap();
        // SAFETY: the buffer has room for these values.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), memory.address() as *mut u16, values.len()) };
        memory
    };
    let (a, b) = (matrix(60), matrix(128));
    let map = |memory: &Memory, rows: u64, box_rows| {
        let stride = 2 * DEPTH as u64;
        TensorMap { address: memory.address(), columns: DEPTH as u64, rows, stride, box_rows }.encode().unwrap()
    };
    let words = [map(&a, 60, 64), map(&b, 128, 128)].concat();
    let maps = Memory::new(8 * words.len(), "maps").unwrap();
    // SAFETY: as above.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), maps.address() as *mut u64, words.len()) };
    let out = Floats::new(&[0.0; 64 * 128]);
    let kernel = format!("planted_ring_{bug}");
    let launch = Launch { kernel: &kernel, grid: [1; 3], block: [256, 1, 1], shared: 2 * (8192 + 16384), seed };
    launch.run(&[Arg::Pointer(maps.address()), out.arg(), Arg::U32(STEPS)])?;
    Ok(out.get())
}

#[test]
fn a_ring_of_tiles_multiplies() {
    let want = |i: usize, j: usize| -> f32 {
        if i < 60 { (0..DEPTH).map(|k| whole(i * DEPTH + k) * whole(j * DEPTH + k)).sum() } else { 0.0 }
    };
    let want: Vec<f32> = (0..64 * 128).map(|at| want(at / 128, at % 128)).collect();
    for seed in 0..10 {
        assert!(ring("good", seed).unwrap() == want, "seed {seed}");
    }
}

/// Found with every seed, and named so.
#[track_caller]
fn ring_named(kernel: &str, bug: &str, says: &[&str]) {
    ring_named_by(20, kernel, bug, says);
}

/// Found with so many of 20 seeds, and named so.
#[track_caller]
fn ring_named_by(least: usize, kernel: &str, bug: &str, says: &[&str]) {
    let mut found = 0;
    for seed in 0..20 {
        let result = ring(kernel, seed).map(|_| ());
        let Err(fault) = result.clone() else { continue };
        found += 1;
        let said = says.iter().find(|says| fault.message.contains(*says));
        named(result, bug, said.unwrap_or_else(|| panic!("seed {seed}: {fault}")));
    }
    assert!(found >= least, "the bug was found with {found} of 20 seeds");
}

#[test]
fn a_barrier_that_was_not_fenced_is_named() {
    ring_named("no_fence", "asked for too early", &["did not call mbarrier_init_fence"]);
}

#[test]
fn a_stage_released_too_early_is_named() {
    // Not in the orders in which it is the warp that loads which waits for all others.
    ring_named_by(10, "early_release", "asked for too early", &["overwrites what the wgmma in line"]);
}

#[test]
fn a_tile_multiplied_before_it_landed_is_named() {
    ring_named(
        "no_wait",
        "not a whole group, or not landed",
        &["has not landed", "nobody has written", "nobody of its warpgroup has waited"],
    );
}

#[test]
fn a_product_by_half_a_warpgroup_is_named() {
    ring_named("half_group", "not a whole group, or not landed", &["64 of the 128 threads of warpgroup 0 arrive"]);
}

#[test]
fn accumulators_read_before_the_wait_are_named() {
    ring_named("early_read", "not waited for", &["read while wgmma is under way"]);
}

#[test]
fn a_barrier_that_waits_for_other_bytes_is_named() {
    ring_named("too_many", "wrong number of bytes", &["128 more bytes were announced"]);
    ring_named("too_few", "wrong number of bytes", &["128 more bytes have landed than were announced"]);
}

#[test]
fn a_circle_of_waits_is_named() {
    let fault = ring("other_parity", 1).unwrap_err();
    let also = format!("thread 128 waits in line {}", marked("wrong parity")[0]);
    assert!(fault.message.contains("1 of 1 arrivals are missing") && fault.message.contains(&also), "{fault}");
}

// What follows ends the process in a sanitised build; there `sanitizers` below runs it.
#[cfg(not(sanitized))]
mod plain {
    use super::*;

    #[test]
    fn shared_out_of_bounds_is_named() {
        let says = "byte 512 of shared array tile, which has 512";
        named(launch("planted_shared_bounds", 128, 1, &[out().arg()]), "shared out of bounds", says);
    }

    #[test]
    fn dynamic_shared_out_of_bounds_is_named() {
        let launch =
            Launch { kernel: "planted_dynamic_bounds", grid: [1; 3], block: [128, 1, 1], shared: 512, seed: 1 };
        named(launch.run(&[out().arg()]), "dynamic out of bounds", "dynamic shared memory, which has 512");
    }

    #[test]
    fn the_last_tile_is_named() {
        for n in [128u32, 200, 256] {
            let x = Floats::new(&vec![1.0; n as usize]);
            let run = |kernel| {
                Launch { kernel, grid: [3, 1, 1], block: [128, 1, 1], shared: 0, seed: 1 }.run(&[x.arg(), Arg::U32(n)])
            };
            run("planted_tile_good").unwrap();
            assert!(x.get().iter().all(|&v| v == 2.0));
            named(run("planted_tile_bad"), "last tile", &format!("byte {} of buffer values", 4 * n));
        }
        // Where the end is not aligned to 16 bytes, the write is found when the kernel is done.
        let x = Floats::new(&[1.0; 5]);
        let bad = launch("planted_tile_bad", 128, 1, &[x.arg(), Arg::U32(5)]).unwrap_err();
        assert!(bad.message.contains("beyond the last of 20 bytes of values"), "{bad}");
    }

    #[test]
    fn a_full_stack_is_named() {
        let fault = launch("planted_stack", 32, 1, &[out().arg()]).unwrap_err();
        assert!(fault.message.contains("stack is full"), "{fault}");
        // The next launch is none the worse.
        launch("planted_sum_good", 128, 0, &[out().arg(), ascending().arg()]).unwrap();
    }
}

#[cfg(sanitized)]
mod sanitizers {
    use super::*;
    use std::process::Command;

    /// Runs in a process of its own, which the sanitiser ends.
    #[test]
    #[ignore = "the child of the tests below"]
    fn child() {
        let (out, input) = (out(), ascending());
        let kernel = std::env::var("PLANTED").unwrap();
        let args = [out.arg(), input.arg()];
        let count = if kernel.contains("bounds") { 1 } else { 2 };
        for seed in 0..8 {
            launch(&kernel, 128, seed, &args[..count]).unwrap();
        }
    }

    fn report(kernel: &str) -> (bool, String) {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["sanitizers::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PLANTED", kernel)
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    #[track_caller]
    fn reports(kernel: &str, bug: &str, sort: &str) {
        let (fine, text) = report(kernel);
        assert!(!fine && text.contains(sort), "{kernel}: {text}");
        assert!(marked(bug).iter().any(|l| text.contains(&format!("planted.cu:{l}"))), "{kernel}: {text}");
    }

    #[test]
    fn the_sanitizer_names_the_line() {
        if cfg!(sanitized = "thread") {
            assert!(report("planted_sum_good").0, "{}", report("planted_sum_good").1);
            reports("planted_sum_bad", "missing barrier", "data race");
        } else {
            assert!(report("planted_async_good").0, "{}", report("planted_async_good").1);
            reports("planted_async_bad", "read before it landed", "use-after-poison");
        }
    }
}
