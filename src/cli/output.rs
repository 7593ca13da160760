//! Printing: JSON for programs, tables for people; a closed pipe is not an error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::config;
use crate::error::{Error, Result};
use crate::export::{Column, Target};
use crate::monitor::Monitor;
use crate::pipeline::control;
use crate::pipeline::finished::Finished;
use crate::pipeline::newer;
use crate::pipeline::progress::thousands;
use crate::pipeline::run::Run;
use crate::serve::{Recommender, Taken};
use crate::terminal::{self, say};

/// Hears Ctrl-C, for commands that write no events; named after the command.
pub struct Interruptible(pub &'static str);

impl Monitor for Interruptible {
    fn emit(&self, _: crate::events::Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        control::interrupted()
    }
    fn stage(&self) -> &str {
        self.0
    }
}

/// Prints text for people to standard output, without escapes. A reader that went away (`| head`)
/// ends the output quietly.
pub fn text(text: &str) -> Result<()> {
    print(&terminal::clean(text))
}

/// Prints bytes for other programs as they are.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", &e)),
        _ => Ok(()),
    }
}

/// Columns of the terminal that standard output is, if it is one.
pub fn terminal_columns() -> Option<u16> {
    std::io::stdout().is_terminal().then(rallrec_tui::terminal::columns).flatten()
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
    {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", &e)),
        _ => Ok(()),
    }
}

/// Reads a recipe, and says on standard error which of its keys have another name now.
pub fn recipe(source: &config::Source, overrides: &[String]) -> Result<config::Read> {
    source.read(overrides).inspect(renamed)
}

/// The recipe of a run folder.
pub fn recipe_of_run(folder: &Path) -> Result<config::Recipe> {
    let path = folder.join("recipe.toml");
    if !path.is_file() {
        return Err(Error::input(folder.display(), "is not a run folder: there is no recipe.toml in it")
            .next("give the folder that `rallrec run` wrote into, e.g. runs/demo"));
    }
    recipe(&config::Source::open(&path)?, &[]).map(|read| read.recipe)
}

/// Says on standard error that the raw data of a run has more by now than the run knows.
pub fn newer(run: &Path, recipe: &config::Recipe, monitor: &dyn Monitor) -> Result<()> {
    let (tables, _) = Finished::open(run)?.data()?;
    if let Some(newer) = newer::look(run, recipe, &tables, monitor)? {
        say!("{newer}");
    }
    Ok(())
}

/// Opens a run for recommendations: as it is, with a word on ratings that came after it, or with
/// these taken in.
pub fn recommender(run: &Run, recipe: &config::Recipe, with_new: bool, monitor: &dyn Monitor) -> Result<Recommender> {
    if !with_new {
        newer(run.folder(), recipe, monitor)?;
        return Recommender::open(run, recipe, monitor);
    }
    let recommender = Recommender::open_with_new_ratings(run, recipe, monitor)?;
    if let Some(Taken { new, gone, people, unknown }) = recommender.taken() {
        let mut said = format!("taken in without a new fit: new ratings {new}, gone {gone}, new users {people}");
        if unknown > 0 {
            said += &format!("; of items that the run does not know {unknown}, left out");
        }
        say!("{said}");
    }
    Ok(recommender)
}

/// The columns of a table, for the help.
pub fn columns(of: &str, columns: &[Column]) -> String {
    let lines: Vec<String> = columns.iter().map(|c| format!("  {:<12}{}", c.name, c.about)).collect();
    format!("Columns of {of}:\n{}\n", lines.join("\n"))
}

/// Says how many rows were written, and where to.
pub fn written(rows: u64, target: &Target, as_json: bool) -> Result<()> {
    if as_json {
        return json(&serde_json::json!({ "rows": rows, "to": target.to_string() }));
    }
    text(&format!("{} rows written to {target}", thousands(rows)))
}

/// Says on standard error which keys of a recipe have another name now.
pub fn renamed(read: &config::Read) {
    read.lines.iter().for_each(|line| say!("{line}"));
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let rendered = serde_json::to_string_pretty(value).map_err(|e| Error::failed("json", e))?;
    // For a program every character is itself; a terminal would obey some of them.
    let shown =
        if std::io::stdout().is_terminal() { terminal::clean_json(&rendered) } else { rendered.as_str().into() };
    print(&shown)
}

/// Prints a value for people: one field a line, nested ones indented.
pub fn fields(value: &impl Serialize) -> Result<()> {
    let value = serde_json::to_value(value).map_err(|e| Error::failed("output", e))?;
    let mut out = String::new();
    indent(&mut out, &value, 0);
    text(&out)
}

fn indent(out: &mut String, value: &Value, depth: usize) {
    let Value::Object(map) = value else { return };
    let width = map.iter().filter(|(_, v)| !v.is_object()).map(|(k, _)| k.len()).max().unwrap_or(0);
    let pad = "  ".repeat(depth);
    for (key, value) in map {
        let name = key.replace('_', " ");
        match value {
            Value::Null => {}
            Value::Object(_) => {
                out.push_str(&format!("{pad}{name}\n"));
                indent(out, value, depth + 1);
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                out.push_str(&format!("{pad}{name}\n"));
                for entry in list {
                    out.push_str(&format!("{pad}  {}\n", one_line(entry)));
                }
            }
            other => out.push_str(&format!("{pad}{name:<width$}  {}\n", one_line(other))),
        }
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Number(n) => match (n.as_u64(), n.as_f64()) {
            (Some(n), _) => thousands(n),
            (None, Some(f)) => format!("{f:.4}"),
            _ => n.to_string(),
        },
        Value::Array(list) => list.iter().map(one_line).collect::<Vec<_>>().join(", "),
        Value::Object(map) => map
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| format!("{} {}", k.replace('_', " "), one_line(v)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}
