//! How prompts speak of items, by what an item is called.

/// The words for one sort of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noun {
    /// What one is called.
    pub one: &'static str,
    /// What a user does with it: `watched`.
    pub did: &'static str,
    /// The papers' prompt puts the question before its notes, not behind them.
    pub question_first: bool,
    /// The papers' template `low` numbers its items and does not say when one counts as liked.
    pub low_is_numbered: bool,
    /// Whom a description is to speak of.
    pub who: &'static str,
    /// Whose style it is to speak of.
    pub maker: &'static str,
}

const PLAIN: Noun = Noun {
    one: "item",
    did: "rated",
    question_first: false,
    low_is_numbered: false,
    who: "who or what it is about",
    maker: "its maker's style",
};

const FILM: Noun = Noun {
    did: "watched",
    who: "the main characters and the actors who play them",
    maker: "the director's style",
    ..PLAIN
};

const NOUNS: [Noun; 7] = [
    Noun { one: "movie", ..FILM },
    Noun { one: "film", ..FILM },
    Noun { one: "show", ..FILM },
    Noun {
        one: "book",
        did: "read",
        question_first: true,
        low_is_numbered: true,
        who: "the main characters",
        maker: "the author's style",
    },
    Noun { one: "song", did: "listened to", ..PLAIN },
    Noun { one: "album", did: "listened to", ..PLAIN },
    Noun { one: "game", did: "played", ..PLAIN },
];

/// The words for items that are called `noun`; plain ones where nothing is known of it.
pub fn of(noun: &str) -> &'static Noun {
    NOUNS.iter().find(|known| known.one == noun).unwrap_or(&PLAIN)
}
