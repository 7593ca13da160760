//! The embeddings behind soft tokens. Item i has token number i; tokens of users follow, in the
//! order in which prompts ask for them.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::stage::Made;
use super::stages::data::DataOutput;
use super::stages::graph::Collaborative;
use super::stages::prompts::PromptRow;
use crate::content::Content;
use crate::data::{Rated, UserIdx};
use crate::error::{Error, Result};
use crate::lm::Local;
use crate::models::soft_prompt::{Inputs, Items, SoftSettings, Source, User, standardised};
use crate::tensor::Matrix;
use crate::text::prompts::{Prompt, SoftPlaces};

/// Which soft tokens prompts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SoftTokens {
    /// TokenOf embeddings.
    pub source: Source,
    /// Behind which titles.
    pub items: Items,
    /// Whether the user has one.
    pub user: User,
}

impl SoftTokens {
    /// `None` when the recipe wants none.
    pub fn of(settings: &SoftSettings) -> Option<Self> {
        let SoftSettings { source, items, user, .. } = *settings;
        settings.is_on().then_some(Self { source, items, user })
    }
}

/// Where the embeddings of items come from.
#[derive(Clone, Copy, Default)]
pub enum SoftItems<'a> {
    /// There are none.
    #[default]
    None,
    /// LightGCN's.
    Graph(&'a Made<Collaborative>),
    /// Of the text, or aligned.
    Text(&'a Made<Matrix>),
}

/// The embeddings behind soft tokens.
#[derive(Clone, Copy, Default)]
pub struct SoftFrom<'a> {
    /// Of items.
    pub items: SoftItems<'a>,
    /// Of users, where they are LightGCN's.
    pub users: Option<&'a Made<Collaborative>>,
}

impl<'a> SoftFrom<'a> {
    /// What `tokens` needs of a run's embeddings.
    pub fn of(
        tokens: Option<SoftTokens>,
        text: &'a Made<Matrix>,
        colla: &'a Made<Collaborative>,
        ssl: &'a Made<Matrix>,
    ) -> Self {
        let Some(tokens) = tokens else { return Self::default() };
        let items = match tokens.source {
            Source::None => SoftItems::None,
            Source::Colla => SoftItems::Graph(colla),
            Source::Ssl => SoftItems::Text(ssl),
            Source::Text => SoftItems::Text(text),
        };
        Self { items, users: (tokens.user == User::Graph).then_some(colla) }
    }

    /// What the items' embeddings hold.
    pub fn items_content(&self) -> Option<Content> {
        match self.items {
            SoftItems::None => None,
            SoftItems::Graph(made) => Some(made.content()),
            SoftItems::Text(made) => Some(made.content()),
        }
    }

    /// The tokens' source; `None` where there are none. `threshold`: a rating above it is a like.
    ///
    /// # Errors
    /// Embeddings that cannot be read.
    pub fn source(&self, tokens: Option<SoftTokens>, threshold: f32) -> Result<Option<SoftSource>> {
        let Some(tokens) = tokens else { return Ok(None) };
        let items = match self.items {
            SoftItems::None => return Ok(None),
            SoftItems::Graph(made) => &made.get()?.items,
            SoftItems::Text(made) => made.get()?,
        };
        Ok(Some(SoftSource {
            items: standardised(items),
            users: self.users.map(|m| m.get().map(|c| standardised(&c.users))).transpose()?,
            which: tokens.items,
            user: tokens.user,
            threshold,
            numbers: HashMap::new(),
            made: Vec::new(),
        }))
    }
}

/// What a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum TokenOf {
    /// Of a history that is frozen at a sample, without the target of another one when that is in
    /// it.
    History { at: usize, without: Option<usize> },
    /// LightGCN's user.
    User(u32),
}

/// Embeddings on one scale, and the tokens of users asked for so far.
pub struct SoftSource {
    items: Matrix,
    /// LightGCN's users, for [`User::Graph`].
    users: Option<Matrix>,
    which: Items,
    user: User,
    threshold: f32,
    numbers: HashMap<TokenOf, u32>,
    /// Embeddings of the users' tokens, in order.
    made: Vec<Vec<f32>>,
}

impl SoftSource {
    /// Where the prompt of `row` has soft tokens, with the history frozen at `at`.
    pub fn places(&mut self, data: DataOutput<'_>, row: usize, at: usize) -> SoftPlaces {
        let sample = data.sample(row);
        let owner = match self.user {
            User::None => return SoftPlaces { items: self.which, user: None },
            User::Graph => TokenOf::User(sample.user.0),
            User::Liked => {
                // Prompts of one group share their beginning, so they share the token, unless that
                // would give the answer away.
                let gives_away = row != at && data.history_at(at, at).iter().any(|r| r.item == sample.item);
                TokenOf::History { at, without: gives_away.then_some(row) }
            }
        };
        let number = match self.numbers.get(&owner) {
            Some(&number) => number,
            None => {
                let number = self.add(sample.user, &data.history_at(row, at));
                self.numbers.insert(owner, number);
                number
            }
        };
        SoftPlaces { items: self.which, user: Some(number) }
    }

    /// The same for an item that a user with this history has not rated.
    pub fn of_candidate(&mut self, user: UserIdx, history: &[Rated]) -> SoftPlaces {
        let number = (self.user != User::None).then(|| self.add(user, history));
        SoftPlaces { items: self.which, user: number }
    }

    fn add(&mut self, user: UserIdx, history: &[Rated]) -> u32 {
        let embedding = match &self.users {
            Some(users) if user.at() < users.rows() => users.row(user.at()).to_vec(),
            // Somebody outside of the data: the mean user.
            Some(users) => vec![0.0; users.cols()],
            None => self.mean_liked(history),
        };
        self.made.push(embedding);
        (self.items.rows() + self.made.len() - 1) as u32
    }

    /// Mean over the liked items that the embedding knows; zeros, the mean item, where there is
    /// none.
    fn mean_liked(&self, history: &[Rated]) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.items.cols()];
        let mut n = 0;
        for rated in history.iter().filter(|r| r.rating > self.threshold) {
            let row = self.items.row(rated.item.at());
            if row.iter().any(|&x| x != 0.0) {
                sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
                n += 1;
            }
        }
        sum.into_iter().map(|s| (s / f64::from(n.max(1))) as f32).collect()
    }

    /// The embeddings of these tokens, by number.
    pub fn matrix(&self, numbers: &[u32]) -> Result<Matrix> {
        let mut values = Vec::with_capacity(numbers.len() * self.items.cols());
        for &number in numbers {
            let n = number as usize;
            let row = match n.checked_sub(self.items.rows()) {
                None => Some(self.items.row(n)),
                Some(user) => self.made.get(user).map(Vec::as_slice),
            };
            let row = row.ok_or_else(|| Error::failed("soft tokens", format!("there is no number {n}")))?;
            values.extend_from_slice(row);
        }
        Matrix::from_vec(numbers.len(), self.items.cols(), values)
    }

    /// The projector's inputs for the soft tokens of some prompts.
    ///
    /// # Errors
    /// Prompts with tokens of another source.
    pub fn inputs_of(&self, prompts: &[Prompt], model: &Local) -> Result<Inputs> {
        let numbers = numbers_of(prompts.iter());
        Inputs::new(ids(&numbers, model), self.matrix(&numbers)?)
    }
}

/// Numbers of the soft tokens in these rows' prompts, ascending.
pub fn numbers(rows: &[PromptRow]) -> Vec<u32> {
    numbers_of(rows.iter().map(|r| &r.prompt))
}

fn numbers_of<'a>(prompts: impl Iterator<Item = &'a Prompt>) -> Vec<u32> {
    let found: BTreeSet<u32> = prompts.flat_map(|p| &p.soft).map(|mark| mark.token).collect();
    found.into_iter().collect()
}

/// The ids that a model reads them by.
pub fn ids(numbers: &[u32], model: &Local) -> Vec<u32> {
    numbers.iter().map(|&n| model.soft_id(n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset, ItemIdx, Samples};
    use crate::monitor::Silent;

    fn data() -> (Dataset, Samples) {
        let settings = data::DataSettings::default();
        let dataset = data::open(&settings, &Silent).unwrap();
        let samples = data::build_samples(&dataset, &settings).unwrap();
        (dataset, samples)
    }

    fn source(data: DataOutput<'_>, user: User) -> SoftSource {
        let (items, users) = (data.dataset.items.len(), data.dataset.users.len());
        let matrix = |rows: usize, salt: usize| {
            let values = (0..rows * 2).map(|i| ((i * 7 + salt) % 11) as f32 - 5.0).collect();
            Matrix::from_vec(rows, 2, values).unwrap()
        };
        SoftSource {
            items: matrix(items, 1),
            users: (user == User::Graph).then(|| matrix(users, 5)),
            which: Items::All,
            user,
            threshold: 3.0,
            numbers: HashMap::new(),
            made: Vec::new(),
        }
    }

    #[test]
    fn rows_of_one_history_share_the_token_unless_the_target_is_in_it() {
        let (dataset, samples) = data();
        let data = DataOutput { dataset: &dataset, samples: &samples };
        let items = dataset.items.len() as u32;
        let mut source = source(data, User::Liked);
        // A user's third sample, and two later ones of the same user frozen at its position.
        let at = (0..).find(|&i| data.sample(i).user == data.sample(i + 2).user).unwrap();
        let number = |s: &mut SoftSource, row: usize, at: usize| s.places(data, row, at).user.unwrap();
        let first = number(&mut source, at, at);
        assert_eq!(first, items);
        assert_eq!(number(&mut source, at + 1, at), first);
        let history = data.history_at(at, at);
        let liked: Vec<&Rated> = history.iter().filter(|r| r.rating > 3.0).collect();
        assert!(!liked.is_empty() && liked.len() < history.len(), "the row says something");
        let mean = |column: usize| {
            liked.iter().map(|r| source.items.row(r.item.at())[column]).sum::<f32>() / liked.len() as f32
        };
        let found = source.matrix(&[2, first]).unwrap();
        assert_eq!(found.row(0), source.items.row(2));
        for column in 0..2 {
            assert!((found.row(1)[column] - mean(column)).abs() <= 1e-5, "{:?}", found.row(1));
        }
        assert!(source.matrix(&[first + 1]).is_err());
        // A target that was liked before: its own rating must not be in its user's token.
        let again = liked[0].item;
        let mut repeated = samples.clone();
        repeated.samples[at + 2].item = again;
        let repeated = DataOutput { dataset: &dataset, samples: &repeated };
        let own = source.places(repeated, at + 2, at).user.unwrap();
        assert_ne!(own, first);
        let mut other = source.items.clone();
        other.row_mut(again.at()).fill(1000.0);
        source.items = other;
        let far = source.places(repeated, at + 2, at).user.unwrap();
        assert_eq!(far, own, "the number is remembered");
        source.numbers.clear();
        let fresh = source.places(repeated, at + 2, at).user.unwrap();
        assert!(source.matrix(&[fresh]).unwrap().row(0).iter().all(|v| v.abs() < 10.0));
    }

    #[test]
    fn users_of_the_graph_have_one_token_each() {
        let (dataset, samples) = data();
        let data = DataOutput { dataset: &dataset, samples: &samples };
        let mut source = source(data, User::Graph);
        let a = source.places(data, 0, 0);
        assert_eq!(a.items, Items::All);
        let same = (1..).find(|&i| data.sample(i).user == data.sample(0).user).unwrap();
        let other = (1..).find(|&i| data.sample(i).user != data.sample(0).user).unwrap();
        assert_eq!(source.places(data, same, same).user, a.user);
        assert_ne!(source.places(data, other, other).user, a.user);
        let row = source.users.as_ref().unwrap().row(data.sample(0).user.at()).to_vec();
        assert_eq!(source.matrix(&[a.user.unwrap()]).unwrap().row(0), row);
        // Nothing liked: the mean item.
        let mut source = self::source(data, User::Liked);
        let history = [Rated { item: ItemIdx(0), rating: 1.0, time: 0 }];
        let places = source.of_candidate(UserIdx(0), &history);
        assert_eq!(source.matrix(&[places.user.unwrap()]).unwrap().row(0), [0.0, 0.0]);
    }
}
