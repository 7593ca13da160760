//! The lines of the table: which runs are shown, in what order, under which headings.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rallrec_events::metric::{AUC, LOG_LOSS};
use serde::{Deserialize, Serialize};

use super::{Catalogue, Entry, RunEntry};

/// By what the runs are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The one that began last first.
    #[default]
    Begun,
    /// By folder.
    Name,
    /// Best AUC first.
    Auc,
    /// Least log loss first.
    LogLoss,
    /// Longest first.
    Time,
    /// At work first.
    State,
}

impl Order {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Order::Begun => Order::Name,
            Order::Name => Order::Auc,
            Order::Auc => Order::LogLoss,
            Order::LogLoss => Order::Time,
            Order::Time => Order::State,
            Order::State => Order::Begun,
        }
    }

    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Order::Begun => "begun",
            Order::Name => "name",
            Order::Auc => "AUC",
            Order::LogLoss => "log loss",
            Order::Time => "time",
            Order::State => "state",
        }
    }

    fn compare(self, a: &RunEntry, b: &RunEntry) -> Ordering {
        // What is not known comes last.
        let figure = |a: Option<f64>, b: Option<f64>, high: bool| match (a, b) {
            (Some(a), Some(b)) if high => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        match self {
            Order::Begun => b.began_ms.cmp(&a.began_ms),
            Order::Name => a.folder.cmp(&b.folder),
            Order::Auc => figure(a.metric(AUC.name), b.metric(AUC.name), true),
            Order::LogLoss => figure(a.metric(LOG_LOSS.name), b.metric(LOG_LOSS.name), false),
            Order::Time => b.seconds.total_cmp(&a.seconds),
            Order::State => a.state.cmp(&b.state),
        }
        .then_with(|| b.began_ms.cmp(&a.began_ms))
        .then_with(|| a.folder.cmp(&b.folder))
    }
}

/// Under which headings the runs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// No headings.
    #[default]
    None,
    /// The data set.
    Data,
    /// The language model.
    Model,
    /// What they are doing.
    State,
}

impl Groups {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Groups::None => Groups::Data,
            Groups::Data => Groups::Model,
            Groups::Model => Groups::State,
            Groups::State => Groups::None,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Groups::None => "none",
            Groups::Data => "data",
            Groups::Model => "model",
            Groups::State => "state",
        }
    }

    fn of(self, run: &RunEntry) -> &str {
        match self {
            Groups::None => "",
            Groups::Data => &run.data,
            Groups::Model => &run.model,
            Groups::State => run.state.word(),
        }
    }
}

/// What the user chose of the table; it is remembered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// Order of the runs.
    pub order: Order,
    /// Headings.
    pub groups: Groups,
    /// Runs that stand at the top.
    pub pinned: BTreeSet<PathBuf>,
    /// Runs that are left out.
    pub hidden: BTreeSet<PathBuf>,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A heading.
    Heading(String),
    /// The run with this place in the catalogue.
    Run(usize),
    /// The recipe with this place in the catalogue.
    Recipe(usize),
}

/// Where a line stands, so that it is found again when others come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A run.
    Run(PathBuf),
    /// A recipe, by its heading in the table.
    Recipe(String),
}

/// The lines of the table, made anew only when something about them has changed.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Row>,
    /// Runs that the filter or the user leaves out.
    pub left_out: usize,
}

impl Rows {
    /// The lines for a catalogue: pinned runs first, then the others, then the recipes.
    pub fn new(catalogue: &Catalogue, choice: &Choice, filter: &str, all: bool) -> Self {
        let wanted: Vec<String> = filter.to_lowercase().split_whitespace().map(str::to_string).collect();
        let passes =
            |texts: &[&str]| wanted.iter().all(|word| texts.iter().any(|text| text.to_lowercase().contains(word)));
        let shown = |run: &RunEntry| {
            let name = run.folder.to_string_lossy();
            (all || !choice.hidden.contains(&run.folder))
                && (wanted.is_empty()
                    || passes(&[&name, run.state.word(), &run.stage, &run.data, &run.model, &run.changed]))
        };
        let mut runs: Vec<usize> = (0..catalogue.runs.len()).filter(|i| shown(&catalogue.runs[*i])).collect();
        let left_out = catalogue.runs.len() - runs.len();
        runs.sort_by(|a, b| choice.order.compare(&catalogue.runs[*a], &catalogue.runs[*b]));
        let (pinned, rest): (Vec<usize>, Vec<usize>) =
            runs.into_iter().partition(|i| choice.pinned.contains(&catalogue.runs[*i].folder));
        let mut rows: Vec<Row> = pinned.into_iter().map(Row::Run).collect();
        if choice.groups == Groups::None {
            rows.extend(rest.into_iter().map(Row::Run));
        } else {
            let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for i in rest {
                groups.entry(choice.groups.of(&catalogue.runs[i])).or_default().push(i);
            }
            for (name, runs) in groups {
                let name = if name.is_empty() { "not known" } else { name };
                rows.push(Row::Heading(format!("{} {name} ({})", choice.groups.word(), runs.len())));
                rows.extend(runs.into_iter().map(Row::Run));
            }
        }
        let recipes = catalogue.recipes.iter().enumerate();
        let recipes = recipes.filter(|(_, r)| wanted.is_empty() || passes(&[&r.name, &r.source.name(), "recipe"]));
        rows.extend(recipes.map(|(i, _)| Row::Recipe(i)));
        Self { rows, left_out }
    }

    /// What stands on a line; `None` for a heading.
    pub fn entry<'a>(&self, catalogue: &'a Catalogue, row: usize) -> Option<Entry<'a>> {
        match self.rows.get(row)? {
            Row::Heading(_) => None,
            Row::Run(i) => catalogue.runs.get(*i).map(Entry::Run),
            Row::Recipe(i) => catalogue.recipes.get(*i).map(Entry::Recipe),
        }
    }

    /// The line of a run.
    pub fn run(&self, catalogue: &Catalogue, folder: &Path) -> Option<usize> {
        self.find(catalogue, &Place::Run(folder.to_path_buf()))
    }

    /// Where a line stands.
    pub fn place(&self, catalogue: &Catalogue, row: usize) -> Option<Place> {
        self.entry(catalogue, row).map(|entry| match entry {
            Entry::Run(run) => Place::Run(run.folder.clone()),
            Entry::Recipe(recipe) => Place::Recipe(recipe.source.name()),
        })
    }

    /// The line that stands there.
    pub fn find(&self, catalogue: &Catalogue, place: &Place) -> Option<usize> {
        let is_there = |row: &Row| match (row, place) {
            (Row::Run(i), Place::Run(folder)) => catalogue.runs.get(*i).is_some_and(|r| r.folder == *folder),
            (Row::Recipe(i), Place::Recipe(name)) => {
                catalogue.recipes.get(*i).is_some_and(|r| r.source.name() == *name)
            }
            _ => false,
        };
        self.rows.iter().position(is_there)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunState;
    use super::*;

    fn catalogue() -> Catalogue {
        let run = |name: &str, began_ms: u64, auc: Option<f64>, data: &str| RunEntry {
            folder: name.into(),
            state: if auc.is_some() { RunState::Done } else { RunState::Running },
            began_ms,
            metrics: auc.map(|v| ("auc".to_string(), v)).into_iter().collect(),
            data: data.into(),
            ..RunEntry::default()
        };
        let runs = vec![
            run("runs/c", 30, None, "books"),
            run("runs/b", 20, Some(0.6), "ml-1m"),
            run("runs/a", 10, Some(0.7), "ml-1m"),
        ];
        Catalogue { runs, ..Catalogue::default() }
    }

    fn names(choice: &Choice, filter: &str) -> Vec<String> {
        let catalogue = catalogue();
        let rows = Rows::new(&catalogue, choice, filter, false);
        let name = |i: usize| match rows.entry(&catalogue, i) {
            Some(Entry::Run(run)) => run.folder.display().to_string(),
            _ => format!("{:?}", rows.rows[i]),
        };
        (0..rows.rows.len()).map(name).collect()
    }

    #[test]
    fn runs_are_ordered_filtered_pinned_hidden_and_grouped() {
        let mut choice = Choice::default();
        assert_eq!(names(&choice, ""), ["runs/c", "runs/b", "runs/a"], "the latest first");
        choice.order = Order::Auc;
        assert_eq!(names(&choice, ""), ["runs/a", "runs/b", "runs/c"], "what is not known comes last");
        assert_eq!(names(&choice, "ML done"), ["runs/a", "runs/b"], "every word counts");
        choice.pinned.insert("runs/c".into());
        assert_eq!(names(&choice, "")[0], "runs/c");
        choice.hidden.insert("runs/a".into());
        assert_eq!(names(&choice, ""), ["runs/c", "runs/b"]);
        choice.pinned.clear();
        choice.groups = Groups::Data;
        let grouped = names(&choice, "");
        assert!(grouped[0].contains("data books (1)") && grouped[2].contains("data ml-1m (1)"), "{grouped:?}");
    }
}
