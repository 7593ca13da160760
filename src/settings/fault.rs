//! One thing that is wrong with some settings, and a list of them.

/// What is wrong with a key, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, by the names between the type that found the fault and the field.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do next.
    pub next: String,
}

/// All that is wrong, in the order in which it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// A list of one.
    pub fn one(key: impl Into<String>, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self(vec![Fault { key: key.into(), what: what.into(), next: next.into() }])
    }

    /// Adds a fault unless `fine`.
    pub fn unless(&mut self, fine: bool, key: &str, what: impl Into<String>, next: impl Into<String>) {
        if !fine {
            self.0.push(Fault { key: key.into(), what: what.into(), next: next.into() });
        }
    }

    /// Adds the faults of `section`, whose name is put in front of their keys; an empty name leaves
    /// them as they are.
    pub fn extend(&mut self, section: &str, others: Faults) {
        self.0.extend(others.0.into_iter().map(|fault| Fault { key: join(section, &fault.key), ..fault }));
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// `section.key`, or the one that is not empty.
pub(super) fn join(section: &str, key: &str) -> String {
    match (section, key) {
        ("", only) | (only, "") => only.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}
