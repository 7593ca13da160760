//! Settings as a tree of plain values, whatever they came from.

/// A value of a key, or a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none. Of a key that must have a number: one that is not finite, for JSON has no
    /// other word for it.
    Missing,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with decimals.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A section, in the order of its keys.
    Section(Vec<(String, Value)>),
}

impl Value {
    /// As a person would write it; a long text is cut.
    pub fn shown(&self) -> String {
        match self {
            Self::Missing => "nothing".into(),
            Self::Bool(b) => b.to_string(),
            Self::Integer(i) => i.to_string(),
            Self::Float(f) => format!("{f:?}").to_lowercase(),
            Self::Text(text) if text.chars().count() > 40 => {
                format!("\"{}...\"", text.chars().take(40).collect::<String>())
            }
            Self::Text(text) => format!("\"{text}\""),
            Self::List(_) => "a list".into(),
            Self::Section(_) => "a section".into(),
        }
    }

    /// The value at a path with dots.
    pub fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |at, name| match at {
            Self::Section(keys) => keys.iter().find(|(k, _)| k == name).map(|(_, v)| v),
            _ => None,
        })
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Json::Null => Self::Missing,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => match (n.as_i128(), n.as_f64()) {
                (Some(whole), _) => Self::Integer(whole),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::Missing,
            },
            Json::String(text) => Self::Text(text),
            Json::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Json::Object(map) => Self::Section(map.into_iter().map(|(k, v)| (k, Self::from(v))).collect()),
        }
    }
}
