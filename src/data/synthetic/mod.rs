//! The built-in data set: invented users and items with latent tastes, learnable by the same means
//! as a real one and free of any licence. Descriptions tell the theme and the reception of an item,
//! which its title does not.

mod text;
mod words;

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Field, Interaction, Item, User};
use super::set::DataSet;
use super::{ItemIdx, RawId, UserIdx, sets};
use crate::error::Result;
use crate::rng::{Rng, Use};
use crate::settings::{Checked, Faults};
use words::{AGES, GENRES, OCCUPATIONS, THEMES};

/// The data set.
pub static SET: DataSet = DataSet {
    name: "synthetic",
    about: "the built-in invented set; needs no files",
    noun: "movie",
    described: true,
    ready: |_, _| Ok(()),
    load: |_, settings, _| Ok(generate(&settings.synthetic.checked()?).0),
    ..DataSet::PLAIN
};

/// A rating above this is a like.
pub const THRESHOLD: f32 = SET.threshold;
const START: i64 = 978_307_200;
const SPAN: i64 = 3 * 365 * 86_400;
/// Cold items appear within this last share of the time.
const COLD_FROM: f64 = 0.85;

/// Sizes and seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticSettings {
    /// Which invented world: another seed is another data set. It does not follow the recipe's
    /// `seed`.
    pub seed: u64,
    /// Users.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub users: u32,
    /// Items.
    #[schemars(range(min = 20, max = 100_000))]
    pub items: u32,
    /// Ratings, met within a few per cent: at least 6 a user, at most half of users times items.
    pub ratings: u32,
    /// Standard deviation of the noise in a rating, in stars.
    #[schemars(range(min = 0.0, max = 5.0))]
    pub noise: f32,
    /// How far the users' likings move over the whole time, as a share of their size.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub drift: f32,
    /// Share of items that appear only in the last 15 % of the time.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub cold: f32,
    /// Share of ratings that are made a second time later; MovieLens has none.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub repeats: f32,
}

impl Default for SyntheticSettings {
    fn default() -> Self {
        Self { seed: 1, users: 300, items: 200, ratings: 20_000, noise: 0.9, drift: 0.5, cold: 0.08, repeats: 0.0 }
    }
}

impl SyntheticSettings {
    /// Itself, when sound.
    pub fn checked(&self) -> Result<Self> {
        self.check().map(|()| self.clone())
    }
}

impl Checked for SyntheticSettings {
    fn contradictions(&self) -> Faults {
        let (few, pairs) = (6 * u64::from(self.users), u64::from(self.users) * u64::from(self.items));
        let mut faults = Faults::default();
        // Sizes that are wrong themselves are told by their ranges.
        let sizes = (2..=1_000_000).contains(&self.users) && (20..=100_000).contains(&self.items);
        faults.unless(
            !sizes || (few..=pairs / 2).contains(&u64::from(self.ratings)),
            "ratings",
            format!("{} is out of range for these users and items", self.ratings),
            format!("set it to {few} to {}: at least 6 a user, at most half of users times items", pairs / 2),
        );
        faults
    }
}

/// What the ratings are made of; only tests and baselines may look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// Per user: taste for each genre at the start, and its change over the whole time.
    pub tastes: Vec<[[f32; GENRES.len()]; 2]>,
    /// Per user: taste for each theme.
    pub themes: Vec<[f32; THEMES.len()]>,
    /// Per user: how kindly this one rates, stars.
    pub bias: Vec<f32>,
    /// Per item: its genres with their share; the second may have share 0.
    pub genres: Vec<[(usize, f32); 2]>,
    /// Per item: its theme, told by the description only.
    pub theme: Vec<usize>,
    /// Per item: quality, about standard normal.
    pub quality: Vec<f32>,
    /// Per item: appears only late.
    pub cold: Vec<bool>,
    /// Per item: a text of 40 to 70 words in the manner of a language model.
    pub descriptions: Vec<String>,
}

impl Latent {
    /// The rating before noise and rounding, in stars.
    pub fn score(&self, user: UserIdx, item: ItemIdx, time: i64) -> f32 {
        let (u, i) = (user.at(), item.at());
        let passed = (time - START) as f32 / SPAN as f32;
        let [start, change] = &self.tastes[u];
        let genre: f32 = self.genres[i].iter().map(|&(g, share)| share * (start[g] + passed * change[g])).sum();
        3.35 + self.bias[u] + 0.55 * self.quality[i] + 0.75 * genre + 0.5 * self.themes[u][self.theme[i]]
    }
}

/// Makes the data set. The same settings give the same bits.
///
/// Values outside the ranges of [`SyntheticSettings::check`] are the caller's to refuse.
pub fn generate(settings: &SyntheticSettings) -> (Dataset, Latent) {
    let (items, latent, appear, popularity) = world(settings);
    let users = (0..settings.users).map(|u| user(settings, u)).collect();
    let mut interactions = Vec::with_capacity(settings.ratings as usize);
    for (u, count) in (0..).map(UserIdx).zip(activity(settings)) {
        rate(settings, u, count, &latent, &appear, &popularity, &mut interactions);
    }
    sets::sort(&mut interactions);
    let dataset = Dataset {
        name: SET.name.into(),
        noun: SET.noun.into(),
        scale: SET.scale,
        has_times: SET.has_times,
        items,
        users,
        interactions,
    };
    (dataset, latent)
}

/// Text snippets that sound like everything the pipeline will tokenize for this data: titles,
/// templated texts, descriptions, user profiles, rated lists, answers. For training a small
/// tokenizer or language model. `plain` puts an item into words, given the noun of the catalogue.
pub fn corpus(settings: &SyntheticSettings, plain: &dyn Fn(&Item, &str) -> String) -> Vec<String> {
    let (dataset, latent) = generate(settings);
    text::corpus(&dataset, &latent, plain)
}

/// A stream of its own for each (part, row).
fn stream(settings: &SyntheticSettings, part: u32, row: u32) -> Rng {
    Rng::new(settings.seed, Use::Synthetic, part, row)
}

/// Items and tastes, when items appear (share of the time), and how popular they are.
fn world(settings: &SyntheticSettings) -> (Vec<Item>, Latent, Vec<f64>, Vec<f64>) {
    let n = settings.items as usize;
    let mut latent = Latent {
        tastes: Vec::new(),
        themes: Vec::new(),
        bias: Vec::new(),
        genres: Vec::with_capacity(n),
        theme: Vec::with_capacity(n),
        quality: Vec::with_capacity(n),
        cold: Vec::with_capacity(n),
        descriptions: Vec::with_capacity(n),
    };
    let mut ranks: Vec<u32> = (0..settings.items).collect();
    stream(settings, 0, 0).shuffle(&mut ranks);
    let (mut items, mut appear, mut popularity) = (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let mut titles = text::Titles::default();
    let mut id = 0;
    for (i, rank) in (0..settings.items).zip(ranks) {
        let mut rng = stream(settings, 1, i);
        // Ids have gaps, so that an id taken for a position shows in a test.
        id += 1 + u32::from(rng.below(12) == 0);
        let first = rng.below(GENRES.len() as u32) as usize;
        let second = (first + 1 + rng.below(GENRES.len() as u32 - 1) as usize) % GENRES.len();
        let share = if rng.below(2) == 0 { 1.0 } else { 0.65 };
        latent.genres.push([(first, share), (second, 1.0 - share)]);
        latent.theme.push(rng.below(THEMES.len() as u32) as usize);
        latent.quality.push(rng.normal().clamp(-2.5, 2.5));
        let cold = rng.uniform() < settings.cold;
        latent.cold.push(cold);
        appear.push(match (cold, rng.below(4)) {
            (true, _) => COLD_FROM + 0.08 * rng.uniform_f64(),
            (false, 0) => 0.6 * rng.uniform_f64(),
            _ => 0.0,
        });
        let zipf = (f64::from(rank) + 4.0).powf(-0.8) * f64::from(0.25 * latent.quality[i as usize]).exp();
        popularity.push(if cold { 4.0 * zipf } else { zipf });
        let title = titles.invent(&mut rng, GENRES[first], settings.items);
        let genres = latent.genres[i as usize].iter().filter(|g| g.1 > 0.0).map(|g| GENRES[g.0].name.to_owned());
        items.push(Item { raw: RawId(id.to_string()), title, genres: genres.collect(), fields: Vec::new() });
        latent.descriptions.push(text::description(&mut rng, &latent, i as usize));
    }
    for u in 0..settings.users {
        let mut rng = stream(settings, 2, u);
        let start = std::array::from_fn(|_| rng.normal());
        let change = std::array::from_fn(|_| settings.drift * rng.normal());
        latent.tastes.push([start, change]);
        latent.themes.push(std::array::from_fn(|_| rng.normal()));
        latent.bias.push(0.3 * rng.normal());
    }
    (items, latent, appear, popularity)
}

fn user(settings: &SyntheticSettings, u: u32) -> User {
    let mut rng = stream(settings, 3, u);
    let gender = ["female", "male"][rng.below(2) as usize];
    let age = AGES[rng.below(AGES.len() as u32) as usize];
    let occupation = match age {
        "under 18" => "K-12 student",
        _ => OCCUPATIONS[rng.below(OCCUPATIONS.len() as u32) as usize],
    };
    let zip = format!("{:05}", 1000 + rng.below(98_000));
    let fields = [("gender", gender), ("age", age), ("occupation", occupation), ("zip", &zip)]
        .map(|(name, value)| Field { name: name.into(), value: value.into() });
    User { raw: RawId((u + 1).to_string()), fields: fields.into() }
}

/// Ratings a user, log-normal: a few are very busy.
fn activity(settings: &SyntheticSettings) -> Vec<usize> {
    let weights: Vec<f64> =
        (0..settings.users).map(|u| f64::from(0.6 * stream(settings, 4, u).normal()).exp()).collect();
    let most = settings.items as usize * 7 / 10;
    let counts = |scale: f64| -> Vec<usize> {
        weights.iter().map(|w| ((w * scale).round() as usize).clamp(6.min(most), most)).collect()
    };
    // The bounds bend the total, so the scale is corrected a few times.
    let mut scale = f64::from(settings.ratings) / weights.iter().sum::<f64>();
    for _ in 0..8 {
        scale *= f64::from(settings.ratings) / counts(scale).iter().sum::<usize>() as f64;
    }
    counts(scale)
}

/// One user's ratings: items by popularity and liking, at times within a period of their own, in
/// sessions.
fn rate(
    settings: &SyntheticSettings,
    user: UserIdx,
    count: usize,
    latent: &Latent,
    appear: &[f64],
    popularity: &[f64],
    into: &mut Vec<Interaction>,
) {
    let mut rng = stream(settings, 5, user.0);
    let begin = 0.7 * rng.uniform_f64();
    let length = (0.25 + 0.75 * rng.uniform_f64()) * (1.0 - begin);
    let middle = START + (SPAN as f64 * (begin + 0.5 * length)) as i64;
    let mut total = 0.0;
    let cumulative: Vec<f64> = (0..popularity.len())
        .map(|i| {
            let liking = f64::from(latent.score(user, ItemIdx(i as u32), middle) - 3.35);
            total += popularity[i] * (0.35 * liking).exp();
            total
        })
        .collect();
    let mut moments: Vec<f64> = (0..count)
        .map(|_| {
            let session = (rng.uniform_f64() * 12.0).floor() / 12.0;
            begin + length * (session + 0.004 * rng.uniform_f64()).min(1.0)
        })
        .collect();
    moments.sort_by(f64::total_cmp);
    let mut rated = vec![false; popularity.len()];
    let mut earlier: Vec<ItemIdx> = Vec::new();
    for moment in moments {
        let time = START + (SPAN as f64 * moment) as i64;
        let again = !earlier.is_empty() && rng.uniform() < settings.repeats;
        let free = |i: usize| !rated[i] && appear[i] <= moment;
        let item = if again {
            Some(earlier[rng.below(earlier.len() as u32) as usize])
        } else {
            let mut draw = || {
                let at = rng.uniform_f64() * total;
                cumulative.partition_point(|&c| c <= at).min(popularity.len() - 1)
            };
            let drawn = (0..64).map(|_| draw()).find(|&i| free(i));
            drawn.or_else(|| (0..popularity.len()).find(|&i| free(i))).map(|i| ItemIdx(i as u32))
        };
        let Some(item) = item else { continue };
        let stars = latent.score(user, item, time) + settings.noise * rng.normal();
        rated[item.at()] = true;
        earlier.push(item);
        into.push(Interaction { user, item, rating: stars.round().clamp(1.0, 5.0), time, part: None });
    }
}
