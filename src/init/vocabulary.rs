//! The words that columns and files are called by.

/// Whether a list of words, blanks between them, has this one.
fn lists(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|own| own == word)
}

/// How well a name says a role, whose words stand in a list with blanks between them: from 0 to 65.
pub fn named(name: &str, words: &str) -> i32 {
    let joined: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    let parts: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let bonus = if parts.iter().any(|part| lists(IDS, part)) || joined.ends_with("id") { 5 } else { 0 };
    let alone = |word: &str| {
        let joined_with = |id: &str| joined.strip_suffix(id) == Some(word) || joined.strip_prefix(id) == Some(word);
        joined == word || IDS.split_whitespace().any(joined_with)
    };
    if words.split_whitespace().any(alone) {
        return 60 + bonus;
    }
    if parts.iter().any(|part| lists(words, part)) {
        let plain = parts.iter().all(|part| [words, IDS, QUALIFIERS].iter().any(|list| lists(list, part)));
        return if plain { 50 + bonus } else { 35 + bonus };
    }
    if words.split_whitespace().any(|word| word.len() >= 4 && joined.contains(word)) { 22 + bonus } else { 0 }
}

/// Whether one of the words of a list is a part of a name.
pub fn has(name: &str, words: &str) -> bool {
    name.split(|c: char| !c.is_alphanumeric()).any(|part| !part.is_empty() && lists(words, part))
}

const IDS: &str = "\
     id ids key no nr num number code uuid guid idx index unique hash pk";
const QUALIFIERS: &str = "\
     name raw orig original new old the source src anon encoded profile parent";

pub const USER: &str = "\
     user uid userid customer cust client account member reviewer player visitor viewer person \
     subscriber listener reader buyer shopper student patient household panelist username login email \
     nutzer benutzer kunde kunden kundennummer kundennr utilisateur usuario utente cliente gebruiker \
     klant learner worker critic steamid visitorid device cookie who fullvisitorid consumer \
     profilename rater voter";
pub const ITEM: &str = "\
     item iid itemid movie film book isbn product asin article artikel sku song track artist album \
     game app anime manga beer wine recipe business venue poi restaurant hotel news post video course \
     listing offer material stockcode content repo joke show series episode podcast tconst gmap buch \
     produkt produit producto prodotto ean gtin upc title titel media place location property good \
     goods what document doc paper channel station ad coupon deal job question exercise hero card pin \
     photo image store merchant artikelnummer artikelnr imdb";
pub const RATING: &str = "\
     rating ratings stars star score overall rate rated grade bewertung sterne note vote preference \
     feedback sentiment calificacion valoracion estrellas punteggio voto liked like thumbs opinion \
     recommended recommend reviewscore punkte wertung beoordeling satisfaction label";
pub const TIME: &str = "\
     time timestamp ts date datetime when created at unixreviewtime reviewtime unixtime eventtime \
     orderdate invoicedate day datum zeit zeitpunkt uhrzeit fecha data dt moment epoch unix timeat \
     occurred listened watched purchased bought tstamp heure hora tijd creationdate reviewdate";
/// Times of something else than the event.
pub const OTHER_TIMES: &str = "\
     birth birthday release released publish published publication update updated edited edit \
     modified year expires age";
pub const EVENT: &str = "\
     event eventtype action behavior behaviour interaction activity type kind operation ereignis \
     aktion eventname actiontype behaviortype";
pub const COUNT: &str = "\
     count quantity qty plays playcount weight listens frequency freq clicks views pieces menge \
     anzahl times amount hours playtime units cantidad visits streams";
pub const PART: &str = "\
     split part set subset fold partition";
pub const TITLE: &str = "\
     title name headline bezeichnung titel productname itemname bookname movietitle booktitle \
     description produktname artikelname titre titulo nombre nom naam nome label caption \
     productdisplayname";
pub const GENRES: &str = "\
     genre genres category categories tags tag kategorie kategorien categorie categoria class type \
     kind section department topics topic subject subjects gruppe brand";
pub const TEXT: &str = "\
     description summary overview abstract plot text about beschreibung synopsis details";
/// What users are told by.
pub const TRAITS: &str = "\
     age gender sex occupation job city country town location state region land ort stadt alter \
     geschlecht segment language";
/// Ids of neither users nor items.
pub const OTHER_IDS: &str = "\
     session order review transaction invoice category row request basket cart rating log line \
     unnamed group page batch rank position price age zip";
/// Numbers that look like ratings and are none.
pub const OTHER_NUMBERS: &str = "\
     age price year month day hour minute second helpful length size rank position quantity count \
     index level zip discount version lat lon timestamp id duration gender sex occupation verified \
     weekday week number num sum total average avg mean";

/// What kinds of events weigh: the first line that has a word of the kind in it.
const WEIGHTS: [(f32, &str); 5] = [
    // Signs of dislike, and undone steps.
    (0.0, "remove delete return refund cancel unlike dislike skip unsubscribe hide block"),
    (5.0, "purchase transaction buy bought order checkout sale kauf subscribe complete download"),
    (3.0, "cart basket fav like wish save share bookmark love add collect follow"),
    (1.0, "view click pv visit detail play read open listen watch search browse seen"),
    (0.2, "impression shown exposure display"),
];

/// What an event of this kind weighs, 0 for one that counts nothing; `None` where no word is known.
pub fn weight(kind: &str) -> Option<f32> {
    let kind = kind.to_lowercase();
    WEIGHTS
        .iter()
        .find(|(_, words)| words.split_whitespace().any(|word| kind.contains(word)))
        .map(|(weight, _)| *weight)
}

/// What an item is called in prompts, by a word in the name of a column or a file.
pub fn noun(name: &str) -> Option<&'static str> {
    const NOUNS: [(&str, &str); 16] = [
        ("movie", "movie film imdb tconst"),
        ("book", "book isbn buch"),
        ("song", "song track"),
        ("artist", "artist"),
        ("album", "album"),
        ("game", "game steam"),
        ("app", "app"),
        ("anime", "anime"),
        ("beer", "beer"),
        ("recipe", "recipe"),
        ("restaurant", "restaurant"),
        ("business", "business"),
        ("article", "article news"),
        ("video", "video"),
        ("course", "course"),
        ("product", "product asin sku stockcode produkt artikel goods"),
    ];
    let name = name.to_lowercase();
    // `app` is a part of many words.
    let said = |word: &str| if word.len() < 4 { has(&name, word) } else { name.contains(word) };
    NOUNS.iter().find(|(_, words)| words.split_whitespace().any(said)).map(|(noun, _)| *noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_roles_in_many_ways() {
        for name in
            ["user", "User-ID", "userid", "customer_id", "CustomerID", "visitorid", "author.steamid", "kundennr"]
        {
            assert!(named(&name.to_lowercase(), USER) >= 40, "{name}");
        }
        for name in ["movieid", "parent_asin", "isbn", "stockcode", "item_id", "product id", "business_id", "anime_id"]
        {
            assert!(named(name, ITEM) >= 40, "{name}");
        }
        for name in ["book-rating", "overall", "stars", "review_score"] {
            assert!(named(name, RATING) >= 22, "{name}");
        }
        assert_eq!(named("colour", USER), 0);
        assert!(named("user_id", USER) > named("user_name", USER));
        assert_eq!(
            (weight("addtocart"), weight("remove_from_cart"), weight("pv"), weight("x")),
            (Some(3.0), Some(0.0), Some(1.0), None)
        );
        assert_eq!((noun("movieId"), noun("happy"), noun("app_id")), (Some("movie"), None, Some("app")));
    }
}
