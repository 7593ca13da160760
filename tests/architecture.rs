//! The rooms of `src/` stand in one order, and nothing imports upwards: so there is no cycle
//! between them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room of `src/`, each after all that it may import: the table of docs/architecture.md.
fn rooms() -> Vec<String> {
    let text = include_str!("../docs/architecture.md");
    let table = text.split("## ").find(|section| section.starts_with("Rooms")).unwrap();
    let table = table.split("| beside `src/` |").next().unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let names =
        cells.flat_map(|cell| cell.split('`').filter(|part| part.starts_with(|c: char| c.is_ascii_lowercase())));
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

/// Sources below a folder, without what was built or downloaded there.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                files(&path, out);
            }
        } else if path.extension().is_some_and(|e| ["rs", "cu", "cuh", "h", "cpp"].iter().any(|own| e == *own)) {
            out.push(path);
        }
    }
}

/// The text without comments, and without tests: these may look at anything.
fn code(text: &str) -> String {
    let mut lines = text.lines();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // The item behind it: up to its `;` or to the brace that closes it, which stands as far
            // left.
            let indent = line.len() - line.trim_start().len();
            for line in lines.by_ref() {
                let ends_item = line.trim_end().ends_with(';') && line.len() - line.trim_start().len() == indent;
                if ends_item || line.len() > indent && line[indent..].starts_with('}') {
                    break;
                }
            }
            continue;
        }
        out.push_str(line.split("//").next().unwrap_or_default());
        out.push('\n');
    }
    out
}

/// The rooms that a text imports.
fn imports(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut found: BTreeSet<String> = text.match_indices("crate::").map(|(at, _)| name(&text[at + 7..])).collect();
    // `use crate::{a::X, b}`: the first name of each branch.
    for (at, _) in text.match_indices("crate::{") {
        let (mut depth, mut fresh) = (0, true);
        for (i, c) in text[at + 7..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                c if depth == 1 && fresh && c.is_ascii_alphabetic() => {
                    found.insert(name(&text[at + 7 + i..]));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Lower-case names only: the root re-exports a few types.
fn rooms_of(text: &str) -> Vec<String> {
    imports(&code(text)).into_iter().filter(|n| n.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

#[test]
fn no_room_imports_upwards() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let rooms = rooms();
    let place = |room: &str| rooms.iter().position(|r| r == room);
    let mut wrong = BTreeSet::new();
    for file in all {
        let inside = file.strip_prefix(&source).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let named = inside.file_stem().unwrap().to_string_lossy().into_owned();
        // events is a crate of its own, which cannot name ours; lib.rs names every room; tests may
        // look at anything.
        if room == "events" || room == "lib" || named == "tests" || named.ends_with("_tests") {
            continue;
        }
        let Some(at) = place(&room) else {
            wrong.insert(format!("src/{room} is not in the table of docs/architecture.md"));
            continue;
        };
        for other in rooms_of(&fs::read_to_string(&file).unwrap()) {
            match place(&other) {
                Some(to) if to <= at => {}
                Some(_) => drop(wrong.insert(format!("{} imports crate::{other}", inside.display()))),
                None => drop(wrong.insert(format!(
                    "{}: crate::{other} is not in the table of docs/architecture.md",
                    inside.display()
                ))),
            }
        }
    }
    assert!(wrong.is_empty(), "upwards, or unknown:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_read() {
    let text = "use crate::a::X;\n// crate::b\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\nuse crate::{d::{Y, Z}, e, F};\nfn f() { crate::g::h() }\n";
    assert_eq!(rooms_of(text), ["a", "d", "e", "g"]);
    let later = "#[cfg(test)]\nmod tests;\nuse crate::a;\n    #[cfg(test)]\n    fn x() {\n        crate::b::c();\n    }\n    crate::d::e();\n";
    assert_eq!(rooms_of(later), ["a", "d"]);
}

/// True of a line that holds a comment alone, and ends beyond the last column. What is indented
/// behind the slashes is a drawing or a table, which may be wider than code.
fn is_long_comment(line: &str) -> bool {
    let Some(words) = line.trim_start().strip_prefix("//") else { return false };
    let drawn = words.trim_start_matches(['/', '!']).starts_with("   ");
    line.chars().count() > if drawn { 130 } else { 100 }
}

#[test]
fn comments_end_at_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["src", "tui", "tests", "kernels", "benches", "fuzz"] {
        files(&root.join(folder), &mut all);
    }
    all.push(root.join("build.rs"));
    let mut wrong = Vec::new();
    for file in all {
        let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let long = text.lines().enumerate().filter(|(_, line)| is_long_comment(line));
        wrong.extend(long.map(|(n, _)| format!("{name}:{}", n + 1)));
    }
    assert!(wrong.is_empty(), "lines of comment beyond 100 columns:\n{}", wrong.join("\n"));
}

#[test]
fn which_lines_are_long() {
    let words = "a ".repeat(49);
    assert!(!is_long_comment(&format!("//{words}")) && !is_long_comment(&format!("let x = 1; // {words}")));
    assert!(!is_long_comment(&format!("//   {words}")));
    assert!(is_long_comment(&format!("//{words}a")) && is_long_comment(&format!("    /// {words}")));
}

/// The glossary says where each word is in the code: its last column holds paths.
#[test]
fn the_glossary_names_files_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let glossary = include_str!("../docs/glossary.md");
    let rows = glossary.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| word |"));
    let mut wrong = Vec::new();
    for row in rows.filter(|line| !line.starts_with("| ---")) {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let paths: Vec<&str> = last.split('`').filter(|part| part.contains('/')).collect();
        let there = paths.iter().all(|path| root.join(path).exists());
        if !there || paths.is_empty() && !last.contains('`') {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "no such place:\n{}", wrong.join("\n"));
}

/// What stands between quotes in a source, up to its tests.
fn literals(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let from = &rest[at..];
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, below)| below)
        } else if from.starts_with("'\"'") || from.starts_with("'\\\"'") {
            &from[from[1..].find('\'').unwrap() + 2..]
        } else if let Some(inside) = from.strip_prefix('"') {
            let raw = rest[..at].ends_with('r');
            let mut escaped = false;
            let end = inside.find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped && !raw;
                closes
            });
            let end = end.unwrap_or(inside.len());
            found.push(inside[..end].to_owned());
            inside.get(end + 1..).unwrap_or_default()
        } else {
            &from[1..]
        };
    }
    found
}

/// An error once advised to lower `tune.learning_rate`, which is no key.
#[test]
fn messages_name_keys_that_a_recipe_has() {
    let keys = rallrec::config::explain::keys().unwrap();
    let is_key = |name: &str| keys.iter().any(|key| key == name || key.starts_with(&format!("{name}.")));
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    let (mut named, mut wrong) = (0, Vec::new());
    for file in sources {
        // Names of tensors look like keys; names of before are there to be told from those of now.
        let other = ["models", "store", "config/renamed.rs"].iter().any(|part| file.starts_with(root.join(part)));
        if other || file.extension().is_none_or(|e| e != "rs") || file.ends_with("tests.rs") {
            continue;
        }
        for text in literals(&fs::read_to_string(&file).unwrap()) {
            for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "._/-".contains(c))) {
                let word = word.trim_end_matches('.');
                let Some((section, below)) = word.split_once('.') else { continue };
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
                let file_name = Path::new(below).extension().or(Some(below.as_ref())).is_some_and(|end| {
                    ["json", "jsonl", "toml", "safetensors", "f32", "bin", "rs", "md", "html", "txt", "csv"]
                        .iter()
                        .any(|own| end == *own)
                });
                if !sections.contains(section) || !below.chars().all(plain) || file_name {
                    continue;
                }
                named += 1;
                if !is_key(word) {
                    wrong.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such keys:\n{}", wrong.join("\n"));
    assert!(named > 200, "keys are found in messages: {named}");
    assert_eq!(
        literals(
            r#"a("x \"y", '"', 1 / 2) // "no"
r"z\""#
        ),
        ["x \\\"y", "z\\"]
    );
}
