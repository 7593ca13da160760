//! The texts that an item is embedded by: a templated one from its catalogue fields, and a
//! description.

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Descriptions, Item, table};
use crate::retrieval::Words;

/// Which texts of an item are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextSource {
    /// The description only, as the authors' code does.
    Description,
    /// The templated text only.
    Plain,
    /// The templated text and the description, embedded one by one and concatenated.
    #[default]
    Both,
    /// The title and the description, embedded one by one and concatenated: Equation 3 of RALLRec+.
    TitleDescription,
}

impl TextSource {
    /// Texts of an item.
    pub fn parts(self) -> usize {
        match self {
            TextSource::Description | TextSource::Plain => 1,
            TextSource::Both | TextSource::TitleDescription => 2,
        }
    }
}

/// How many genres the templated text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Genres {
    /// The first one, as the authors' code does.
    #[default]
    First,
    /// All, between commas.
    All,
}

/// The templated sentences of an item, with its first genre.
pub fn plain(item: &Item, noun: &str) -> String {
    plain_with(item, noun, Genres::First)
}

/// The templated sentences of an item: what it is, its title, its genre, and for books whatever is
/// known of ISBN, author, year and publisher.
///
/// An item with a field `text` has its own words: a recipe's `data.table.item_text` puts them
/// there.
pub fn plain_with(item: &Item, noun: &str, genres: Genres) -> String {
    if let Some(own) = item.fields.iter().find(|f| f.name == table::TEXT && !f.value.is_empty()) {
        return own.value.clone();
    }
    let mut text = format!("Here is a {noun}.");
    if !item.title.is_empty() {
        text += &format!(" Its title is {}.", item.title);
    }
    match (genres, item.genres.as_slice()) {
        (_, []) => {}
        (Genres::First, [genre, ..]) | (Genres::All, [genre]) => text += &format!(" The {noun}'s genre is {genre}."),
        (Genres::All, many) => text += &format!(" The {noun}'s genres are {}.", many.join(", ")),
    }
    for (name, phrase) in
        [("isbn", "ISBN"), ("author", "author"), ("year", "publication year"), ("publisher", "publisher")]
    {
        if let Some(field) = item.fields.iter().find(|f| f.name == name && !f.value.is_empty()) {
            text += &format!(" The {phrase} of the {noun} is {}.", field.value);
        }
    }
    text
}

/// The words of all items' templated texts, and of their descriptions where they are given, weighed
/// by TF-IDF.
pub fn words(dataset: &Dataset, descriptions: Option<&Descriptions>) -> Words {
    let text = |(n, item): (usize, &Item)| {
        let described = descriptions.and_then(|all| all.texts.get(n)?.as_deref()).unwrap_or_default();
        format!("{} {described}", plain_with(item, &dataset.noun, Genres::All))
    };
    let texts: Vec<String> = dataset.items.iter().enumerate().map(text).collect();
    Words::of(texts.iter().map(String::as_str))
}

/// The texts to embed for each item, in the order of the catalogue: [`TextSource::parts`] of them,
/// the description last. An item without a description or title is represented by its templated
/// text in that place, so that all items have the same number of texts and none is empty.
pub fn texts(dataset: &Dataset, descriptions: &Descriptions, source: TextSource, genres: Genres) -> Vec<Vec<String>> {
    (dataset.items.iter().enumerate())
        .map(|(at, item)| {
            let plain = plain_with(item, &dataset.noun, genres);
            let described = || descriptions.texts.get(at).cloned().flatten().unwrap_or_else(|| plain.clone());
            match source {
                TextSource::Description => vec![described()],
                TextSource::Plain => vec![plain],
                TextSource::Both => vec![plain.clone(), described()],
                TextSource::TitleDescription => {
                    let title = if item.title.trim().is_empty() { plain.clone() } else { item.title.clone() };
                    vec![title, described()]
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Field, RawId};

    fn item(title: &str, genres: &[&str], fields: &[(&str, &str)]) -> Item {
        Item {
            raw: RawId("1".into()),
            title: title.into(),
            genres: genres.iter().map(|g| (*g).into()).collect(),
            fields: fields.iter().map(|(n, v)| Field { name: (*n).into(), value: (*v).into() }).collect(),
        }
    }

    #[test]
    fn a_movie_names_its_first_genre_or_all() {
        let movie = item("Toy Story (1995)", &["Animation", "Comedy"], &[]);
        assert_eq!(
            plain(&movie, "movie"),
            "Here is a movie. Its title is Toy Story (1995). The movie's genre is Animation."
        );
        assert!(plain_with(&movie, "movie", Genres::All).ends_with("The movie's genres are Animation, Comedy."));
    }

    #[test]
    fn a_book_names_what_is_known() {
        let book = item("Emma", &[], &[("year", "1815"), ("author", "Jane Austen"), ("publisher", "")]);
        assert_eq!(
            plain(&book, "book"),
            "Here is a book. Its title is Emma. The author of the book is Jane Austen. \
             The publication year of the book is 1815."
        );
    }

    #[test]
    fn own_words_replace_the_template() {
        let item = item("A", &["B"], &[("year", "1999"), ("text", "A thing.")]);
        assert_eq!(plain_with(&item, "item", Genres::All), "A thing.");
    }

    #[test]
    fn a_gap_in_the_descriptions_stays_with_its_item() {
        let dataset = Dataset {
            name: "x".into(),
            noun: "movie".into(),
            scale: (1.0, 5.0),
            has_times: true,
            items: ["A", "B", "C"].map(|t| item(t, &[], &[])).into(),
            users: Vec::new(),
            interactions: Vec::new(),
        };
        let descriptions =
            Descriptions { texts: vec![Some("a".into()), None, Some("c".into())], ..Descriptions::default() };
        let of = |source: TextSource| {
            let texts = texts(&dataset, &descriptions, source, Genres::First);
            assert!(texts.iter().all(|t| t.len() == source.parts()), "{source:?}");
            texts
        };
        let plain = "Here is a movie. Its title is B.";
        assert_eq!(of(TextSource::Description), [["a"], [plain], ["c"]]);
        assert_eq!(of(TextSource::TitleDescription), [["A", "a"], ["B", plain], ["C", "c"]]);
        assert_eq!(of(TextSource::Both)[1], [plain, plain]);
        assert_eq!(of(TextSource::Plain)[1], [plain]);
    }
}
