//! Figures that others published, to be shown beside ours. They stand in `assets/published.toml`;
//! nothing is computed with them, and no test holds our numbers to them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::metrics::{Estimate, Metrics};
use crate::events::{Event, metric};

const TEXT: &str = include_str!("../../assets/published.toml");

/// What was published of one data set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The data set for people.
    pub name: String,
    /// Its kinds as `data.kind` names them.
    pub kinds: Vec<String>,
    /// What its items are called, where the kind does not say which set it is.
    pub noun: Option<String>,
    /// Paper, version, tables.
    pub source: String,
    /// Users behind the figures.
    pub users: usize,
    /// Items, as the paper counts them.
    pub items: usize,
    /// Samples before the split.
    pub samples: usize,
    /// So many rows from the start of the test part were scored.
    pub test: usize,
    /// The order of a user's ratings, where it decides which one is the target.
    pub shuffle: Option<String>,
    /// The models.
    rows: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    auc: Option<f64>,
    log_loss: Option<f64>,
    accuracy: Option<f64>,
    #[serde(default)]
    twice: bool,
    #[serde(default)]
    about: About,
}

/// Which tables a row belongs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum About {
    /// Every table.
    #[default]
    Models,
    /// Tables of ways to choose the shown history.
    Histories,
}

/// A published row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedRow {
    /// The paper's name of the model.
    pub name: String,
    /// The figures, without intervals.
    pub metrics: Metrics,
    /// Its log loss comes from code that takes the softmax twice (D4).
    pub twice: bool,
}

/// The published rows of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The data set for people.
    pub data: String,
    /// Paper, version, tables.
    pub source: String,
    /// Why they are of other rows than ours; `None` where they are of the same.
    pub other_rows: Option<String>,
    /// The rows in the paper's order.
    pub rows: Vec<PublishedRow>,
}

impl Figures {
    /// Of a data set by its kind and what its items are called.
    pub fn of(kind: &str, noun: &str) -> Option<&'static Figures> {
        static ALL: LazyLock<Vec<Figures>> = LazyLock::new(|| {
            #[derive(Deserialize)]
            struct File {
                set: Vec<Figures>,
            }
            // A test reads the file, which is part of the program.
            toml::from_str::<File>(TEXT).map(|file| file.set).unwrap_or_default()
        });
        let known = |set: &&Figures| {
            set.kinds.iter().any(|known| known == kind) && set.noun.as_deref().is_none_or(|wanted| wanted == noun)
        };
        ALL.iter().find(known)
    }

    /// The rows of a table; `histories`: it is one of ways to choose the shown history.
    pub fn beside(&self, histories: bool, other_rows: Option<String>) -> Published {
        let rows = self.rows.iter().filter(|line| histories || line.about == About::Models);
        Published {
            data: self.name.clone(),
            source: self.source.clone(),
            other_rows,
            rows: rows.map(Line::row).collect(),
        }
    }
}

impl Line {
    fn row(&self) -> PublishedRow {
        let named = [(&metric::AUC, self.auc), (&metric::LOG_LOSS, self.log_loss), (&metric::ACCURACY, self.accuracy)];
        let known = named
            .into_iter()
            .filter_map(|(metric, value)| value.map(|value| (metric.name.to_string(), Some(Estimate::point(value)))));
        PublishedRow { name: self.name.clone(), metrics: known.collect(), twice: self.twice }
    }
}

impl PublishedRow {
    /// As the row is called beside ours.
    pub fn title(&self) -> String {
        format!("{} (published)", self.name)
    }
}

impl Published {
    /// What the rows are, in a sentence or two.
    pub fn caption(&self) -> String {
        let rows = match &self.other_rows {
            None => "on the rows of this table".to_string(),
            Some(why) => format!("on other rows than ours ({why})"),
        };
        let mut text = format!("Published: {}; {}, {rows}.", self.source, self.data);
        if self.rows.iter().any(|row| row.twice) {
            text += " Published log losses of language models come from code that takes the softmax twice (D4): \
                     compare their AUC.";
        }
        text
    }

    /// The rows as events, in a table of their own.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let which = if self.other_rows.is_some() { ", other rows" } else { "" };
        let title = format!("Published, {}{which}", self.data);
        self.rows.iter().map(move |row| Event::ResultRow {
            row: row.title(),
            split: "published".into(),
            metrics: row.metrics.told(),
            table: Some(title.clone()),
            n: None,
            reference: None,
            against: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_its_rows_with_figures_between_0_and_1() {
        for (kind, noun) in [("ml-1m", "movie"), ("book-crossing", "book"), ("amazon-csv", "movie")] {
            let set = Figures::of(kind, noun).unwrap();
            assert!(set.source.contains("arXiv 2503.20430 v1"), "{}", set.source);
            let (models, histories) = (set.beside(false, None), set.beside(true, None));
            assert_eq!((models.rows.len(), histories.rows.len()), (14, 18), "{kind}");
            for row in &histories.rows {
                let values: Vec<f64> = row.metrics.iter().filter_map(|(_, e)| Some(e?.value)).collect();
                assert!(matches!(values.len(), 1 | 3) && values.iter().all(|v| (0.4..1.0).contains(v)), "{row:?}");
                assert!(row.metrics.iter().all(|(_, e)| e.is_some_and(|e| e.low.is_none())), "{row:?}");
            }
            let told: Vec<Event> = models.events().collect();
            assert_eq!(told.len(), 14);
        }
        assert!(Figures::of("amazon", "product").is_none() && Figures::of("table", "item").is_none());
        assert!(Figures::of("synthetic", "movie").is_none());
    }

    #[test]
    fn the_caption_says_whose_rows_and_which_log_losses() {
        let set = Figures::of("ml-1m", "movie").unwrap();
        let same = set.beside(false, None).caption();
        assert!(same.contains("on the rows of this table") && same.contains("softmax twice"), "{same}");
        let other = set.beside(false, Some("2,000 of them".into())).caption();
        assert!(other.contains("on other rows than ours (2,000 of them)"), "{other}");
    }
}
