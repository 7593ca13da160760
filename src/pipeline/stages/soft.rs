//! The embeddings behind soft tokens. Item i has token number i; tokens of users follow, in the order in which prompts ask
//! for them.

use std::collections::{BTreeSet, HashMap};

use super::data::Ground;
use super::language::Language;
use super::prompts::PromptRow;
use super::retrieve::Embeddings;
use crate::config::Recipe;
use crate::data::{Rated, UserIdx};
use crate::error::{Error, Result};
use crate::models::soft_prompt::{Inputs, Items, Source, User, standardised};
use crate::pipeline::key::KeyBuilder;
use crate::tensor::Matrix;
use crate::text::prompts::{Prompt, SoftPlaces};

/// Adds what soft tokens depend on to the key of the prompts; nothing where there are none.
pub(super) fn add_to_key(key: KeyBuilder, recipe: &Recipe, embeddings: &Embeddings<'_>) -> Result<KeyBuilder> {
    let soft = &recipe.soft;
    let key = match soft.source {
        Source::None => return Ok(key),
        Source::Colla => key,
        Source::Ssl => key.input("align", &embeddings.ssl.artifact.key),
        Source::Text => key.input("embed", &embeddings.text.artifact.key),
    };
    key.input("graph", &embeddings.colla.artifact.key).settings("soft", &(soft.source, soft.items, soft.user))
}

/// Whose token it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    /// Of a history that is frozen at a sample, without the target of another one when that is in it.
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
    numbers: HashMap<Whose, u32>,
    /// Embeddings of the users' tokens, in order.
    made: Vec<Vec<f32>>,
}

impl SoftSource {
    /// `None` when the recipe wants no soft tokens.
    pub fn new(recipe: &Recipe, embeddings: &Embeddings<'_>) -> Option<Self> {
        let items = match recipe.soft.source {
            Source::None => return None,
            Source::Colla => &embeddings.colla.items,
            Source::Ssl => &embeddings.ssl.ssl,
            Source::Text => &embeddings.text.text,
        };
        let users = (recipe.soft.user == User::Graph).then(|| standardised(&embeddings.colla.users));
        Some(Self {
            items: standardised(items),
            users,
            which: recipe.soft.items,
            user: recipe.soft.user,
            threshold: recipe.data.threshold(),
            numbers: HashMap::new(),
            made: Vec::new(),
        })
    }

    /// Where the prompt of `row` has soft tokens, with the history frozen at `at`.
    pub fn places(&mut self, ground: &Ground, row: usize, at: usize) -> SoftPlaces {
        let sample = ground.sample(row);
        let whose = match self.user {
            User::None => return SoftPlaces { items: self.which, user: None },
            User::Graph => Whose::User(sample.user.0),
            User::Liked => {
                // Prompts of one group share their beginning, so they share the token, unless that would tell the answer.
                let told = row != at && ground.history_at(at, at).iter().any(|r| r.item == sample.item);
                Whose::History { at, without: told.then_some(row) }
            }
        };
        let number = match self.numbers.get(&whose) {
            Some(&number) => number,
            None => {
                let number = self.add(sample.user, &ground.history_at(row, at));
                self.numbers.insert(whose, number);
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
            Some(users) => users.row(user.at()).to_vec(),
            None => self.mean_liked(history),
        };
        self.made.push(embedding);
        (self.items.rows() + self.made.len() - 1) as u32
    }

    /// Mean over the liked items that the embedding knows; zeros, the mean item, where there is none.
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

    /// The projector's inputs for the soft tokens of a prompt.
    pub fn inputs_of(&self, prompt: &Prompt, language: &Language) -> Result<Inputs> {
        let numbers: BTreeSet<u32> = prompt.soft.iter().map(|mark| mark.token).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        Inputs::new(ids(&numbers, language), self.matrix(&numbers)?)
    }
}

/// Numbers of the soft tokens in these prompts, ascending.
pub(super) fn numbers(rows: &[PromptRow]) -> Vec<u32> {
    let found: BTreeSet<u32> = rows.iter().flat_map(|r| &r.prompt.soft).map(|mark| mark.token).collect();
    found.into_iter().collect()
}

/// The ids that a model reads them by.
pub(super) fn ids(numbers: &[u32], language: &Language) -> Vec<u32> {
    numbers.iter().map(|&n| language.soft_id(n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, ItemIdx};
    use crate::monitor::Silent;
    use crate::pipeline::artifact::Artifact;
    use crate::pipeline::stages::ChosenRows;

    fn ground() -> Ground {
        let settings = data::Settings::default();
        let dataset = data::open(&settings, &Silent).unwrap();
        let samples = data::build_samples(&dataset, &settings).unwrap();
        let rows = ChosenRows { tune: vec![], valid: vec![], test: vec![] };
        let artifact = Artifact { key: KeyBuilder::new("test", 1).finish(), folder: "nowhere".into() };
        Ground { dataset, samples, rows, artifact }
    }

    fn source(ground: &Ground, user: User) -> SoftSource {
        let (items, users) = (ground.dataset.items.len(), ground.dataset.users.len());
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
        let ground = ground();
        let items = ground.dataset.items.len() as u32;
        let mut source = source(&ground, User::Liked);
        // A user's third sample, and two later ones of the same user frozen at its position.
        let at = (0..).find(|&i| ground.sample(i).user == ground.sample(i + 2).user).unwrap();
        let number = |s: &mut SoftSource, row: usize, at: usize| s.places(&ground, row, at).user.unwrap();
        let first = number(&mut source, at, at);
        assert_eq!(first, items);
        assert_eq!(number(&mut source, at + 1, at), first);
        let history = ground.history_at(at, at);
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
        let mut repeated = ground;
        let again = liked[0].item;
        repeated.samples.samples[at + 2].item = again;
        let own = source.places(&repeated, at + 2, at).user.unwrap();
        assert_ne!(own, first);
        let mut told = source.items.clone();
        told.row_mut(again.at()).fill(1000.0);
        source.items = told;
        let far = source.places(&repeated, at + 2, at).user.unwrap();
        assert_eq!(far, own, "the number is remembered");
        source.numbers.clear();
        let fresh = source.places(&repeated, at + 2, at).user.unwrap();
        assert!(source.matrix(&[fresh]).unwrap().row(0).iter().all(|v| v.abs() < 10.0));
    }

    #[test]
    fn users_of_the_graph_have_one_token_each() {
        let ground = ground();
        let mut source = source(&ground, User::Graph);
        let a = source.places(&ground, 0, 0);
        assert_eq!(a.items, Items::All);
        let same = (1..).find(|&i| ground.sample(i).user == ground.sample(0).user).unwrap();
        let other = (1..).find(|&i| ground.sample(i).user != ground.sample(0).user).unwrap();
        assert_eq!(source.places(&ground, same, same).user, a.user);
        assert_ne!(source.places(&ground, other, other).user, a.user);
        let row = source.users.as_ref().unwrap().row(ground.sample(0).user.at()).to_vec();
        assert_eq!(source.matrix(&[a.user.unwrap()]).unwrap().row(0), row);
        // Nothing liked: the mean item.
        let mut source = self::source(&ground, User::Liked);
        let history = [Rated { item: ItemIdx(0), rating: 1.0, time: 0 }];
        let places = source.of_candidate(UserIdx(0), &history);
        assert_eq!(source.matrix(&[places.user.unwrap()]).unwrap().row(0), [0.0, 0.0]);
    }
}
