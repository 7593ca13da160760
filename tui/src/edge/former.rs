//! What stages took in other runs of the same recipe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rallrec_events::RunFolder;

/// Runs that are looked at, the latest first.
const MOST: usize = 20;

/// The first line of a recipe that names it.
fn name(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("recipe.toml")).ok()?;
    text.lines().find(|l| l.starts_with("name")).map(str::to_string)
}

/// (stage, median of its seconds) over runs of the same recipe beside `folder`.
pub fn seconds(folder: &Path) -> Vec<(String, u32)> {
    let (Some(own), Some(parent)) = (name(folder), folder.parent()) else { return Vec::new() };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut others: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.metadata().ok().filter(fs::Metadata::is_dir)?.modified().ok()?, e.path())))
        .collect();
    others.sort_by(|a, b| b.cmp(a));
    // Of very many folders only the latest are opened at all.
    others.truncate(20 * MOST);
    let alike = others.into_iter().map(|o| o.1).filter(|o| name(o).as_ref() == Some(&own)).take(MOST);
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for artifact in alike.flat_map(|folder| RunFolder::new(&folder).artifacts()) {
        if let Some(seconds) = artifact.seconds.filter(|s| s.is_finite() && *s >= 0.0) {
            found.entry(artifact.stage).or_default().push(seconds);
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2].round() as u32
    };
    found.into_iter().map(|(stage, values)| (stage, median(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_take_what_they_took_in_runs_of_the_same_recipe() {
        let root = tempfile::tempdir().unwrap();
        let run = |folder: &str, recipe: &str, seconds: f64| {
            let artifact = root.path().join(folder).join("artifacts/tune-aa11");
            fs::create_dir_all(&artifact).unwrap();
            fs::write(artifact.join("artifact.json"), format!("{{\"bytes\": 1, \"seconds\": {seconds}}}")).unwrap();
            fs::write(root.path().join(folder).join("recipe.toml"), format!("name = \"{recipe}\"\n")).unwrap();
        };
        run("a", "x", 10.0);
        run("b", "x", 30.0);
        run("c", "x", 20.0);
        run("d", "y", 900.0);
        assert_eq!(seconds(&root.path().join("a")), [("tune".to_string(), 20)]);
        assert!(seconds(&root.path().join("nowhere")).is_empty());
    }
}
