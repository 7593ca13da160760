//! Compiles the runtime and every kernel source as C++.
//!
//! `RALLREC_SANITIZE=address` or `thread` instruments the kernels (not the runtime, whose stack
//! switches a sanitiser must not see); the program that links them must then be linked with
//! `-fsanitize=` too.
//!
//! The profile decides how: a release build wants to be ready soon, a test build wants kernels that
//! run fast. Line tables are made where the profile has debug information; they name the lines of a
//! fault.

use std::env;
use std::path::{Path, PathBuf};

const FLAGS: [&str; 8] = include!("src/flags.rs");

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.ends_with(ending)))
        .collect();
    out.sort();
    out
}

fn build(level: u32) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).opt_level(level).debug(false);
    for flag in FLAGS {
        // Another compiler may not know the warnings that are turned off.
        if flag.starts_with("-Wno") {
            build.flag_if_supported(flag)
        } else {
            build.flag(flag)
        };
    }
    if !matches!(env::var("DEBUG").as_deref(), Ok("false" | "0" | "none")) {
        build.flag("-g1");
    }
    build
}

fn main() {
    let root =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).parent().expect("kernels/").to_owned();
    let sanitize = env::var("RALLREC_SANITIZE").unwrap_or_default();
    println!("cargo:rerun-if-env-changed=RALLREC_SANITIZE");
    for folder in [root.clone(), root.join("common"), root.join("host/runtime")] {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    // Instrumented templates take minutes at a higher level.
    let quick = env::var("PROFILE").as_deref() == Ok("release") || !sanitize.is_empty();
    let (mut runtime, mut kernels) = (build(2), build(if quick { 1 } else { 2 }));
    runtime.files(files(&root.join("host/runtime"), ".cpp"));
    println!("cargo:rerun-if-changed={}", root.join("host/tests/planted.cu").display());
    if env::var_os("CARGO_FEATURE_PLANTED").is_some() {
        kernels.file(root.join("host/tests/planted.cu"));
    }
    kernels.files(files(&root, ".cu")).flag("-xc++").link_lib_modifier("+whole-archive");
    match sanitize.as_str() {
        "" => {}
        "address" => {
            runtime.define("RALLREC_ASAN", None);
            kernels.define("RALLREC_ASAN", None).flag("-fsanitize=address,undefined").flag("-fno-sanitize-recover=all");
            // Address finds what these would find, and they treble the time of the templates.
            kernels.flag("-fno-sanitize=null,object-size,vptr");
        }
        "thread" => {
            runtime.define("RALLREC_TSAN", None);
            kernels.define("RALLREC_TSAN", None).flag("-fsanitize=thread");
        }
        other => panic!("RALLREC_SANITIZE is {other}; it can be address or thread"),
    }
    println!("cargo:rustc-check-cfg=cfg(sanitized, values(none(), \"address\", \"thread\"))");
    if !sanitize.is_empty() {
        println!("cargo:rustc-cfg=sanitized");
        println!("cargo:rustc-cfg=sanitized=\"{sanitize}\"");
        // Rust links without the compiler's default libraries, so the runtimes are named. They must
        // also be loaded before all others: run with LD_PRELOAD, as .ci/sanitize does.
        let runtimes: &[&str] = if sanitize == "address" { &["asan", "ubsan"] } else { &["tsan"] };
        for runtime in runtimes {
            println!("cargo:rustc-link-arg=-l{runtime}");
        }
    }
    // The kernels need the runtime: it comes after them on the linker's line.
    kernels.compile("rallrec_kernels");
    runtime.compile("rallrec_kernels_runtime");
}
