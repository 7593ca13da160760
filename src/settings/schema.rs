//! A view of a JSON schema as `schemars` makes it of settings.

use serde_json::{Map, Value};

use super::Range;

/// The schema of a key or of a section.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    root: &'a Map<String, Value>,
    /// What stands at the key itself.
    own: &'a Map<String, Value>,
    /// What it refers to; the same where it refers to nothing.
    target: &'a Map<String, Value>,
    nullable: bool,
}

/// What a key may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Keys of its own.
    Section,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer(Range),
    /// A number; of 32 bits where `single`.
    Float {
        /// The values allowed.
        range: Range,
        /// It is kept in 32 bits.
        single: bool,
    },
    /// A text of at least so many characters.
    Text {
        /// Fewest characters.
        least: u64,
        /// A list of such texts may stand there as well.
        or_list: bool,
    },
    /// One of these words.
    Words(Vec<String>),
    /// A list of at least so many entries.
    List {
        /// Fewest entries.
        least: u64,
        /// Most entries.
        most: u64,
        /// Each entry once.
        unique: bool,
    },
}

static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> Schema<'a> {
    /// Of a whole document.
    pub fn root(schema: &'a Value) -> Self {
        let root = schema.as_object().unwrap_or(&EMPTY);
        Self::new(root, root)
    }

    fn new(root: &'a Map<String, Value>, own: &'a Map<String, Value>) -> Self {
        let mut at = Self { root, own, target: own, nullable: false };
        at.nullable = is_null(own.get("type"));
        at.follow();
        at
    }

    /// Goes through references, and through the wrappers of optional keys.
    fn follow(&mut self) {
        loop {
            let name = self.target.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
            let next = match name {
                Some(name) => self.root.get("$defs").and_then(|d| d.get(name)).and_then(Value::as_object),
                None => ["allOf", "anyOf"].iter().find_map(|w| self.target.get(*w)?.as_array()).and_then(|parts| {
                    self.nullable |= parts.iter().any(|p| is_null(p.get("type")));
                    parts.iter().find(|p| !is_null(p.get("type")))?.as_object()
                }),
            };
            match next {
                Some(next) => self.target = next,
                None => return,
            }
        }
    }

    /// The meaning of the key, as developers read it.
    pub fn description(&self) -> Option<&'a str> {
        self.own.get("description").and_then(Value::as_str)
    }

    /// The value of a key that is not set.
    pub fn default(&self) -> Option<&'a Value> {
        self.own.get("default")
    }

    /// The key may be left without a value.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// The names of a section's keys.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let keys = self.target.get("properties").and_then(Value::as_object).unwrap_or(&EMPTY);
        keys.keys().map(String::as_str)
    }

    /// A key of a section; of one whose names are the user's, what stands under any name.
    pub fn key(&self, name: &str) -> Option<Self> {
        let known = self.target.get("properties").and_then(|keys| keys.get(name));
        let own = known.or_else(|| self.target.get("additionalProperties"))?.as_object()?;
        Some(Self::new(self.root, own))
    }

    /// The entry at a place of a list.
    pub fn entry(&self, at: usize) -> Self {
        let place = self.target.get("prefixItems").and_then(Value::as_array).and_then(|list| list.get(at));
        let own = place.or_else(|| self.target.get("items")).and_then(Value::as_object);
        Self::new(self.root, own.unwrap_or(&EMPTY))
    }

    /// What the key may hold.
    pub fn kind(&self) -> Kind {
        // An attribute of the field stands at the key, that of the type behind the reference.
        let get = |name: &str| self.own.get(name).or_else(|| self.target.get(name));
        let number = |name: &str| get(name).and_then(Value::as_u64);
        if let Some(words) = self.words() {
            return Kind::Words(words);
        }
        let kinds = match get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        match kinds.into_iter().find(|k| *k != "null") {
            Some("boolean") => Kind::Bool,
            Some("integer") => Kind::Integer(Range::of(self.own)),
            Some("number") => {
                let single = get("format").and_then(Value::as_str) == Some("float");
                Kind::Float { range: Range::of(self.own), single }
            }
            Some("array") => Kind::List {
                least: number("minItems").unwrap_or(0),
                most: number("maxItems").unwrap_or(u64::MAX),
                unique: get("uniqueItems").and_then(Value::as_bool).unwrap_or(false),
            },
            Some("object") => Kind::Section,
            _ => Kind::Text { least: number("minLength").unwrap_or(0), or_list: self.takes_list() },
        }
    }

    /// A list may stand where one text is meant as well.
    fn takes_list(&self) -> bool {
        matches!(self.own.get("type"), Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "array"))
    }

    fn words(&self) -> Option<Vec<String>> {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let list = |schema: &Map<String, Value>| -> Vec<String> {
            schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect()
        };
        let mut words = list(self.target);
        for variant in self.target.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            words.extend(variant.get("const").and_then(text));
            words.extend(variant.as_object().map(list).unwrap_or_default());
        }
        (!words.is_empty()).then_some(words)
    }
}

fn is_null(kind: Option<&Value>) -> bool {
    match kind {
        Some(Value::String(one)) => one == "null",
        Some(Value::Array(many)) => many.iter().any(|k| k == "null"),
        _ => false,
    }
}
