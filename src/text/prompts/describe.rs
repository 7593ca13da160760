//! The request for an item's description.

use crate::data::{Dataset, ItemIdx, nouns};
use crate::error::{Error, Result};
use crate::store::chat::Message;

use super::{FRIENDLY, wording};

/// Asks a language model for a short description of the item.
///
/// # Errors
/// An item that is not in the data set.
pub fn description(dataset: &Dataset, item: ItemIdx) -> Result<Vec<Message>> {
    let entry = dataset.items.get(item.at()).ok_or_else(|| {
        Error::input(format!("description for {}", dataset.name), format!("there is no item {}", item.0))
            .next("use items and data set of one run")
    })?;
    let words = wording::words(dataset);
    let one = &words.one;
    let mut about = format!("{one} \"{}\"", entry.title);
    let mut details: Vec<String> = Vec::new();
    if !entry.genres.is_empty() {
        details.push(format!("genre: {}", entry.genres.join(", ")));
    }
    details
        .extend(entry.fields.iter().filter(|f| !f.value.trim().is_empty()).map(|f| format!("{}: {}", f.name, f.value)));
    if !details.is_empty() {
        about += &format!(" ({})", details.join("; "));
    }
    let nouns::Noun { who, maker, .. } = nouns::of(one);
    let request = format!(
        "Write a short and informative description of the {about}. Cover an outline of the plot without spoilers, its \
         themes and genre, the setting, {who}, {maker}, the tone, and its cultural weight. Use fewer than 80 words and \
         give the description only."
    );
    Ok(vec![Message::system(FRIENDLY), Message::user(request)])
}

/// An answer as it is stored: line breaks become spaces, double quotes go, outer space goes.
pub fn clean_description(answer: &str) -> String {
    let text: String = answer.replace("\r\n", " ").replace(['\n', '\r'], " ").replace('"', "");
    text.trim().into()
}
