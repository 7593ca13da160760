//! `rallrec init`: recipes out of a look at data, over many shapes of files.

use std::fs;
use std::path::Path;

use rallrec::config;
use rallrec::data::{By, Damaged, DataSettings, Kind};

use super::common::{Said, rallrec, say};

/// User, item, rating from 1 to 5, seconds.
type Row = (usize, usize, usize, i64);

/// 880 ratings of 40 users and 60 items, in an order without meaning.
fn rows() -> Vec<Row> {
    let mut all: Vec<Row> = (0..40)
        .flat_map(|u| (0..22).map(move |k| (u, (u * 7 + k * 13) % 60, 1 + (u * 3 + k * 5 + k / 3) % 5, at(u, k))))
        .collect();
    all.sort_by_key(|row| row.3.wrapping_mul(2_654_435_761) % 1_000_003);
    all
}

fn at(user: usize, k: usize) -> i64 {
    1_600_000_000 + (user as i64 * 37 + k as i64 * 4001) * 90
}

fn lines(header: &str, line: impl Fn(usize, Row) -> String) -> String {
    let rows: String = rows().into_iter().enumerate().map(|(n, row)| line(n, row) + "\n").collect();
    if header.is_empty() { rows } else { format!("{header}\n{rows}") }
}

/// The settings of the recipe that `init` writes for a source; `data inspect` reads the same rows.
#[track_caller]
fn proposed(folder: &Path, source: &str, ratings: usize) -> DataSettings {
    let recipe = folder.join("proposed.toml");
    let out = recipe.to_str().expect("UTF-8");
    let source = if source.contains("://") { source.to_owned() } else { folder.join(source).display().to_string() };
    say(&["init", &source, "--out", out, "--force"]).ended_with(0);
    let found = say(&["data", "inspect", out, "--json"]).ended_with(0).json();
    assert_eq!(found["ratings"], ratings, "{}", fs::read_to_string(&recipe).expect("reads"));
    config::load(&recipe, &[]).expect("a recipe").data
}

/// One file in a folder, and what is proposed for it.
#[track_caller]
fn of_file(name: &str, text: impl AsRef<[u8]>, ratings: usize) -> DataSettings {
    let dir = tempfile::tempdir().expect("folder");
    fs::write(dir.path().join(name), text).expect("writes");
    proposed(dir.path(), name, ratings)
}

fn columns(settings: &DataSettings) -> [&str; 4] {
    let table = &settings.table;
    [&table.user, &table.item, &table.rating, &table.time]
}

#[test]
fn separators_names_and_times_are_found_out() {
    let german = of_file(
        "bewertungen.csv",
        lines("Kunden-Nr;Artikel Nr;Sterne;Datum", |n, (u, i, r, _)| {
            format!("K{u:03};A{i:04};{r},0;{:02}.{:02}.2021 18:03", 1 + n % 28, 1 + n % 12)
        }),
        880,
    );
    assert_eq!(columns(&german), ["Kunden-Nr", "Artikel Nr", "Sterne", "Datum"]);
    assert_eq!((&*german.table.separator, german.table.time_format.to_string()), (";", "%d.%m.%Y %H:%M".into()));
    assert_eq!((german.table.scale, &*german.table.noun), ((1.0, 5.0), "product"));

    let tabs = of_file(
        "scores.tsv",
        lines("reader\tbook\tscore\twhen", |n, (u, i, r, _)| {
            format!("{u}\tb{i}\t{}%\t2021-03-{:02}T10:00:00Z", r * 20, 1 + n % 28)
        }),
        880,
    );
    assert_eq!(columns(&tabs), ["reader", "book", "score", "when"]);
    assert_eq!((&*tabs.table.separator, tabs.table.scale), ("\t", (0.0, 100.0)));

    let american = of_file(
        "log.csv",
        lines("User Name,Movie Name,My Rating,Watched On", |n, (u, i, r, _)| {
            format!("Ann {u},\"The \"\"Film\"\" {i}, part 2\",{},{}/{}/2021", r as f64 - 0.5, 1 + n % 12, 1 + n % 28)
        }),
        880,
    );
    assert_eq!(columns(&american), ["User Name", "Movie Name", "My Rating", "Watched On"]);
    assert_eq!((american.table.scale, american.table.time_format.to_string()), ((0.5, 5.0), "%m/%d/%Y".into()));

    let wide =
        of_file("a.csv", lines("user,item,rating,ts", |_, (u, i, r, t)| format!("{u},{i},{},{t}123", r * 2)), 880);
    assert_eq!((wide.table.time_format.to_string(), wide.table.scale), ("milliseconds".into(), (1.0, 10.0)));

    let utf16: Vec<u8> = std::iter::once(0xfeff_u16)
        .chain(lines("user;item;rating", |_, (u, i, r, _)| format!("ü{u};i{i};{r}")).encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let utf16 = of_file("ratings.csv", utf16, 880);
    assert_eq!((&*utf16.table.encoding, &*utf16.table.time, utf16.split.by), ("utf-16", "", By::UserChance));
}

#[test]
fn a_file_without_names_is_read_by_its_values() {
    // As the publisher of MovieLens 100K writes it, under another name.
    let tabs = of_file("ratings.tab", lines("", |_, (u, i, r, t)| format!("{}\t{}\t{r}\t{t}", u + 1, i + 1)), 880);
    assert_eq!(tabs.table.columns, ["user", "item", "rating", "time"]);
    // As Amazon's ratings of 2018: the product stands first.
    let amazon = lines("", |_, (u, i, r, t)| format!("B{i:09},A{:013X},{r}.0,{t}", u * 7919 + 1_000_000));
    assert_eq!(of_file("Beauty.csv", amazon, 880).table.columns, ["item", "user", "rating", "time"]);
    // Taobao: a category between, and kinds of events.
    let events = lines("", |_, (u, i, r, t)| {
        format!("{},{},{},{},{t}", u + 1, i + 1000, i % 7, ["pv", "pv", "cart", "fav", "buy"][r - 1])
    });
    let events = of_file("behaviour.csv", events, 880);
    assert_eq!(events.table.columns, ["user", "item", "column_3", "event", "time"]);
    assert_eq!(events.table.weights, ["pv = 1", "cart = 3", "fav = 3", "buy = 5"]);
    let pairs = of_file("pairs.txt", lines("", |_, (u, i, ..)| format!("{u} {}", i + 500)), 880);
    assert!(pairs.is_implicit() && pairs.table.separator == " ", "{:?}", pairs.table);
}

#[test]
fn logs_of_events_and_counts_weigh() {
    let retail = of_file(
        "events.csv",
        lines("timestamp,visitorid,event,itemid,transactionid", |_, (u, i, r, t)| {
            format!("{t}000,{u},{},{i},", ["view", "view", "addtocart", "transaction", "remove_from_cart"][r - 1])
        }),
        // One in five says no liking.
        704,
    );
    assert_eq!((&*retail.table.event, &*retail.table.rating), ("event", ""));
    assert_eq!(retail.table.weights, ["view = 1", "addtocart = 3", "transaction = 5"]);
    let shop = of_file(
        "orders.csv",
        lines("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID", |n, (u, i, r, _)| {
            let customer = if n % 9 == 0 { String::new() } else { format!("{}.0", u + 17_000) };
            let pieces = if n % 50 == 49 { -1 } else { r as i64 };
            format!(
                "{},{}A,LANTERN {i},{pieces},{}/{}/2010 8:26,2.55,{customer}",
                536_365 + n / 5,
                85_000 + i,
                1 + n % 12,
                1 + n % 28
            )
        }),
        767,
    );
    assert_eq!((&*shop.table.count, &*shop.table.user, &*shop.table.item), ("Quantity", "CustomerID", "StockCode"));
    // The log itself says what items are called.
    assert_eq!(
        (&*shop.table.items, &*shop.table.title, shop.damaged),
        ("orders.csv", "{{ Description }}", Damaged::Skip)
    );
}

#[test]
fn ratings_are_told_from_other_numbers() {
    let reviews = of_file(
        "reviews.csv",
        lines(
            "review_id,order_id,customer_id,product_id,helpful,review_score,review_title,review_text,review_date",
            |n, (u, i, r, _)| {
                format!(
                    "rv{n},o{},c{u},p{i},{},{r},nice,\"long, \"\"quoted\"\" text\nin two lines\",2021-02-{:02} 10:00:00",
                    n / 2,
                    n % 3,
                    1 + n % 28
                )
            },
        ),
        880,
    );
    assert_eq!(columns(&reviews), ["customer_id", "product_id", "review_score", "review_date"]);
    assert_eq!(reviews.table.items, "");
    let words = of_file(
        "feedback.csv",
        lines("member,recipe,feedback", |_, (u, i, r, _)| {
            format!("m{u},r{i},{}", if r > 3 { "like" } else { "Dislike" })
        }),
        880,
    );
    assert_eq!(words.table.rating_words, ["Dislike = 1", "like = 5"]);
    let unrated = of_file(
        "anime.csv",
        lines("user_id,anime_id,rating", |n, (u, i, r, _)| {
            format!("{u},{i},{}", if n % 5 == 0 { -1 } else { 2 * r as i64 })
        }),
        704,
    );
    assert_eq!((unrated.table.scale, unrated.damaged), ((1.0, 10.0), Damaged::Skip));
    // All but a few are above the middle of the scale.
    let kind = of_file(
        "kind.csv",
        lines("user,item,stars", |n, (u, i, ..)| format!("{u},{i},{}", if n == 7 { 1 } else { 4 + n % 2 })),
        880,
    );
    assert_eq!(kind.threshold, Some(4.0));
    let around =
        of_file("votes.csv", lines("user,item,rating", |_, (u, i, r, _)| format!("{u},{i},{}", r as i64 - 3)), 880);
    assert_eq!(around.table.scale, (-2.0, 2.0));
    let alike = of_file("alike.csv", lines("user,item,rating,time", |_, (u, i, _, t)| format!("{u},{i},5,{t}")), 880);
    assert!(alike.is_implicit());
}

#[test]
fn nested_fields_and_files_beside_are_joined() {
    let nested = of_file(
        "reviews.jsonl",
        lines("", |n, (u, i, r, _)| {
            format!(
                r#"{{"review":{{"stars":{r},"at":"2021-02-{:02}T10:00:00Z"}},"author":{{"id":"a{u}"}},"product":{{"sku":"P-{i}","title":"Lamp {i}"}}}}"#,
                1 + n % 28
            )
        }),
        880,
    );
    assert_eq!(columns(&nested), ["author.id", "product.sku", "review.stars", "review.at"]);
    assert_eq!(nested.table.title, "{{ row[\"product.title\"] }}");

    let dir = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).expect("writes");
    write("ratings.csv", lines("customer,article,stars,when", |_, (u, i, r, t)| format!("{u},{i},{r},{t}")));
    write(
        "articles.csv",
        "ID,Article Name,Sub-Category\n".to_owned()
            + &(0..60).map(|i| format!("{i},Thing {i},x; y\n")).collect::<String>(),
    );
    write(
        "customers.csv",
        "customer,age,home-town\n".to_owned()
            + &(0..40).map(|u| format!("{u},{},Town {u}\n", 20 + u)).collect::<String>(),
    );
    write("notes.txt", "Hello\nworld\n".into());
    let shop = proposed(dir.path(), "", 880);
    assert_eq!((&*shop.table.items, &*shop.table.item_id), ("articles.csv", "ID"));
    assert_eq!(
        (&*shop.table.title, &*shop.table.genres, &*shop.table.genre_separator),
        ("{{ row[\"Article Name\"] }}", "Sub-Category", "; ")
    );
    assert_eq!(shop.table.users, "customers.csv");
    assert!(shop.table.user_text.contains("{{ age }}") && shop.table.user_text.contains("row[\"home-town\"]"));
}

#[test]
fn part_files_patterns_and_known_sets_are_told() {
    let dir = tempfile::tempdir().expect("folder");
    for part in 0..3 {
        let rows: String =
            rows().iter().filter(|r| r.0 % 3 == part).map(|(u, i, r, t)| format!("{u},{i},{r},{t}\n")).collect();
        fs::write(dir.path().join(format!("part-0{part}.csv")), format!("user,item,rating,time\n{rows}"))
            .expect("writes");
    }
    assert_eq!(proposed(dir.path(), "", 880).table.ratings, "part-*.csv");
    assert_eq!(proposed(dir.path(), "part-*.csv", 880).table.ratings, "part-*.csv");
    let known = tempfile::tempdir().expect("folder");
    fs::write(
        known.path().join("ratings.csv"),
        lines("userId,movieId,rating,timestamp", |_, (u, i, r, t)| format!("{u},{i},{r}.0,{t}")),
    )
    .expect("writes");
    fs::write(
        known.path().join("movies.csv"),
        "movieId,title,genres\n".to_owned()
            + &(0..60).map(|i| format!("{i},Film {i} (1999),Drama|Comedy\n")).collect::<String>(),
    )
    .expect("writes");
    assert_eq!(proposed(known.path(), "", 880).kind, Kind::ML_25M);
    assert_eq!(proposed(known.path(), "ratings.csv", 880).kind, Kind::ML_25M);
}

#[cfg(feature = "sqlite")]
#[test]
fn a_database_is_looked_through_for_the_table_of_ratings() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("shop.db");
    let db = rusqlite::Connection::open(&path).expect("opens");
    db.execute_batch(
        "CREATE TABLE notes(text); INSERT INTO notes VALUES ('x');
         CREATE TABLE movies(movieId INTEGER PRIMARY KEY, title TEXT, genres TEXT);
         CREATE TABLE \"my ratings\"(\"userId\" INTEGER, movieId INTEGER, rating REAL, ts INTEGER);",
    )
    .expect("tables");
    for i in 0..60_i64 {
        db.execute("INSERT INTO movies VALUES (?1, ?2, 'Drama|Comedy')", (i, format!("Film {i}"))).expect("a row");
    }
    for (u, i, r, t) in rows() {
        db.execute("INSERT INTO \"my ratings\" VALUES (?1, ?2, ?3, ?4)", (u as i64, i as i64, r as f64, t))
            .expect("a row");
    }
    drop(db);
    let found = proposed(dir.path(), "shop.db", 880);
    assert_eq!(found.table.query, "SELECT \"userId\", \"movieId\", \"rating\", \"ts\" FROM \"my ratings\"");
    assert_eq!((&*found.table.item_query, &*found.table.title), ("SELECT * FROM \"movies\"", "{{ title }}"));
    let (source, out) = (path.display().to_string(), dir.path().join("q.toml").display().to_string());
    let query = "SELECT userId AS who, movieId AS film, rating FROM \"my ratings\" WHERE rating > 1";
    say(&["init", &source, "--query", query, "--out", &out]).ended_with(0);
    let found = config::load(Path::new(&out), &[]).expect("a recipe").data;
    assert_eq!((&*found.table.user, &*found.table.item, &*found.table.query), ("who", "film", query));
    say(&["init", &source, "--table", "nothing", "--out", &out, "--force"]).ended_with(2).err_has("notes");
}

#[test]
fn the_recipe_finds_its_data_from_where_it_lies() {
    let dir = tempfile::tempdir().expect("folder");
    fs::create_dir_all(dir.path().join("shop/recipes")).expect("folders");
    fs::write(dir.path().join("shop/ratings.csv"), lines("user,item,rating", |_, (u, i, r, _)| format!("{u},{i},{r}")))
        .expect("writes");
    for out in ["shop/mine.toml", "shop/recipes/mine.toml", "mine.toml"] {
        let mut command = rallrec();
        command.current_dir(dir.path()).args(["init", "shop/ratings.csv", "--out", out]);
        Said::of(&command.output().expect("it starts")).ended_with(0);
        let recipe = dir.path().join(out).display().to_string();
        assert_eq!(say(&["data", "inspect", &recipe, "--json"]).ended_with(0).json()["ratings"], 880, "{out}");
    }
}

#[test]
fn a_recipe_that_is_there_stays_and_one_that_cannot_run_is_not_written() {
    let dir = tempfile::tempdir().expect("folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writes");
    write("ratings.csv", &lines("user,item,rating,time", |_, (u, i, r, t)| format!("{u},{i},{r},{t}")));
    write("mine.toml", "mine");
    let init =
        |source: &str, more: &[&str]| say(&[&["init", &path(source), "--out", &path("mine.toml")][..], more].concat());
    init("ratings.csv", &[]).ended_with(2).err_has("mine.toml: is there already").err_has("--force");
    assert_eq!(fs::read_to_string(path("mine.toml")).expect("reads"), "mine");
    let found = init("ratings.csv", &["--force", "--json"]).ended_with(0).json();
    assert_eq!(
        (&found["found"]["counts"]["ratings"], &found["found"]["findings"][1]["key"]),
        (&880.into(), &"data.table.user".into())
    );
    write("empty.csv", "");
    write("prose.txt", &"Hello world\nno table at all, really, is this text\n".repeat(30));
    write("binary.csv", "\u{0}\u{1}\u{2}");
    write("one.csv", "name\na\nb\n");
    write("names.csv", "user,item,rating,time\n");
    fs::remove_file(path("mine.toml")).expect("removes");
    for source in ["empty.csv", "prose.txt", "binary.csv", "one.csv", "missing.csv"] {
        let said = init(source, &[]).ended_with(2).err_has("next: ");
        assert!(!said.err.contains("panicked"), "{}", said.err);
        assert!(!Path::new(&path("mine.toml")).exists(), "{source}");
    }
    init("names.csv", &[]).ended_with(2).err_has("no rows");
    // A column that is called like a time and is none is not passed over in silence.
    write(
        "commas.csv",
        &lines("user,item,rating,time", |_, (u, i, r, t)| format!("{u},{i},{r},\"{},{}\"", t / 1000, t % 1000)),
    );
    init("commas.csv", &[]).ended_with(0).out_has("`time` is called like a time");
    fs::remove_file(path("mine.toml")).expect("removes");
    // A matrix has no times to split by.
    let of_user = |u: usize| (0..12).map(|i| format!(",{}", 1 + (u * i) % 5)).collect::<String>();
    let titles: String = (0..12).map(|i| format!(",i{i}")).collect();
    write(
        "wide.csv",
        &format!("user{titles}\n{}", (0..30).map(|u| format!("u{u}{}\n", of_user(u))).collect::<String>()),
    );
    assert_eq!(proposed(dir.path(), "wide.csv", 360).split.by, By::UserChance);
    say(&["init", &path("ratings.csv"), "--table", "x"]).ended_with(2).err_has("is no database");
}

#[test]
fn what_is_written_runs() {
    let dir = tempfile::tempdir().expect("folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let ratings = lines("user,item,rating,time", |_, (u, i, r, t)| format!("{u},{i},{r},{t}"));
    let events = lines("user,item,event,time", |_, (u, i, r, t)| format!("{u},{i},{},{t}", ["view", "buy"][r % 2]));
    fs::write(path("ratings.csv"), ratings).expect("writes");
    fs::write(path("events.csv"), events).expect("writes");
    let small = [
        "rows.tune=24",
        "rows.valid=12",
        "rows.test=24",
        "tune.valid_rows=12",
        "predict.ablation_rows=12",
        "reason.valid_rows=4",
        "reason.test_rows=4",
        "reason.max_tokens=4",
    ];
    for (source, more) in [("ratings.csv", &small[..]), ("events.csv", &[])] {
        let (recipe, out) = (path("r.toml"), path(source) + ".run");
        say(&["init", &path(source), "--out", &recipe, "--force"]).ended_with(0);
        let mut line = vec!["run", &recipe, "--out", &out, "--quiet"];
        more.iter().for_each(|set| line.extend(["--set", set]));
        say(&line).ended_with(0);
        say(&["recommend", "--run", &out, "--user", "3", "--top", "2"]).ended_with(0);
    }
}
