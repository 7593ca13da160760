//! A recipe as it was written: values with the line or the `--set` that each came from.

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::settings::Value;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file, counted from 1.
    Line(usize),
    /// A `--set`, as it was given.
    Set(String),
    /// Nobody wrote it.
    Derived,
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What was written.
    pub content: Content,
    /// Where it was written.
    pub origin: Origin,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A value that is no section; lists are kept whole.
    Leaf(Value),
    /// Keys of a section, in their order.
    Section(Section),
}

/// Keys in their order.
pub type Section = Vec<(String, Node)>;

/// Reads TOML.
///
/// # Errors
/// Names the line that is no TOML.
pub fn read(text: &str, place: &str) -> Result<Section> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        Error::usage(format!("{place}:{line}"), format!("the line is no TOML: {}", e.message().trim_end()))
            .next(if e.message().contains("unicode") || e.message().contains("escape") {
                "in double quotes a backslash begins an escape: double each backslash, or write the text in single quotes"
            } else {
                "mend the recipe at this line"
            })
    })?;
    section(table.get_ref(), &|at| Origin::Line(line_of(text, at))).map_err(|(at, what)| {
        Error::usage(format!("{place}:{}", line_of(text, at)), what).next("mend the recipe there")
    })
}

/// The value of a `--set`, in TOML; a word that is no TOML value is a text.
pub fn read_value(text: &str, origin: &Origin) -> Content {
    let line = format!("v = {}", text.trim());
    let read = DeTable::parse(&line).ok().filter(|table| table.get_ref().len() == 1).and_then(|table| {
        let (_, value) = table.get_ref().iter().next()?;
        content(value.get_ref(), 0, &|_| origin.clone()).ok()
    });
    read.unwrap_or_else(|| Content::Leaf(Value::Text(text.trim().to_owned())))
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}

type Place<'a> = &'a dyn Fn(usize) -> Origin;
type Unreadable = (usize, String);

fn section(table: &DeTable<'_>, place: Place<'_>) -> std::result::Result<Section, Unreadable> {
    let mut keys = Vec::new();
    for (key, value) in table {
        let at = key.span().start;
        let node = Node { content: content(value.get_ref(), at, place)?, origin: place(at) };
        keys.push((key.get_ref().to_string(), node));
    }
    Ok(keys)
}

fn content(value: &DeValue<'_>, at: usize, place: Place<'_>) -> std::result::Result<Content, Unreadable> {
    let unreadable = |what: &str| (at, format!("{what} cannot be read"));
    Ok(Content::Leaf(match value {
        DeValue::Table(table) => return Ok(Content::Section(section(table, place)?)),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Integer(number) => {
            let whole = i128::from_str_radix(number.as_str(), number.radix());
            Value::Integer(whole.map_err(|_| unreadable("the whole number"))?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().map_err(|_| unreadable("the number"))?),
        // A key takes dates as text.
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(entries) => {
            let read = |entry: &toml::Spanned<DeValue<'_>>| match content(entry.get_ref(), at, place)? {
                Content::Leaf(value) => Ok(value),
                Content::Section(keys) => Ok(Value::from(&keys)),
            };
            Value::List(entries.iter().map(read).collect::<std::result::Result<_, Unreadable>>()?)
        }
    }))
}

impl From<&Section> for Value {
    fn from(keys: &Section) -> Self {
        let plain = |node: &Node| match &node.content {
            Content::Leaf(value) => value.clone(),
            Content::Section(keys) => Self::from(keys),
        };
        Self::Section(keys.iter().map(|(name, node)| (name.clone(), plain(node))).collect())
    }
}

/// The node at a path.
pub fn get<'a>(keys: &'a Section, path: &str) -> Option<&'a Node> {
    let (name, rest) = split(path);
    let node = keys.iter().find(|(k, _)| k == name).map(|(_, n)| n)?;
    match (rest, &node.content) {
        (None, _) => Some(node),
        (Some(rest), Content::Section(keys)) => get(keys, rest),
        (Some(_), Content::Leaf(_)) => None,
    }
}

/// Where the nearest thing to a path was written: the key, else the section that it would stand in.
pub fn origin<'a>(keys: &'a Section, path: &str) -> Option<&'a Origin> {
    let mut path = path;
    loop {
        if let Some(node) = get(keys, path) {
            return Some(&node.origin);
        }
        path = path.rsplit_once('.')?.0;
    }
}

/// Takes the node at a path out, and the sections with it that are empty then.
pub fn take(keys: &mut Section, path: &str) -> Option<Node> {
    let (name, rest) = split(path);
    let at = keys.iter().position(|(k, _)| k == name)?;
    let Some(rest) = rest else { return Some(keys.remove(at).1) };
    let Content::Section(inner) = &mut keys[at].1.content else { return None };
    let taken = take(inner, rest)?;
    if inner.is_empty() {
        keys.remove(at);
    }
    Some(taken)
}

/// What stands in the way of [`put`].
#[derive(Debug, PartialEq, Eq)]
pub enum Clash {
    /// A section is wanted at this path, and a value stands there.
    NoSection(String),
    /// Both stand at this path.
    Both(String),
}

/// Puts a node at a path. Sections are joined; of two values at one place `choose` keeps one, or
/// none of them where they contradict each other.
pub fn put(
    keys: &mut Section,
    path: &str,
    node: Node,
    choose: &dyn Fn(&Node, &Node) -> Option<Node>,
) -> std::result::Result<(), Clash> {
    put_below(keys, path, path, node, choose)
}

fn put_below(
    keys: &mut Section,
    path: &str,
    full: &str,
    node: Node,
    choose: &dyn Fn(&Node, &Node) -> Option<Node>,
) -> std::result::Result<(), Clash> {
    let (name, rest) = split(path);
    let found = keys.iter_mut().find(|(k, _)| k == name).map(|(_, n)| n);
    match (found, rest) {
        (None, None) => keys.push((name.to_owned(), node)),
        (None, Some(rest)) => {
            let origin = node.origin.clone();
            let mut inner = Section::new();
            put_below(&mut inner, rest, full, node, choose)?;
            keys.push((name.to_owned(), Node { content: Content::Section(inner), origin }));
        }
        (Some(there), Some(rest)) => match &mut there.content {
            Content::Section(inner) => put_below(inner, rest, full, node, choose)?,
            Content::Leaf(_) => {
                let section = full.strip_suffix(rest).unwrap_or(full).trim_end_matches('.');
                return Err(Clash::NoSection(section.to_owned()));
            }
        },
        (Some(there), None) => match (&mut there.content, node.content) {
            (Content::Section(inner), Content::Section(new)) => {
                for (name, node) in new {
                    put_below(inner, &name, &format!("{full}.{name}"), node, choose)?;
                }
            }
            (Content::Leaf(_), Content::Section(_)) => return Err(Clash::NoSection(full.to_owned())),
            (_, content) => {
                let new = Node { content, origin: node.origin };
                *there = choose(there, &new).ok_or_else(|| Clash::Both(full.to_owned()))?;
            }
        },
    }
    Ok(())
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)))
}

/// As TOML, for deserialising.
pub fn to_toml(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Missing => return None,
        Value::Bool(b) => toml::Value::Boolean(*b),
        Value::Integer(i) => toml::Value::Integer(i64::try_from(*i).ok()?),
        Value::Float(f) => toml::Value::Float(*f),
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::List(entries) => toml::Value::Array(entries.iter().filter_map(to_toml).collect()),
        Value::Section(keys) => {
            toml::Value::Table(keys.iter().filter_map(|(k, v)| Some((k.clone(), to_toml(v)?))).collect())
        }
    })
}
