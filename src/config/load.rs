//! Reading a recipe: TOML, then `--set`, then the check of everything, all before anything runs.

use std::path::{Path, PathBuf};

use rallrec_events::StageId;

use super::places::{self, Written};
use super::tree::{self, Clash, Content, Node, Origin, Section};
use super::{Recipe, presets, renamed, streams};
use crate::database::without_password;
use crate::durable;
use crate::error::{Error, Result};
use crate::settings::{Checked, Fault, Faults, Schema, Value, schema_of, walk};

/// A recipe that was read, with where its keys were written.
#[derive(Debug, Clone)]
pub struct Read {
    /// The recipe, with `paper` and `faithful` applied and every seed set.
    pub recipe: Recipe,
    /// A line for each key that has another name now, and for each that wins over a preset.
    pub lines: Vec<String>,
    place: String,
    keys: Section,
    /// Relative paths of the file.
    written: Vec<Written>,
}

/// The text of a recipe. It is read once, because a pipe gives it once.
#[derive(Debug, Clone)]
pub struct Source {
    text: String,
    place: String,
    /// Its relative paths start here.
    folder: PathBuf,
}

impl Source {
    /// Reads the text at `path`.
    ///
    /// # Errors
    /// It is not there, or is neither a plain file nor what a shell makes of `<(command)`.
    pub fn open(path: &Path) -> Result<Self> {
        // What a shell makes of `<(command)` is being written. Another pipe may wait for ever.
        let from_shell = ["/dev", "/proc"].iter().any(|root| path.starts_with(root));
        let text = if from_shell {
            std::fs::read_to_string(path)
        } else {
            durable::read(path).and_then(|bytes| std::io::read_to_string(&bytes[..]))
        };
        let text = text.map_err(|e| {
            let said = Error::io(path, "read the recipe", &e);
            if e.kind() == std::io::ErrorKind::InvalidInput { said.next("give a file, or <(COMMAND)") } else { said }
        })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { text, place: path.display().to_string(), folder })
    }

    /// Whether it sets no key at all.
    pub fn is_empty(&self) -> bool {
        tree::read(&self.text, &self.place).is_ok_and(|keys| keys.is_empty())
    }

    /// Changes the recipe by `overrides` (`section.key=value`, values in TOML; a word that is no
    /// TOML value is taken as a text), and checks what can be checked without looking at files.
    ///
    /// # Errors
    /// Names all keys that are wrong, with line, range and what to do.
    pub fn read(&self, overrides: &[String]) -> Result<Read> {
        read_in(&self.text, &self.place, Some(&self.folder), overrides)
    }
}

/// The recipe at `path`, changed by `overrides`.
///
/// # Errors
/// Those of [`Source::open`] and [`Source::read`].
pub fn load(path: &Path, overrides: &[String]) -> Result<Recipe> {
    Source::open(path)?.read(overrides).map(|read| read.recipe)
}

/// As [`load`], from text; `place` names it in errors.
///
/// # Errors
/// Those of [`Source::read`].
pub fn parse(text: &str, place: &str, overrides: &[String]) -> Result<Recipe> {
    read_text(text, place, overrides).map(|read| read.recipe)
}

/// As [`Source::read`], from text that is no file: its relative paths stay as they are.
///
/// # Errors
/// Those of [`Source::read`].
pub fn read_text(text: &str, place: &str, overrides: &[String]) -> Result<Read> {
    read_in(text, place, None, overrides)
}

fn read_in(text: &str, place: &str, folder: Option<&Path>, overrides: &[String]) -> Result<Read> {
    let mut faults = Faults::default();
    let mut keys = tree::read(text, place)?;
    let mut lines = renamed::rename(&mut keys, &mut faults);
    let mut changes = Section::new();
    for change in overrides {
        set(&mut changes, change)?;
    }
    lines.extend(renamed::rename(&mut changes, &mut faults));
    for (name, node) in changes {
        let path = name.clone();
        tree::put(&mut keys, &path, node, &|_, new| Some(new.clone())).map_err(|clash| no_section(clash, "--set"))?;
    }
    let seed = Node { content: Content::Leaf(Value::Integer(streams::SEED.into())), origin: Origin::Derived };
    // The seed of the file stays where there is one.
    tree::put(&mut keys, "seed", seed, &|there, _| Some(there.clone())).map_err(|clash| no_section(clash, place))?;
    lines.extend(presets::fill_paper(&mut keys, place));
    streams::fill(&mut keys);
    let written = places::resolve(&mut keys, folder);

    let whole = Value::from(&keys);
    let schema = schema_of::<Recipe>().map_err(|e| Error::failed("recipe", e))?;
    faults.extend("", walk(&whole, &Schema::root(&schema)));
    refuse(&faults, place, &keys)?;
    let table = tree::to_toml(&whole).unwrap_or_else(|| toml::Value::Table(Default::default()));
    let recipe: Recipe = table.try_into().map_err(|e: toml::de::Error| {
        Error::usage(place, e.to_string().trim_end())
            .next("`rallrec run RECIPE --print-recipe` prints every key with its meaning and range")
    })?;
    let (recipe, stays) = presets::apply_faithful(recipe, &keys, place)?;
    lines.extend(stays);
    refuse(&recipe.contradictions(), place, &keys)?;
    Ok(Read { recipe, lines, place: place.to_owned(), keys, written })
}

impl Read {
    /// Looks at the files and models that the stages up to `until` need.
    ///
    /// # Errors
    /// Names all keys whose file or model is not there, with line and what to do.
    pub fn check_files(&self, until: Option<StageId>) -> Result<()> {
        let faults = self.recipe.missing(until).into_iter().map(|fault| places::advise(fault, &self.written));
        refuse(&faults.collect(), &self.place, &self.keys)
    }
}

fn no_section(clash: Clash, place: &str) -> Error {
    let (Clash::NoSection(path) | Clash::Both(path)) = clash;
    Error::usage(place, format!("'{path}' is a value, not a section")).next("write --set section.key=value")
}

/// Puts `section.key=value` into the changes; a later one wins.
fn set(changes: &mut Section, change: &str) -> Result<()> {
    let place = format!("--set {}", without_password(change));
    let bad = |what: &str| Error::usage(&place, what).next("write --set section.key=value");
    let (key, value) = change.split_once('=').ok_or_else(|| bad("there is no '='"))?;
    let key = key.trim();
    if key.split('.').any(|part| part.trim().is_empty()) {
        return Err(bad("the key has an empty part"));
    }
    let origin = Origin::Set(change.to_owned());
    let node = Node { content: tree::read_value(value, &origin), origin };
    tree::put(changes, key, node, &|_, new| Some(new.clone())).map_err(|clash| no_section(clash, &place))
}

/// An error that names every fault with the place where its key was written.
fn refuse(faults: &Faults, place: &str, keys: &Section) -> Result<()> {
    let at = |fault: &Fault| match tree::origin(keys, &fault.key) {
        Some(Origin::Line(line)) => format!("{place}:{line}: {}", fault.key),
        Some(Origin::Set(change)) => format!("--set {}: {}", without_password(change), fault.key),
        Some(Origin::Derived) | None => format!("{place}: {}", fault.key),
    };
    let list: Vec<&Fault> = faults.iter().collect();
    match list.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::usage(at(one), &one.what).next(&one.next)),
        many => {
            let listed: Vec<String> =
                many.iter().map(|f| format!("\n  {}: {}\n    next: {}", at(f), f.what, f.next)).collect();
            Err(Error::usage(place, format!("{} settings are wrong{}", many.len(), listed.concat()))
                .next("mend them and run the same command again; nothing has been started"))
        }
    }
}
