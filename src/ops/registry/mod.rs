//! The operators by name: one name for the profile, `rallrec check`, `rallrec bench`, the
//! dashboard, the room in `src/ops` and the sources in `kernels`. Each room's `cases.rs` has its
//! entry; this one has the list.

mod bench;
mod check;

pub use bench::{
    Case, Compared, Goal, Make, Prepared, Run, Scale, Units, copies, host_sets, normals, one_set, rotated, rows, sets,
};
pub(crate) use check::both;
pub use check::{Check, Class, On, Shape, dot, draw, drawn, errors, kernels_of, largest, narrow, stored, wide};

use crate::device::arguments::Layout;
use crate::error::{Error, Result};

/// An operator: what it is called, what serves it, how it is checked and measured.
#[derive(Debug)]
pub struct Operator {
    /// As the profile shows its calls on the CPU; a backward shows as this with `_backward` behind
    /// it.
    pub name: &'static str,
    /// Its folder in `src/ops`.
    pub room: &'static str,
    /// Sources in `kernels`, without ending: the room's name, or that with a variant behind it.
    pub sources: &'static [&'static str],
    /// Structs of arguments that its kernels share with Rust.
    pub arguments: &'static [Layout],
    /// Numbers that its kernels' sources state too (`RALLREC_CONSTANT`): rows of tiles, bytes of
    /// shared memory.
    pub constants: &'static [(&'static str, usize)],
    /// Its kernels.
    pub kernels: &'static [Kernel],
    /// Random cases against its oracle.
    pub checks: &'static [Check],
    /// Works that are measured.
    pub cases: &'static [Case],
    /// Small works of the CPU whose instructions are counted.
    pub counted: &'static [Case],
}

/// A kernel, or the same kernel for several storage types and widths.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Name without type and width.
    pub name: &'static str,
    /// What stands behind the name: types, widths.
    pub variants: &'static [&'static str],
    /// Blocks.
    pub grid: &'static str,
    /// Threads.
    pub block: u32,
    /// Bytes and FLOP, s being the bytes of a stored value.
    pub cost: &'static str,
    /// Who calls it for what.
    pub serves: &'static str,
}

impl Kernel {
    /// Full names, as in the source.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.variants.iter().map(|v| if v.is_empty() { self.name.to_owned() } else { format!("{}_{v}", self.name) })
    }
}

/// Both storage types.
pub const TYPES: &[&str] = &["f32", "bf16"];
/// A kernel that stands alone.
pub const ONE: &[&str] = &[""];

/// A list of kernels, a line each: name, variants, blocks, threads, cost, purpose.
macro_rules! kernels {
    ($($name:literal $variants:ident [$grid:literal] $block:literal $cost:literal $serves:literal)*) => {
        &[$($crate::ops::registry::Kernel {
            name: $name, variants: $variants, grid: $grid, block: $block, cost: $cost, serves: $serves,
        }),*]
    };
}
pub(crate) use kernels;

/// Every operator, rooms in alphabetical order.
pub const ALL: &[&Operator] = &[
    &super::adam::cases::OPERATOR,
    &super::adamw::cases::OPERATOR,
    &super::attention::cases::OPERATOR,
    &super::attention::cases::DECODE,
    &super::bpr::cases::OPERATOR,
    &super::cross_entropy::cases::OPERATOR,
    &super::cross_entropy::cases::CHOOSE,
    &super::geglu::cases::OPERATOR,
    &super::infonce::cases::OPERATOR,
    &super::linear::cases::OPERATOR,
    &super::linear::cases::BF16,
    &super::linear::cases::INT8,
    &super::linear::cases::DECODE,
    &super::linear::cases::DEQUANTISE,
    &super::lora::cases::OPERATOR,
    &super::lora::cases::DROPOUT,
    &super::lora::cases::SM90A,
    &super::merge::cases::OPERATOR,
    &super::mlp::cases::OPERATOR,
    &super::peak::cases::OPERATOR,
    &super::rmsnorm::cases::OPERATOR,
    &super::rope::cases::OPERATOR,
    &super::rows::cases::OPERATOR,
    &super::sampling::cases::OPERATOR,
    &super::spmm::cases::OPERATOR,
    &super::swiglu::cases::OPERATOR,
    &super::topk::cases::OPERATOR,
];

/// Names of the version before, and what they are called now.
const FORMER: &[(&str, &str)] = &[
    ("decode", "linear_decode"),
    ("decode_attention", "attention_decode"),
    ("wgmma", "lora_sm90a"),
    ("widen", "dequantise"),
    ("gemm", "linear"),
    ("add_rows", "rows"),
    ("copy", "rows"),
    ("yes_no", "choose"),
];

impl Operator {
    /// An operator without a kernel or a check, to be completed.
    pub const BARE: Operator = Operator {
        name: "",
        room: "",
        sources: &[],
        arguments: &[],
        constants: &[],
        kernels: &[],
        checks: &[],
        cases: &[],
        counted: &[],
    };

    /// Whether the profile, a trace or the dashboard may show this name for it.
    pub fn has(&self, name: &str) -> bool {
        name.strip_suffix("_backward").unwrap_or(name) == self.name
            || self.kernels.iter().flat_map(Kernel::names).any(|kernel| kernel == name)
    }
}

/// The operator that `name` belongs to: its own name, that of its backward, or a kernel's; hyphens
/// count as underscores, and the names of the version before are known.
pub fn find(name: &str) -> Option<&'static Operator> {
    let name = name.replace('-', "_");
    let of = |name: &str| ALL.iter().copied().find(|o| o.has(name));
    let former = || FORMER.iter().find(|(old, _)| *old == name).and_then(|(_, new)| of(new));
    of(&name).or_else(former)
}

/// As [`find`]; `command` is who asks.
///
/// # Errors
/// A name that nothing has, with the nearest one.
pub fn named(command: &str, name: &str) -> Result<&'static Operator> {
    find(name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|o| o.name).collect();
        let near = known.iter().min_by_key(|k| (strsim::damerau_levenshtein(name, k), **k)).copied().unwrap_or("");
        Error::usage(command, format!("there is no operator '{name}'"))
            .next(format!("did you mean '{near}'? The operators are: {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::device::resources;

    fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, ending, into);
            } else if path.extension().is_some_and(|e| e == ending) {
                into.push(path);
            }
        }
    }

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn every_name_that_is_shown_can_be_asked_for() {
        let mut sources = Vec::new();
        files(&root().join("src"), "rs", &mut sources);
        let mut timed = BTreeSet::new();
        for source in
            sources.iter().filter(|s| !s.ends_with("tensor/profile/mod.rs") && !s.ends_with("registry/mod.rs"))
        {
            for part in std::fs::read_to_string(source).unwrap().split("timed(\"").skip(1) {
                timed.insert(part.split('"').next().unwrap_or("").to_owned());
            }
        }
        assert!(timed.len() > 15, "{timed:?}");
        for name in &timed {
            let operator = find(name).unwrap_or_else(|| panic!("the profile shows '{name}', which is no operator's"));
            assert!(*name == operator.name || *name == format!("{}_backward", operator.name), "{name}");
        }
        for kernel in rallrec_kernels_host::kernels().iter().filter(|k| !k.name.starts_with("planted")) {
            assert!(find(&kernel.name).is_some(), "{} belongs to no operator", kernel.name);
        }
        for (old, new) in FORMER {
            assert_eq!(find(old).map(|o| o.name), Some(*new));
        }
        assert_eq!(find("attention-backward").unwrap().name, "attention");
        assert!(named("bench", "spmn").unwrap_err().next_step().contains("'spmm'"));
    }

    #[test]
    fn arguments_lie_in_rust_as_in_the_sources() {
        let there = rallrec_kernels_host::layouts();
        for layout in ALL.iter().flat_map(|o| o.arguments) {
            let found: Vec<_> = there.iter().filter(|l| l.name == layout.name).collect();
            assert!(!found.is_empty(), "{} stands in no source", layout.name);
            let fields: Vec<_> = layout.fields.iter().map(|f| (f.name.to_owned(), f.offset, f.size)).collect();
            for l in found {
                assert_eq!((l.size, &l.fields), (layout.size, &fields), "{}", layout.name);
            }
        }
        for l in &there {
            let listed = ALL.iter().flat_map(|o| o.arguments).any(|layout| layout.name == l.name);
            assert!(listed, "{} is in no operator's list", l.name);
        }
        // These take more registers where their arguments are a struct; their sources say what it
        // costs.
        let apart = |name: &str| name.starts_with("infonce_gradient_") || name.starts_with("cross_entropy_partials_");
        for kernel in rallrec_kernels_host::kernels().iter().filter(|k| !apart(&k.name)) {
            let count = kernel.argument_sizes.len();
            assert!(count <= MOST, "{}: {count} arguments, one by one", kernel.name);
        }
    }

    #[test]
    fn numbers_of_launches_are_those_of_the_sources() {
        let there = rallrec_kernels_host::constants();
        let mut listed: Vec<(String, usize)> =
            ALL.iter().flat_map(|o| o.constants).map(|&(name, value)| (name.to_owned(), value)).collect();
        listed.sort();
        assert_eq!(there, listed);
    }

    /// A handful of arguments.
    const MOST: usize = 8;

    #[test]
    fn names_are_taken_once_and_every_operator_can_be_looked_at() {
        let mut names: Vec<&str> = ALL.iter().map(|o| o.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name is taken twice");
        for operator in ALL {
            for check in operator.checks {
                assert!(operator.has(check.name), "{} checks {}", operator.name, check.name);
            }
        }
    }

    #[test]
    fn every_source_has_a_room_of_its_name() {
        let (mut found, mut listed) = (Vec::new(), BTreeSet::new());
        for entry in std::fs::read_dir(root().join("kernels")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "cu") {
                found.push(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
        for operator in ALL {
            assert!(root().join("src/ops").join(operator.room).is_dir(), "no room {}", operator.room);
            for source in operator.sources {
                let variant = source.strip_prefix(operator.room).unwrap_or("?");
                assert!(variant.is_empty() || variant.starts_with('_'), "{source} in the room {}", operator.room);
                listed.insert((*source).to_owned());
            }
        }
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), listed);
    }

    #[test]
    fn every_kernel_is_described_once_and_within_its_budget() {
        let described: Vec<String> = ALL.iter().flat_map(|o| o.kernels).flat_map(Kernel::names).collect();
        let built = rallrec_kernels_host::kernels();
        let names: BTreeSet<&str> =
            built.iter().map(|k| k.name.as_str()).filter(|n| !n.starts_with("planted")).collect();
        assert_eq!(described.iter().map(String::as_str).collect::<BTreeSet<_>>(), names);
        assert_eq!(described.len(), names.len(), "a kernel is described twice");
        for kernel in built.iter().filter(|k| names.contains(k.name.as_str())) {
            let all = ALL.iter().flat_map(|o| o.kernels);
            let entry = all.clone().find(|e| e.names().any(|n| n == kernel.name)).unwrap();
            assert_eq!(entry.block, kernel.max_threads, "{}", kernel.name);
        }
        let reported = resources::all();
        for name in &names {
            let lines: Vec<_> = reported.iter().filter(|r| r.kernel == *name).collect();
            assert!(!lines.is_empty(), "{name}: run scripts/kernel-resources --write");
            let operator = find(name).unwrap();
            assert!(lines.iter().all(|l| operator.sources.contains(&l.unit.as_str())), "{name} stands in {lines:?}");
        }
        let spills = reported.iter().filter(|r| r.spilled > 0);
        assert_eq!(spills.count(), 0, "a kernel spills");
    }
}
