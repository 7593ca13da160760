//! A run on a query, its tables written out and read again, and passwords.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use rusqlite::Connection;

use super::common::{Said, rallrec, say};

fn shop(dir: &Path) -> Connection {
    let open = Connection::open(dir.join("shop.db")).expect("opens");
    open.execute_batch("CREATE TABLE log (user, item, rating, time)").expect("makes a table");
    for n in 0..600 {
        let (user, item) = (n % 20, (n * 7 + n / 20 * 3) % 97);
        let row = (format!("u{user}"), format!("i{item}"), 1 + n % 5, 1_700_000_000 + n);
        open.execute("INSERT INTO log VALUES (?1, ?2, ?3, ?4)", row).expect("inserts");
    }
    open
}

fn recipe(dir: &Path) -> String {
    let path = dir.join("shop.toml");
    let text = format!(
        "[data]\nkind = \"table\"\npath = {dir:?}\n[data.table]\ndatabase = \"shop.db\"\nquery = \"SELECT * FROM log\"\n"
    );
    fs::write(&path, text).expect("writes");
    path.display().to_string()
}

#[test]
fn a_run_on_a_query_is_reused_until_its_rows_change_and_its_rows_are_written_out() {
    let dir = tempfile::tempdir().expect("folder");
    let shop = shop(dir.path());
    let (recipe, out) = (recipe(dir.path()), dir.path().join("run").display().to_string());
    let run = || say(&["run", &recipe, "--until", "data", "--out", &out]).ended_with(0);
    assert!(!run().err.contains("reused"));
    run().err_has("reused");
    shop.execute_batch(
        "CREATE TABLE other AS SELECT * FROM log ORDER BY random(); DROP TABLE log; ALTER TABLE other RENAME TO log",
    )
    .expect("puts the rows into another order");
    run().err_has("reused");

    let target = format!("{}#rows", dir.path().join("out.db").display());
    say(&["export", "rows", &out, "--to", &target, "--with-test-labels", "--json"]).ended_with(0);
    let written = Connection::open(dir.path().join("out.db")).expect("opens");
    let count = |sql: &str| -> i64 { written.query_row(sql, [], |row| row.get(0)).expect("counts") };
    // Rows of users with five earlier ratings.
    assert_eq!(count("SELECT count(*) FROM rows"), 500);
    assert_eq!(count("SELECT count(*) FROM rows WHERE part = 'test' AND liked = (rating > 3)"), 50);
    written.execute("ATTACH ?1 AS shop", [dir.path().join("shop.db").to_str()]).expect("attaches");
    let same = "SELECT count(*) FROM rows JOIN shop.log USING (user, item, rating, time)";
    assert_eq!(count(same), 500, "ids, ratings and times are those of the log");
    say(&["export", "rows", &out, "--to", &target]).ended_with(2).err_has("--force");
    say(&["export", "rows", &out, "--to", &target, "--force"]).ended_with(0);
    assert_eq!(count("SELECT count(*) FROM rows WHERE part = 'test' AND liked IS NULL AND rating IS NULL"), 50);
    assert_eq!(count("SELECT count(*) FROM rows WHERE liked IS NULL"), 50, "of all others it is told");
    say(&["export", "predictions", &out, "--to", &target, "--force"])
        .ended_with(2)
        .err_has("no finished stage `evaluate`");
    assert_eq!(count("SELECT count(*) FROM rows"), 500, "a table stays where the new one is not finished");

    shop.execute_batch("DELETE FROM log WHERE user = 'u3'").expect("deletes");
    assert!(!run().err.contains("reused"));
}

/// Recommendations need neither the database nor the files that a run was made of.
#[test]
fn a_finished_run_recommends_without_its_raw_data() {
    let dir = tempfile::tempdir().expect("folder");
    drop(shop(dir.path()));
    let (recipe, out) = (recipe(dir.path()), dir.path().join("run").display().to_string());
    let sets = ["--set", "data.table.rating=", "--set", "graph.lightgcn.epochs=2", "--set", "graph.lightgcn.dim=8"];
    say(&[&["run", &recipe, "--out", &out][..], &sets[..]].concat()).ended_with(0);
    fs::remove_file(dir.path().join("shop.db")).expect("removes");
    let lists = dir.path().join("lists.csv").display().to_string();
    let call =
        ["recommend", "--run", &out, "--user", "u1", "--user", "u2", "--top", "3", "--cold", "0", "--to", &lists];
    say(&call).ended_with(0);
    let text = fs::read_to_string(&lists).expect("reads");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert!(lines[0].starts_with("user,rank,item,title,") && lines[1].starts_with("u1,1,i"), "{text}");
    assert!(lines[6].starts_with("u2,3,i"), "{text}");
    say(&call).ended_with(2).err_has("--force");
    let absent = ["recommend", "--run", &out, "--user", "u1", "--user", "nobody", "--to", "never.csv"];
    say(&absent).ended_with(2).err_has("there is no user 'nobody'");
    assert!(!Path::new("never.csv").exists());
}

#[test]
fn passwords_are_never_repeated() {
    let dir = tempfile::tempdir().expect("folder");
    let (recipe, out) = (recipe(dir.path()), dir.path().join("run"));
    let address = "data.table.database=postgresql://ann:secret@127.0.0.1:1/shop";
    let calls: [&[&str]; 4] = [
        &["run", &recipe, "--set", address, "--out", out.to_str().expect("UTF-8")],
        &["data", "inspect", "--recipe", &recipe, "--set", address],
        &["run", &recipe, "--set", "data.path=postgresql://ann:secret@127.0.0.1:1/shop"],
        &["export", "rows", out.to_str().expect("UTF-8"), "--to", "postgresql://ann:secret@127.0.0.1:1/shop#t"],
    ];
    for call in calls {
        let said = say(call).ended_with(2);
        assert!(!said.err.contains("secret") && !said.out.contains("secret"), "{call:?}: {}{}", said.out, said.err);
        assert!(said.err.contains("password"), "{call:?}: {}", said.err);
    }
    assert!(!out.exists());
}

/// The program at the server that the environment names, with other credentials.
fn at_server(recipe: &str, change: impl Fn(&mut Command)) -> Option<Said> {
    let Ok(url) = std::env::var("RALLREC_POSTGRES") else {
        let why = "RALLREC_POSTGRES names no server; scripts/with-postgres starts one";
        crate::skip::skip("env RALLREC_POSTGRES", why);
        return None;
    };
    let mut command = rallrec();
    let set = format!("data.table.database={url}");
    command.args(["data", "inspect", "--recipe", recipe, "--set", &set, "--set", "data.table.query=SELECT 1 AS user"]);
    change(&mut command);
    Some(Said::of(&command.output().expect("it starts")))
}

#[test]
fn a_wrong_password_and_none_are_told_apart() {
    let dir = tempfile::tempdir().expect("folder");
    let recipe = recipe(dir.path());
    let Some(wrong) = at_server(&recipe, |command| {
        command.env("PGPASSWORD", "hunter2");
    }) else {
        return;
    };
    let wrong = wrong.ended_with(2).err_has("refuses user `rallrec`").err_has("next: check PGUSER and PGPASSWORD");
    assert!(!wrong.err.contains("hunter2"), "{}", wrong.err);
    let none = |command: &mut Command| {
        command.env_remove("PGPASSWORD").env("HOME", dir.path());
    };
    let said = at_server(&recipe, none).expect("a server").ended_with(2);
    said.err_has("asks for the password of user `rallrec`").err_has("set the environment variable PGPASSWORD");
    // The file that the programs of PostgreSQL read.
    let password = std::env::var("PGPASSWORD").expect("a password");
    fs::write(dir.path().join(".pgpass"), format!("127.0.0.1:*:*:rallrec:{password}\n")).expect("writes");
    at_server(&recipe, none).expect("a server").ended_with(2).err_has("there is no column `item`");
}
