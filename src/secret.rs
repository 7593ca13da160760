//! Passwords in texts: found, and never shown. Errors are masked as they are made, so that no
//! message, log or event repeats what a user wrote into an address.

/// Where the password of an address begins and ends: between the user and `@`, and behind
/// `password=`.
fn passwords(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let from = at + 3;
        // A password may hold a slash that nobody wrote as %2F: what ends it is the last `@`.
        let rest = &text[from..];
        let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        if let Some(end) = word.rfind('@')
            && let Some(colon) = word[..end].find(':')
        {
            found.push(from + colon + 1..from + end);
        }
    }
    // Among the options of an address, or in a connection string (`host=db password=secret`).
    for (at, name) in text.match_indices("password=") {
        let from = at + name.len();
        let length = text[from..].find(|c: char| "&#\"'`".contains(c) || c.is_whitespace());
        if !found.iter().any(|range| range.contains(&from)) {
            found.push(from..from + length.unwrap_or(text.len() - from));
        }
    }
    found.sort_by_key(|range| range.start);
    found
}

/// Whether an address holds a password.
pub fn holds_password(text: &str) -> bool {
    passwords(text).iter().any(|range| !range.is_empty())
}

/// A text for messages: `***` stands for the password of every address in it.
pub fn without_password(text: &str) -> String {
    if !text.contains("://") && !text.contains("password=") {
        return text.to_owned();
    }
    let (mut out, mut at) = (String::new(), 0);
    for range in passwords(text) {
        if range.start >= at && !range.is_empty() {
            out.push_str(&text[at..range.start]);
            out.push_str("***");
            at = range.end;
        }
    }
    out + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_and_never_shown() {
        for (text, shown) in [
            ("postgresql://ann:secret@db.example/shop", "postgresql://ann:***@db.example/shop"),
            ("postgres://ann:se/cr@t@db/shop?sslmode=disable", "postgres://ann:***@db/shop?sslmode=disable"),
            ("postgresql://db/shop?password=secret&user=ann", "postgresql://db/shop?password=***&user=ann"),
            ("data.table.database=postgresql://ann:secret@db/shop", "data.table.database=postgresql://ann:***@db/shop"),
            ("mysql://ann:secret@db/shop", "mysql://ann:***@db/shop"),
            ("redis://:secret@db is not there", "redis://:***@db is not there"),
            ("host=db password=secret user=ann", "host=db password=*** user=ann"),
            (
                "there is no `postgres://a:b@c` and no `x://d:e@f`",
                "there is no `postgres://a:***@c` and no `x://d:***@f`",
            ),
        ] {
            assert!(holds_password(text), "{text}");
            assert_eq!(without_password(text), shown);
        }
        for text in [
            "postgresql://ann@db:5432/shop",
            "postgresql:///shop",
            "postgresql://db:5432/shop",
            "shop.db",
            "folder/a:b@c.db",
            "set the environment variable PGPASSWORD",
        ] {
            assert!(!holds_password(text), "{text}");
            assert_eq!(without_password(text), text);
        }
    }
}
