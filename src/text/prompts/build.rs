//! The recommendation prompt. It is made of a beginning that depends on the user and the shown
//! history only, and an end that names the target: prompts whose beginnings are equal can share a
//! key-value cache.

use super::list::{items, one_line};
use super::own::{About, OwnTemplate};
use super::{Placement, PromptSettings, Style, wording};
use crate::data::{Dataset, ItemIdx, Rated, User, UserIdx, nouns};
use crate::error::{Error, Result};
use crate::models::soft_prompt::Items;
use crate::settings::Checked;
use crate::store::chat::{Message, Role};
use crate::text::ratings::Stated;

/// A finished prompt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prompt {
    /// The turns, the user turn last.
    pub messages: Vec<Message>,
    /// Byte of the user turn where the target's part begins. What stands before depends only on the
    /// user, the shown items and the settings, and ends with a line break (a place where tokens do
    /// not join), or is empty.
    pub split: usize,
    /// Positions in the list of candidates that are shown, in order.
    pub shown: Vec<usize>,
    /// Soft tokens in the user turn, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<Mark>,
}

/// Where a soft token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Byte of the user turn: the token goes before the first token that begins there or later.
    pub at: usize,
    /// Which soft token, counted from 0.
    pub token: u32,
}

/// Which soft tokens a prompt gets. Item i's token is number i.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftPlaces {
    /// Behind which titles.
    pub items: Items,
    /// Number of the user's token, which stands at the beginning of the user turn.
    pub user: Option<u32>,
}

impl Prompt {
    /// The user turn.
    pub fn user(&self) -> &str {
        self.messages.iter().rev().find(|m| m.role == Role::User).map_or("", |m| m.content.as_str())
    }

    /// The same prompt with another system message; a prompt without a system turn stays without.
    pub fn with_system(&self, system: &str) -> Self {
        let mut other = self.clone();
        for message in other.messages.iter_mut().filter(|m| m.role == Role::System) {
            message.content = system.to_owned();
        }
        other
    }

    /// The same prompt without soft tokens.
    pub fn without_soft(&self) -> Self {
        Self { soft: Vec::new(), ..self.clone() }
    }

    /// The part of the user turn that several targets can share.
    pub fn prefix(&self) -> &str {
        self.user().get(..self.split).unwrap_or("")
    }

    /// The part of the user turn that names the target.
    pub fn suffix(&self) -> &str {
        self.user().get(self.split..).unwrap_or("")
    }
}

/// Makes the prompts of one data set.
#[derive(Clone, Copy)]
pub struct Prompter<'a> {
    dataset: &'a Dataset,
    threshold: f32,
    settings: &'a PromptSettings,
    soft: Option<SoftPlaces>,
    own: Option<&'a OwnTemplate>,
}

impl<'a> Prompter<'a> {
    /// `threshold`: a rating above it is a like (the data set's rule).
    ///
    /// # Errors
    /// Settings out of range, a threshold that is not finite.
    pub fn new(dataset: &'a Dataset, threshold: f32, settings: &'a PromptSettings) -> Result<Self> {
        settings.check()?;
        if !threshold.is_finite() {
            return Err(Error::usage("threshold", format!("{threshold}")).next("give the data set's threshold"));
        }
        Ok(Self { dataset, threshold, settings, soft: None, own: None })
    }

    /// The same with soft tokens (or, with `None`, without). The text of the prompts does not
    /// change.
    #[must_use]
    pub fn with_soft(self, soft: Option<SoftPlaces>) -> Self {
        Self { soft, ..self }
    }

    /// The same in the words of a template (or, with `None`, in the built-in ones). It knows no
    /// places for soft tokens.
    #[must_use]
    pub fn with_own(self, own: Option<&'a OwnTemplate>) -> Self {
        Self { own, ..self }
    }

    /// The settings in use.
    pub fn settings(&self) -> &PromptSettings {
        self.settings
    }

    /// The prompt that shows all of `shown` in the order given.
    ///
    /// # Errors
    /// A user or an item that is not in the data set.
    pub fn build(&self, user: UserIdx, shown: &[Rated], target: ItemIdx, stated: Option<&Stated>) -> Result<Prompt> {
        let all: Vec<usize> = (0..shown.len()).collect();
        self.build_some(user, shown, &all, target, stated)
    }

    /// The prompt that shows only the positions `keep` of `shown`.
    ///
    /// # Errors
    /// As [`Self::build`]; a position that does not exist.
    pub fn build_some(
        &self,
        user: UserIdx,
        shown: &[Rated],
        keep: &[usize],
        target: ItemIdx,
        stated: Option<&Stated>,
    ) -> Result<Prompt> {
        let (data, settings) = (self.dataset, self.settings);
        let lost = |what: String| {
            Error::input(format!("prompt for {}", data.name), what).next("use samples and data set of one run")
        };
        let person = data.users.get(user.at()).ok_or_else(|| lost(format!("there is no user {}", user.0)))?;
        let mut rated = Vec::with_capacity(keep.len());
        for &at in keep {
            rated.push(*shown.get(at).ok_or_else(|| lost(format!("there is no history item {at}")))?);
        }
        let known =
            |item: ItemIdx| data.items.get(item.at()).ok_or_else(|| lost(format!("there is no item {}", item.0)));
        rated.iter().try_for_each(|r| known(r.item).map(drop))?;
        let title = one_line(&known(target)?.title);

        let profile = if settings.profile { wording::profile(person, settings.style) } else { String::new() };
        if let Some(own) = self.own {
            let content = self.in_own_words(own, person, &rated, target, &profile, stated)?;
            return Ok(self.prompt(content, 0, keep, Vec::new()));
        }
        let mut titles = Vec::new();
        let list = if rated.is_empty() {
            String::new()
        } else {
            let introduction = wording::introduction(person, data, settings, !profile.is_empty());
            let listed = items(data, &rated, settings, |r| r > self.threshold);
            let before = profile.len() + introduction.len() + 1;
            titles.extend(listed.titles.iter().map(|&(end, i)| (before + end, rated[i].item)));
            format!("{introduction}\n{}\n", listed.text)
        };
        let mut notes = wording::notes(data, self.threshold, settings);
        if !notes.is_empty() {
            notes.push('\n');
        }
        let line = |t: String| if t.is_empty() { t } else { t + "\n" };
        let known = line(stated.map_or_else(String::new, |s| s.sentences(&data.noun, data.scale.1)));
        let (question, behind_title) = wording::question(data, &title, settings.style);
        let only = wording::answer_only(settings.style);
        // The papers' prompt for books puts the question before the two notes, the others after
        // them.
        let question_first = nouns::of(&data.noun).question_first && settings.style == Style::Paper;
        let after = settings.placement == Placement::AfterQuestion && !known.is_empty();
        let end = if question_first || after { "\n" } else { " " };
        let (common, question) = if question_first {
            (format!("{profile}{list}"), format!("{question}{end}{notes}"))
        } else {
            (format!("{profile}{list}{notes}"), format!("{question}{end}"))
        };
        let split = if settings.placement == Placement::First && !known.is_empty() { 0 } else { common.len() };
        let content = match settings.placement {
            Placement::First => format!("{known}{common}{question}{only}"),
            Placement::BeforeQuestion => format!("{common}{known}{question}{only}"),
            Placement::AfterQuestion => format!("{common}{question}{known}{only}"),
        };
        let mut soft = Vec::new();
        if let Some(SoftPlaces { items, user }) = self.soft {
            let (first, before) = match settings.placement {
                Placement::First => (known.len(), known.len()),
                Placement::BeforeQuestion => (0, known.len()),
                Placement::AfterQuestion => (0, 0),
            };
            soft.extend(user.map(|token| Mark { at: 0, token }));
            if items == Items::All {
                soft.extend(titles.iter().map(|&(end, item)| Mark { at: first + end, token: item.0 }));
            }
            soft.push(Mark { at: before + common.len() + behind_title, token: target.0 });
        }
        Ok(self.prompt(content, split, keep, soft))
    }

    fn prompt(&self, content: String, split: usize, keep: &[usize], soft: Vec<Mark>) -> Prompt {
        let mut messages = Vec::with_capacity(2);
        if self.settings.system_turn {
            messages.push(Message::system(self.settings.system.clone()));
        }
        messages.push(Message::user(content));
        Prompt { messages, split, shown: keep.to_vec(), soft }
    }

    /// The user's turn in the words of a template. Nothing is known of its beginning, so no part is
    /// said to be shared.
    fn in_own_words(
        &self,
        own: &OwnTemplate,
        user: &User,
        shown: &[Rated],
        target: ItemIdx,
        profile: &str,
        stated: Option<&Stated>,
    ) -> Result<String> {
        let (data, settings) = (self.dataset, self.settings);
        let target = &data.items[target.at()];
        let list =
            if shown.is_empty() { String::new() } else { items(data, shown, settings, |r| r > self.threshold).text };
        own.render(&About {
            dataset: data,
            user,
            shown,
            target,
            threshold: self.threshold,
            settings,
            list: &list,
            ratings: &stated.map_or_else(String::new, |s| s.sentences(&data.noun, data.scale.1)),
            profile,
            introduction: &wording::introduction(user, data, settings, !profile.is_empty()),
            notes: &wording::notes(data, self.threshold, settings),
            question: &wording::question(data, &one_line(&target.title), settings.style).0,
        })
    }
}
