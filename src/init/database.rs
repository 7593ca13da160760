//! Tables of SQLite and PostgreSQL.

use super::tables::{self, Table};
use super::vocabulary as words;
use super::{Asked, Counts, Draft, guess};
use crate::data::{DataSettings, Kind};
use crate::database::{self, Address, Column, Take, quoted, without_password};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Rows that are looked at.
const ROWS: u64 = 20_000;
/// Tables that are looked at where none is named.
const MOST_TABLES: usize = 30;

/// Keeps the rows of a small query, and the names of its columns.
#[derive(Default)]
struct Kept(Vec<Vec<String>>, Vec<String>);

impl Take for Kept {
    fn columns(&mut self, columns: Vec<Column>) -> Result<()> {
        self.1 = columns.into_iter().map(|column| column.name).collect();
        Ok(())
    }

    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<()> {
        let text = |value: &Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
        self.0.push(values.iter().map(text).collect());
        Ok(())
    }
}

fn rows(address: &Address, sql: &str) -> Result<Vec<Vec<String>>> {
    let mut kept = Kept::default();
    database::query(address, sql, &mut kept)?;
    Ok(kept.0)
}

/// The columns of a table in the case in which the database has them.
fn names(address: &Address, sql: &str) -> Result<Vec<String>> {
    let mut kept = Kept::default();
    database::query(address, &format!("SELECT * FROM {sql} LIMIT 0"), &mut kept)?;
    Ok(kept.1)
}

/// A name for the recipe: that of the database.
pub fn name_of(address: &str) -> String {
    let plain = without_password(address);
    let rest = plain.split_once("://").map_or("", |(_, rest)| rest);
    let name = rest.split_once('/').map_or("", |(_, name)| name);
    let name = super::plain_name(name.split(['?', '#']).next().unwrap_or_default());
    if name.is_empty() { "database".into() } else { name }
}

/// A table: as SQL writes its name, and about how many rows it has.
struct Known {
    sql: String,
    name: String,
    about: u64,
}

fn all_tables(address: &Address) -> Result<Vec<Known>> {
    match address {
        Address::Sqlite(_) => {
            let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1";
            let names = rows(address, sql)?.into_iter().filter_map(|row| row.into_iter().next());
            Ok(names.map(|name| Known { sql: quoted(&name), about: count(address, &quoted(&name)), name }).collect())
        }
        Address::Postgres(_) => {
            let sql = "SELECT n.nspname, c.relname, GREATEST(c.reltuples, 0)::bigint FROM pg_class c \
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') \
                       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_%' ORDER BY 1, 2";
            let known = |row: Vec<String>| {
                let [schema, name, about] = <[String; 3]>::try_from(row).ok()?;
                let sql =
                    if schema == "public" { quoted(&name) } else { format!("{}.{}", quoted(&schema), quoted(&name)) };
                let about = about.parse().unwrap_or(0);
                Some(Known { about: if about > 0 { about } else { count(address, &sql) }, sql, name })
            };
            Ok(rows(address, sql)?.into_iter().filter_map(known).collect())
        }
    }
}

/// About how many rows a table has that keeps no count.
fn count(address: &Address, sql: &str) -> u64 {
    let asked = match address {
        // The largest number of a row, without a walk through the table.
        Address::Sqlite(_) => format!("SELECT max(rowid) FROM {sql}"),
        Address::Postgres(_) => format!("SELECT count(*) FROM {sql}"),
    };
    let number = |sql: &str| rows(address, sql).ok()?.first()?.first()?.parse().ok();
    number(&asked).or_else(|| number(&format!("SELECT count(*) FROM {sql}"))).unwrap_or(0)
}

/// Queries for rows from all over a table, the best one first.
fn samples(address: &Address, known: &Known) -> Vec<String> {
    let head = format!("SELECT * FROM {} LIMIT {ROWS}", known.sql);
    if known.about <= ROWS {
        return vec![format!("SELECT * FROM {}", known.sql), head];
    }
    let spread = match address {
        Address::Sqlite(_) => format!(
            "SELECT * FROM {} WHERE rowid IN (WITH RECURSIVE place(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM place \
             WHERE n < {}) SELECT 1 + n * {} FROM place)",
            known.sql,
            ROWS - 1,
            (known.about / ROWS).max(1)
        ),
        Address::Postgres(_) => format!(
            "SELECT * FROM {} TABLESAMPLE SYSTEM ({:.4}) REPEATABLE (7) LIMIT {ROWS}",
            known.sql,
            (200.0 * ROWS as f64 / known.about as f64).min(100.0)
        ),
    };
    vec![spread, head]
}

fn base(address: &Address) -> DataSettings {
    let mut settings = DataSettings::new(Kind::TABLE, "");
    match address {
        Address::Sqlite(path) => settings.path.clone_from(path),
        Address::Postgres(url) => settings.table.database.clone_from(url),
    }
    settings
}

/// The table of ratings behind the first of some queries that gives one.
fn judged(address: &Address, queries: &[String], monitor: &dyn Monitor) -> Result<Option<Table>> {
    let mut refused = None;
    for query in queries {
        let mut settings = base(address);
        settings.table.query.clone_from(query);
        match tables::ratings(&settings, "", monitor) {
            Ok(Some(table)) if table.sample.rows > 0 => return Ok(Some(table)),
            Ok(_) => {}
            Err(e) => drop(refused.get_or_insert(e)),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Looks at a database.
pub fn look(address: &Address, asked: &Asked, monitor: &dyn Monitor) -> Result<Draft> {
    if let Some(query) = &asked.query {
        let wrapped = format!("SELECT * FROM ({}) AS sampled LIMIT {ROWS}", query.trim().trim_end_matches(';'));
        let Some(mut table) = judged(address, &[wrapped], monitor)? else { return Err(nothing(address, &[])) };
        table.settings.table.query = query.trim().trim_end_matches(';').to_owned();
        let about = if (table.sample.rows as u64) < ROWS { table.sample.rows as u64 } else { u64::MAX };
        table.sample.about = about.min(1 << 50);
        table.named = "the query".into();
        return Ok(with_count(guess::draft(table, &[], monitor), about));
    }
    let mut known = all_tables(address)?;
    if let Some(wanted) = &asked.table {
        let bare = wanted.rsplit('.').next().unwrap_or(wanted);
        let names = known.iter().map(|k| k.name.clone()).collect::<Vec<_>>();
        let there = |k: &Known| k.name.eq_ignore_ascii_case(wanted) || k.name.eq_ignore_ascii_case(bare);
        let Some(at) = known.iter().position(there) else {
            return Err(Error::input(address, format!("has no table `{wanted}`"))
                .next(format!("the tables are: {}", names.join(", "))));
        };
        known.swap(0, at);
    }
    known.truncate(MOST_TABLES);
    let looked = if asked.table.is_some() { 1 } else { known.len() };
    let mut best: Option<(usize, Table)> = None;
    for (at, table) in known.iter().take(looked).enumerate() {
        monitor.check()?;
        let Ok(Some(mut found)) = judged(address, &samples(address, table), monitor) else { continue };
        found.named.clone_from(&table.name);
        found.sample.about = table.about;
        if best.as_ref().is_none_or(|(_, other)| super::rank(&found) > super::rank(other)) {
            best = Some((at, found));
        }
    }
    let Some((at, mut table)) = best else {
        return Err(nothing(address, &known));
    };
    let about = known[at].about;
    let mut settings = table.settings.clone();
    settings.table.query.clear();
    let beside = |column: usize, vocabulary: &str| {
        let others = known.iter().enumerate().filter(|(other, _)| *other != at);
        let found = others.filter_map(|(_, other)| {
            let mut from = settings.clone();
            from.table.query = format!("SELECT * FROM {} LIMIT 400000", other.sql);
            let found = tables::beside(&table, &from, &other.name, column, vocabulary, monitor)?;
            Some((found, other.sql.clone()))
        });
        found.max_by(|a, b| a.0.share.total_cmp(&b.0.share))
    };
    let items = beside(table.roles.item.column, words::ITEM);
    let users = beside(table.roles.user.column, words::USER);
    let roles = &table.roles;
    let wanted = [Some(roles.user), Some(roles.item), roles.rating, roles.event, roles.count, roles.time, roles.part];
    let names = names(address, &known[at].sql)?;
    let columns: Vec<String> =
        wanted.into_iter().flatten().filter_map(|guess| names.get(guess.column)).map(|name| quoted(name)).collect();
    table.settings.table.query = format!("SELECT {} FROM {}", columns.join(", "), known[at].sql);
    let title = table.roles.title;
    if title.is_some() && items.is_none() {
        table.roles.title = None;
    }
    let mut draft = guess::draft_beside(table, items.as_ref().map(|i| &i.0), users.as_ref().map(|u| &u.0), monitor);
    if let Some((_, sql)) = &items {
        draft.settings.table.items.clear();
        draft.settings.table.item_query = format!("SELECT * FROM {sql}");
    }
    if let Some((_, sql)) = users.as_ref().filter(|_| !draft.settings.table.user_text.is_empty()) {
        draft.settings.table.users.clear();
        draft.settings.table.user_query = format!("SELECT * FROM {sql}");
    }
    Ok(with_count(draft, about))
}

fn with_count(mut draft: Draft, about: u64) -> Draft {
    draft.sizes = Some(Counts { ratings: usize::try_from(about).unwrap_or(usize::MAX), users: 0, items: 0 });
    draft
}

fn nothing(address: &Address, known: &[Known]) -> Error {
    let names: Vec<&str> = known.iter().take(20).map(|k| k.name.as_str()).collect();
    let there = if names.is_empty() { String::new() } else { format!("; the tables are: {}", names.join(", ")) };
    Error::input(address, "has no table with a column of users and one of items")
        .next(format!("name a table by --table, or give a SELECT by --query{there}"))
}
