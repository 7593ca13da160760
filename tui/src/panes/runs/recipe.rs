//! The engine's annotated recipe as a list of settings, and the editor that changes them.

use super::Source;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// Value as TOML; empty when it is not set.
    pub value: String,
    /// Meaning, range and default in the engine's words.
    pub about: String,
    /// Values to choose from, where there are few.
    pub choices: Vec<String>,
    /// It has no value.
    pub unset: bool,
}

/// Reads what `--print-recipe` prints: comments above a key are its documentation, `# One of: a |
/// b` its choices, `# key = (not set)` a key without a value.
pub fn parse_annotated(text: &str) -> Vec<Setting> {
    let mut out = Vec::new();
    let mut section = String::new();
    let mut about: Vec<String> = Vec::new();
    let mut choices: Vec<String> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() {
            about.clear();
            choices.clear();
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_string();
            about.clear();
            choices.clear();
        } else if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            match (comment.strip_prefix("One of:"), comment.split_once('=')) {
                (Some(list), _) => choices = list.split('|').map(|c| c.trim().to_string()).collect(),
                (None, Some((key, rest))) if is_key(key.trim()) && rest.trim() == "(not set)" => {
                    let (about, choices) = (std::mem::take(&mut about).join(" "), std::mem::take(&mut choices));
                    let key = qualified(&section, key.trim());
                    out.push(Setting { key, value: String::new(), about, choices, unset: true });
                }
                _ => about.push(comment.to_string()),
            }
        } else if let Some((key, value)) = line.split_once('=').filter(|(k, _)| is_key(k.trim())) {
            let mut value = value.trim().to_string();
            // A list over several lines is put on one.
            let open = |v: &str| v.starts_with('[') && v.matches('[').count() > v.matches(']').count();
            while open(&value) {
                let Some(more) = lines.next() else { break };
                value.push(' ');
                value.push_str(more.trim());
            }
            let (about, choices) = (std::mem::take(&mut about).join(" "), std::mem::take(&mut choices));
            out.push(Setting { key: qualified(&section, key.trim()), value, about, choices, unset: false });
        }
    }
    out
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.')
}

fn qualified(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
}

/// A recipe that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editor {
    /// Which.
    pub source: Source,
    /// Its settings with the changes in them; empty until the engine has read it.
    pub settings: Vec<Setting>,
    /// The same without changes.
    pub original: Vec<Setting>,
    /// Changes: key and value.
    pub changes: Vec<(String, String)>,
    /// Where the run will go.
    pub out: std::path::PathBuf,
    /// Which setting the keys are on.
    pub selected: usize,
    /// Only settings with this text.
    pub filter: String,
    /// A change that the engine is checking.
    pub pending: Option<(String, String)>,
    /// Why the recipe itself cannot be read.
    pub error: Option<String>,
}

impl Editor {
    /// An editor that waits for the engine.
    pub fn new(source: Source, out: std::path::PathBuf) -> Self {
        Self {
            source,
            settings: Vec::new(),
            original: Vec::new(),
            changes: Vec::new(),
            out,
            selected: 0,
            filter: String::new(),
            pending: None,
            error: None,
        }
    }

    /// The settings that pass the filter.
    pub fn shown(&self) -> Vec<&Setting> {
        let wanted = self.filter.to_lowercase();
        let passes = |s: &&Setting| s.key.to_lowercase().contains(&wanted) || s.about.to_lowercase().contains(&wanted);
        self.settings.iter().filter(passes).collect()
    }

    /// The setting that the keys are on.
    pub fn current(&self) -> Option<&Setting> {
        let shown = self.shown();
        shown.get(self.selected.min(shown.len().saturating_sub(1))).copied()
    }

    /// The value without changes.
    pub fn before(&self, key: &str) -> Option<&Setting> {
        self.original.iter().find(|s| s.key == key)
    }

    /// True when the user changed it.
    pub fn is_changed(&self, key: &str) -> bool {
        self.changes.iter().any(|c| c.0 == key)
    }

    /// The changes as the engine takes them, with one more.
    pub fn sets_with(&self, more: Option<&(String, String)>) -> Vec<String> {
        let mut changes = self.changes.clone();
        if let Some((key, value)) = more {
            changes.retain(|c| c.0 != *key);
            changes.push((key.clone(), value.clone()));
        }
        changes.into_iter().map(|(k, v)| format!("{k}={v}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Name of the run; the default run folder is runs/NAME.\nname = \"demo\"\n# Where operators run.\n\
        # One of: auto | cpu | cuda\ndevice = \"auto\"\n\n# Raw files.\n[data]\n# A rating above this is a like.\n\
        # Default: the data set's own.\n# threshold =   (not set)\n# Some.\nsizes = [\n  1,\n  2,\n]\n\n[data.core]\n# Least.\nmin = 0\n";

    #[test]
    fn settings_come_with_their_documentation() {
        let all = parse_annotated(TEXT);
        let keys: Vec<&str> = all.iter().map(|s| s.key.as_str()).collect();
        assert_eq!(keys, ["name", "device", "data.threshold", "data.sizes", "data.core.min"]);
        assert_eq!(all[1].choices, ["auto", "cpu", "cuda"]);
        assert_eq!(all[1].about, "Where operators run.");
        assert!(all[2].unset && all[2].about.ends_with("Default: the data set's own."));
        assert_eq!(all[3].value, "[ 1, 2, ]");
        assert_eq!(all[4].about, "Least.");
    }

    #[test]
    fn a_second_change_of_one_key_replaces_the_first() {
        let mut editor = Editor::new(Source::Demo, "runs/demo".into());
        editor.settings = parse_annotated(TEXT);
        editor.changes = vec![("seed".into(), "1".into())];
        let more = ("seed".to_string(), "2".to_string());
        assert_eq!(editor.sets_with(Some(&more)), ["seed=2"]);
        assert_eq!(editor.sets_with(None), ["seed=1"]);
        editor.filter = "RATING".into();
        assert_eq!(editor.current().map(|s| s.key.as_str()), Some("data.threshold"));
    }
}
