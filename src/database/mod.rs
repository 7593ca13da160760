//! Databases: where one is, the rows of a query one after the other, and connections to write over.
//! Credentials come from the environment and never from an address.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "postgres")]
mod tls;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use crate::secret::{holds_password, without_password};

/// How the address of a PostgreSQL database begins.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// What an SQLite file begins with.
pub const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// What to do with a password in an address.
const NO_PASSWORD: &str =
    "take the password out of the address: set the environment variable PGPASSWORD, or write it into ~/.pgpass";

/// Where a database is. What is displayed names it, without a password in any case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// `postgresql://user@host:port/name`, all of its parts optional.
    Postgres(String),
}

impl Address {
    /// Reads an address. The path of a file starts from `folder`.
    ///
    /// # Errors
    /// A password in it; an address of another kind of database, or of one that this build has no
    /// client for.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let place = without_password(text);
        if is_postgres(text) {
            if holds_password(text) {
                return Err(
                    Error::usage(place, "holds a password, and files and messages would repeat it").next(NO_PASSWORD)
                );
            }
            #[cfg(feature = "postgres")]
            postgres::check(text)?;
            return Self::Postgres(text.to_owned()).with_a_client();
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::usage(place, format!("is an address of `{scheme}`, which is not read")).next(
                "give an SQLite file or postgresql://host/name; others can write their tables as Parquet or CSV",
            ));
        }
        if is_key_values(text) {
            return Err(Error::usage(place, "is a connection string of keys and values, which is not read")
                .next("write it as postgresql://user@host:port/name, with the password in PGPASSWORD or ~/.pgpass"));
        }
        Self::Sqlite(folder.join(text)).with_a_client()
    }

    /// The address, where this build has a client for it.
    fn with_a_client(self) -> Result<Self> {
        let there = match &self {
            Self::Sqlite(_) => cfg!(feature = "sqlite"),
            Self::Postgres(_) => cfg!(feature = "postgres"),
        };
        if there { Ok(self) } else { Err(self.no_client()) }
    }

    /// The error of a build that was made without the client.
    pub fn no_client(&self) -> Error {
        let (name, feature) = match self {
            Self::Sqlite(_) => ("SQLite", "sqlite"),
            Self::Postgres(_) => ("PostgreSQL", "postgres"),
        };
        Error::usage(self, format!("this build of rallrec has no client for {name}"))
            .next(format!("build it with one: cargo build --release --features {feature}"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

/// Whether a text is a connection string of libpq, `host=db dbname=shop`.
fn is_key_values(text: &str) -> bool {
    let pairs = || text.split_whitespace().map(|pair| pair.split_once('=').map(|(key, _)| key));
    let keys = ["host", "hostaddr", "port", "dbname", "user", "password", "service", "sslmode"];
    pairs().count() > 1 && pairs().all(|key| key.is_some_and(|key| keys.contains(&key)))
}

/// Whether a text is the address of a PostgreSQL database.
pub fn is_postgres(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// How the values of a column are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As the text that they are written in: numbers, words, UUIDs, and all else.
    Text,
    /// `2024-05-17`.
    Date,
    /// `2024-05-17 12:30:00.123456`, UTC; with a zone or without.
    Time,
}

/// A column of a query's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values.
    pub kind: Kind,
}

/// What takes the rows of a query.
pub trait Take {
    /// The columns, once, before any row.
    fn columns(&mut self, columns: Vec<Column>) -> Result<()>;

    /// A row: text, or nothing for NULL.
    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<()>;
}

/// Runs a query and hands its rows over one by one.
///
/// # Errors
/// A database that is not there or refuses, a query that is none, what the taker returns.
pub fn query(address: &Address, sql: &str, take: &mut dyn Take) -> Result<()> {
    match address {
        #[cfg(feature = "sqlite")]
        Address::Sqlite(path) => sqlite::query(path, sql, take),
        #[cfg(feature = "postgres")]
        Address::Postgres(url) => postgres::query(url, sql, take),
        #[cfg(not(all(feature = "postgres", feature = "sqlite")))]
        other => {
            let _ = (sql, take);
            Err(other.no_client())
        }
    }
}

/// A name in double quotes, as SQL wants it where it holds other characters than letters.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_a_client_is_refused_with_the_feature_to_build_with() {
        let said = Address::Postgres("postgresql://db/shop".into()).no_client().to_string();
        assert!(said.contains("PostgreSQL") && said.contains("--features postgres"), "{said}");
        for (text, there) in [("shop.db", cfg!(feature = "sqlite")), ("postgresql://db/a", cfg!(feature = "postgres"))]
        {
            assert_eq!(Address::parse(text, Path::new("")).is_ok(), there, "{text}");
        }
    }

    #[test]
    #[cfg(all(feature = "postgres", feature = "sqlite"))]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        for text in [
            "postgresql://ann:secret@db.example/shop",
            "postgres://ann:se/cret@t@db/shop?sslmode=disable",
            "postgresql://db/shop?password=secret&user=ann",
            "data.table.database=postgresql://ann:secret@db/shop",
            "mysql://ann:secret@db/shop",
            "host=db user=ann password=secret dbname=shop",
            "host=db dbname=shop",
        ] {
            let said = Address::parse(text, Path::new("")).unwrap_err().to_string();
            assert!(!said.contains("secret") && !said.contains("se/cret") && said.contains("next: "), "{said}");
        }
        for text in ["postgresql://ann@db:5432/shop", "postgresql:///shop", "shop.db", "folder/a:b@c.db", "host=1.db"] {
            Address::parse(text, Path::new("")).unwrap();
        }
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn what_is_no_address_is_refused_by_name() {
        let said = Address::parse("mysql://db/shop", Path::new("")).unwrap_err().to_string();
        assert!(said.contains("`mysql`") && said.contains("Parquet"), "{said}");
        assert_eq!(Address::parse("shop.db", Path::new("data")).unwrap(), Address::Sqlite("data/shop.db".into()));
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
