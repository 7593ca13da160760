//! A profiler that listens by NVTX 3 is told of stages by name; without one nothing is loaded.

use std::fs;
use std::process::Command;

use super::common::{Place, Said, rallrec};

/// What a tool brings: it finds the places of two functions, and writes down what they are told.
const TOOL: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static void say(const char* what, const char* name) {
    FILE* file = fopen(getenv("NVTX_SEEN"), "a");
    fprintf(file, "%s %s\n", what, name);
    fclose(file);
}
static int push(const char* name) { say("push", name); return 0; }
static int pop(void) { say("pop", ""); return 0; }
struct callbacks { size_t bytes; int (*functions)(unsigned, void**** table, unsigned* size); };
int InitializeInjectionNvtx2(const void* (*export)(uint32_t)) {
    const struct callbacks* c = export(1);
    void*** table;
    unsigned size;
    if (!c || c->bytes < sizeof *c || !c->functions(1, &table, &size) || size < 12) return 0;
    *table[9] = (void*)push;
    *table[11] = (void*)pop;
    return 1;
}
"#;

#[test]
fn stages_are_ranges_for_a_tool_that_listens() {
    let place = Place::new();
    let recipe = place.recipe();
    let (source, library, seen) = (place.text("tool.c"), place.text("tool.so"), place.text("seen"));
    fs::write(&source, TOOL).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).output();
    if !built.is_ok_and(|done| done.status.success()) {
        return super::skip::skip("C compiler", "no C compiler");
    }
    let run = |profile: &[&str], out: &str| {
        let mut command = rallrec();
        command.env("NVTX_INJECTION64_PATH", &library).env("NVTX_SEEN", &seen);
        command.args(["run", &recipe, "--until", "data", "--out", &place.text(out)]).args(profile);
        Said::of(&command.output().unwrap()).ended_with(0)
    };
    run(&[], "quiet");
    assert!(!place.at("seen").exists(), "nothing is profiled, and the tool is told");
    run(&["--profile"], "told");
    let told = fs::read_to_string(place.at("seen")).unwrap();
    let count = |what: &str| told.lines().filter(|line| line.starts_with(what)).count();
    assert!(told.contains("push data\n") && count("push") == count("pop"), "{told}");
}
