//! Queries over SQLite, and over PostgreSQL where the environment names a server
//! (`scripts/with-postgres cargo test`).

use std::path::Path;

use rallrec::Silent;
use rallrec::content::Content;
use rallrec::data::table::Sources;
use rallrec::data::{DataSettings, Dataset, Kind};
use rusqlite::Connection;

use crate::common::*;

/// A shop with 3 users, 3 items, 7 ratings.
const SHOP: &str = "
    CREATE TABLE ratings (who INTEGER, what TEXT, stars REAL, at TEXT);
    CREATE TABLE products (id TEXT, name TEXT, price NUMERIC);
    CREATE TABLE people (id INTEGER, town TEXT);
    INSERT INTO products VALUES ('a', 'Apple', 1.5), ('b', 'Bread, dark', 2), ('c', NULL, NULL);
    INSERT INTO people VALUES (7, 'Ulm'), (8, NULL), (9, 'Bern');
    INSERT INTO ratings VALUES (7, 'a', 4.5, '2024-05-17 18:03:11'), (7, 'b', 1, '2024-05-17 18:03:12.5'),
        (7, 'c', 3, '2024-05-17T18:03:12.25Z'), (8, 'a', 5, '2024-05-18'), (8, 'b', 2, '2024-05-19'),
        (9, 'c', 4, '2024-05-16'), (9, 'a', 4, '2024-05-16');";

const QUERY: &str = "SELECT who AS user, what AS item, stars AS rating, at AS time FROM ratings";

fn shop(dir: &Path) -> Connection {
    let open = Connection::open(dir.join("shop.db")).unwrap();
    open.execute_batch(SHOP).unwrap();
    open
}

fn settings(dir: &Path, query: &str) -> DataSettings {
    let mut settings = DataSettings::new(Kind::TABLE, dir);
    settings.table.database = "shop.db".into();
    settings.table.query = query.into();
    settings
}

fn content(settings: &DataSettings) -> Content {
    Sources::find(settings, &Silent).unwrap().content()
}

fn what_was_read(dataset: &Dataset) -> Vec<(String, String, f32, i64)> {
    let mut rows = rows(dataset);
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    rows
}

#[test]
fn rows_of_a_query_are_read_as_those_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    shop(dir.path());
    let mut settings = settings(dir.path(), QUERY);
    settings.table.item_query = "SELECT id AS item, name, price FROM products".into();
    settings.table.title = "{{ name }}{% if price %} ({{ price }}){% endif %}".into();
    settings.table.user_query = "SELECT id AS user, town FROM people".into();
    settings.table.user_text = "{% if town %}Lives in {{ town }}.{% endif %}".into();
    let dataset = open(&settings).unwrap();
    let row = |user: &str, item: &str, rating, time| (user.to_owned(), item.to_owned(), rating, time);
    assert_eq!(
        what_was_read(&dataset),
        [
            row("7", "a", 4.5, 1_715_968_991),
            row("7", "b", 1.0, 1_715_968_992),
            row("7", "c", 3.0, 1_715_968_992),
            row("8", "a", 5.0, 1_715_990_400),
            row("8", "b", 2.0, 1_716_076_800),
            row("9", "a", 4.0, 1_715_817_600),
            row("9", "c", 4.0, 1_715_817_600),
        ]
    );
    // Half a second later is later.
    let of_seven: Vec<String> = rows(&dataset).into_iter().filter(|r| r.0 == "7").map(|r| r.1).collect();
    assert_eq!(of_seven, ["a", "c", "b"]);
    let titles: Vec<&str> = dataset.items.iter().map(|item| item.title.as_str()).collect();
    assert_eq!(titles, ["Apple (1.5)", "Bread, dark (2)", ""]);
    assert_eq!(dataset.users[0].field("text"), Some("Lives in Ulm."));
    assert_eq!(dataset.users[1].field("text"), None);
}

#[test]
fn files_and_queries_may_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    shop(dir.path());
    std::fs::write(dir.path().join("items.csv"), "item,title\na,Apple\nb,Bread\nc,Cheese\n").unwrap();
    let mut settings = settings(dir.path(), QUERY);
    settings.table.items = "items.csv".into();
    assert_eq!(open(&settings).unwrap().items[2].title, "Cheese");
    // The database may be the path itself.
    let mut alone = DataSettings::new(Kind::TABLE, dir.path().join("shop.db"));
    alone.table.query = QUERY.into();
    assert_eq!(open(&alone).unwrap().interactions.len(), 7);
}

#[test]
fn what_was_read_is_known_by_its_rows_and_not_by_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop(dir.path());
    let ordered = |order: &str| settings(dir.path(), &format!("{QUERY} ORDER BY {order}"));
    let (up, down) = (ordered("rowid"), ordered("rowid DESC"));
    let before = content(&up);
    assert_eq!(before, content(&down));
    assert_eq!(open(&up).unwrap(), open(&down).unwrap());
    for (change, back) in [
        (
            "UPDATE ratings SET stars = 4 WHERE stars = 4.5",
            "UPDATE ratings SET stars = 4.5 WHERE who = 7 AND what = 'a'",
        ),
        (
            "INSERT INTO ratings SELECT * FROM ratings WHERE what = 'c' AND who = 7",
            "DELETE FROM ratings WHERE rowid > 7",
        ),
        ("UPDATE ratings SET at = NULL WHERE who = 8", "UPDATE ratings SET at = '2024-05-18' WHERE who = 8"),
    ] {
        shop.execute_batch(change).unwrap();
        assert_ne!(before, content(&up), "{change}");
        shop.execute_batch(back).unwrap();
    }
    let renamed = settings(dir.path(), &QUERY.replace("AS time", "AS date"));
    assert_ne!(content(&up), content(&renamed), "columns are told by their names");
}

/// Two reads while rows are added see one state as long as the first is kept.
#[test]
fn a_key_and_what_is_made_of_it_are_of_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop(dir.path());
    let settings = settings(dir.path(), QUERY);
    let kept = Sources::find(&settings, &Silent).unwrap();
    shop.execute_batch("DELETE FROM ratings WHERE who = 9").unwrap();
    assert_eq!(open(&settings).unwrap().interactions.len(), 7);
    drop(kept);
    assert_eq!(open(&settings).unwrap().interactions.len(), 5);
}

#[test]
fn what_is_no_query_or_no_database_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop(dir.path());
    let refused = |query: &str| {
        let error = open(&settings(dir.path(), query)).expect_err(query);
        assert!(!error.next_step().is_empty(), "no next step: {error}");
        error.to_string()
    };
    for (query, words) in [
        ("SELECT * FROM rating", "the tables are: people, products, ratings"),
        ("SELECT user FROM ratings", "ratings.who, ratings.what"),
        ("SELECT who FROM ratings", "there is no column `user`; the columns are: who"),
        ("DELETE FROM ratings", "is no SELECT"),
        ("DELETE FROM ratings RETURNING *", "is no SELECT"),
        ("CREATE TABLE x (y)", "is no SELECT"),
        ("SELECT 1; DROP TABLE ratings", "more than one statement"),
        ("SELECT * FROM ratings WHERE who = ?", "parameters"),
        ("SELEC who FROM ratings", "syntax error"),
        (&format!("{QUERY} WHERE who > 100"), "holds no ratings"),
    ] {
        let said = refused(query);
        assert!(said.contains(words) && said.contains("shop.db"), "{query}: {said}");
    }
    let count: i64 = shop.query_row("SELECT count(*) FROM ratings", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 7, "nothing is changed");
    drop(shop);

    let path = dir.path().join("shop.db");
    let sound = std::fs::read(&path).unwrap();
    let encrypted: Vec<u8> = (0..8192u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&path, encrypted).unwrap();
    let said = refused(QUERY);
    assert!(said.contains("is encrypted, or is no SQLite database"), "{said}");
    let mut torn = sound.clone();
    torn[4096..8192].fill(0xee);
    std::fs::write(&path, torn).unwrap();
    let said = refused(QUERY);
    assert!(said.contains("is damaged"), "{said}");
    std::fs::remove_file(&path).unwrap();
    let said = refused(QUERY);
    assert!(said.contains("is not there") && !path.exists(), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut settings = DataSettings::new(Kind::TABLE, "");
    settings.table.database = "postgresql://ann@127.0.0.1:1/shop".into();
    settings.table.query = "SELECT 1".into();
    let said = open(&settings).unwrap_err().to_string();
    assert!(said.contains("data.table.query: postgresql://ann@127.0.0.1:1/shop: cannot be reached"), "{said}");
    assert!(said.contains("next: check that the server runs"), "{said}");
}

/// The address of the server, where there is one; and a schema of the test's own, made anew.
fn server(name: &str) -> Option<(String, postgres::Client)> {
    let Ok(url) = std::env::var("RALLREC_POSTGRES") else {
        let why = "RALLREC_POSTGRES names no server; scripts/with-postgres starts one";
        crate::skip::skip("env RALLREC_POSTGRES", why);
        return None;
    };
    let mut config: postgres::Config = url.parse().unwrap();
    config.user(&std::env::var("PGUSER").unwrap()).password(std::env::var("PGPASSWORD").unwrap());
    let mut client = config.connect(postgres::NoTls).unwrap();
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")).unwrap();
    Some((url, client))
}

fn at_server(url: &str, query: &str) -> DataSettings {
    let mut settings = DataSettings::new(Kind::TABLE, "");
    settings.table.database = url.into();
    settings.table.query = query.into();
    settings
}

#[test]
fn every_type_of_postgresql_is_what_it_is_there() {
    let Some((url, mut client)) = server("types") else { return };
    client
        .batch_execute(
            "CREATE TABLE types.t (u uuid, i numeric(20, 0), r numeric(3, 1), t timestamptz, d date, local timestamp, \
                 so boolean, name text, padded char(5), epoch bigint);
             INSERT INTO types.t VALUES
                 ('00000000-0000-0000-0000-00000000000a', 18446744073709551615, 4.5, '2024-05-17 20:03:11.25+02', \
                     '1955-03-02', '2024-05-17 18:03:11.25', true, E'a\\tb', 'x', 1715968991),
                 ('00000000-0000-0000-0000-00000000000b', 7, 1.0, '2024-05-18 00:00:00Z', NULL, NULL, false, '', NULL, 1);",
        )
        .unwrap();
    let mut settings = at_server(&url, "SELECT u AS user, i AS item, r AS rating, t AS time FROM types.t");
    settings.table.item_query = "SELECT i AS item, d, local, so, name, padded, epoch, u FROM types.t".into();
    settings.table.title = "{{ d }}|{{ local }}|{{ so }}|{{ name }}|{{ padded }}|{{ epoch }}".into();
    let dataset = open(&settings).unwrap();
    assert_eq!(
        rows(&dataset),
        [
            ("00000000-0000-0000-0000-00000000000a", "18446744073709551615", 4.5, 1_715_968_991),
            ("00000000-0000-0000-0000-00000000000b", "7", 1.0, 1_715_990_400),
        ]
        .map(|(u, i, r, t)| (u.to_owned(), i.to_owned(), r, t))
    );
    assert_eq!(dataset.items[0].title, "||false|||1");
    assert_eq!(dataset.items[1].title, "1955-03-02|2024-05-17T18:03:11.25Z|true|a b|x|1715968991");
    for time in ["local", "d", "epoch"] {
        let one = format!("SELECT u AS user, i AS item, so AS rating, {time} AS time FROM types.t WHERE so");
        let mut settings = at_server(&url, &one);
        settings.table.scale = (0.0, 1.0);
        match open(&settings) {
            Ok(found) => assert_eq!((found.interactions[0].time, found.interactions[0].rating), (1_715_968_991, 1.0)),
            // Before 1970: no time of a rating.
            Err(e) => assert!(time == "d" && e.what().contains("outside of 1970 to 2100"), "{e}"),
        }
    }
}

#[test]
fn postgresql_gives_what_a_file_gives_in_any_order() {
    let Some((url, mut client)) = server("orders") else { return };
    client
        .batch_execute(
            "CREATE TABLE orders.ratings AS SELECT n % 97 AS who, 'i' || (n * 7 % 301) AS what, 1 + n % 5 AS stars, \
             timestamp '2024-01-01' + n * interval '1.5 seconds' AS at FROM generate_series(1, 20000) n",
        )
        .unwrap();
    let ordered = |order: &str| {
        at_server(
            &url,
            &format!(
                "SELECT who AS user, what AS item, stars AS rating, at AS time FROM orders.ratings ORDER BY {order}"
            ),
        )
    };
    let (up, down) = (ordered("at"), ordered("stars, at DESC -- and a comment"));
    assert_eq!(content(&up), content(&down));
    let dataset = open(&up).unwrap();
    assert_eq!(dataset, open(&down).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut csv = String::from("user,item,rating,time\n");
    for n in 1..=20_000u64 {
        let at = 1_704_067_200_000 + n * 1500;
        csv += &format!("{},i{},{},{}.{:03}\n", n % 97, n * 7 % 301, 1 + n % 5, at / 1000, at % 1000);
    }
    std::fs::write(dir.path().join("ratings.csv"), csv).unwrap();
    let file = open(&DataSettings::new(Kind::TABLE, dir.path())).unwrap();
    assert_eq!(file, dataset);
}

#[test]
fn what_postgresql_refuses_is_said_with_what_to_do() {
    let Some((url, mut client)) = server("refused") else { return };
    client.batch_execute("CREATE TABLE refused.t (u int); INSERT INTO refused.t VALUES (1)").unwrap();
    for (query, words) in [
        ("SELECT * FROM refused.absent", "relation \"refused.absent\" does not exist"),
        ("SELECT absent FROM refused.t", "column \"absent\" does not exist"),
        ("SELECT u FROM refused.t", "there is no column `user`; the columns are: u"),
        ("DELETE FROM refused.t", "is no SELECT"),
        ("DELETE FROM refused.t RETURNING u", "is no SELECT"),
        ("WITH gone AS (DELETE FROM refused.t RETURNING u) SELECT * FROM gone", "data-modifying"),
        ("SELECT 1; DROP TABLE refused.t", "multiple commands"),
        ("SELECT u FROM refused.t WHERE u = $1", "parameters"),
        ("SELEC u", "syntax error"),
        ("SELECT 1 / (u - 1) FROM refused.t", "division by zero"),
    ] {
        let error = open(&at_server(&url, query)).expect_err(query);
        let said = error.to_string();
        assert!(said.contains(words) && said.contains(&url) && !error.next_step().is_empty(), "{query}: {said}");
    }
    let count: i64 = client.query_one("SELECT count(*) FROM refused.t", &[]).unwrap().get(0);
    assert_eq!(count, 1, "nothing is changed");
    let absent = url.replace("/rallrec", "/no_such_database");
    let said = open(&at_server(&absent, "SELECT 1")).unwrap_err().to_string();
    assert!(said.contains("\"no_such_database\" does not exist"), "{said}");
}

#[test]
fn a_server_is_reached_encrypted_and_checked_as_far_as_the_address_says() {
    let Some((url, _)) = server("encrypted") else { return };
    let Ok(authority) = std::env::var("RALLREC_POSTGRES_CA") else {
        crate::skip::skip("env RALLREC_POSTGRES_CA", "the server of RALLREC_POSTGRES speaks no TLS");
        return;
    };
    let asked = |options: &str| {
        let query = "SELECT n % 4 AS user, n AS item, CASE WHEN ssl THEN 5 ELSE 1 END AS rating, n AS time \
                     FROM generate_series(1, 40) n, pg_stat_ssl WHERE pid = pg_backend_pid()";
        open(&at_server(&format!("{url}{options}"), query)).map(|found| found.interactions[0].rating)
    };
    let by = |mode: &str| format!("?sslmode={mode}&sslrootcert={authority}");
    for (options, encrypted) in [
        ("", true),
        ("?sslmode=disable", false),
        ("?sslmode=prefer", true),
        ("?sslmode=require", true),
        (&by("require"), true),
        (&by("verify-ca"), true),
        (&by("verify-full"), true),
    ] {
        assert_eq!(asked(options).expect(options), if encrypted { 5.0 } else { 1.0 }, "{options}");
    }
    let said = asked("?sslmode=verify-full").unwrap_err().to_string();
    assert!(said.contains("does not hold") && said.contains("UnknownIssuer") && said.contains("sslrootcert"), "{said}");
    // The certificate is for the number alone.
    let other = |mode: &str| open(&at_server(&(url.replace("127.0.0.1", "localhost") + &by(mode)), "SELECT 1 AS user"));
    let said = other("verify-full").unwrap_err().to_string();
    assert!(said.contains("does not hold"), "{said}");
    let said = other("verify-ca").unwrap_err().to_string();
    assert!(said.contains("there is no column `item`"), "{said}");
}
