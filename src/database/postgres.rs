//! PostgreSQL, over the client `postgres`. Values come as the text that the server writes, so that
//! every type, numeric and uuid among them, is what it is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::config::Host;
use postgres::error::SqlState;
use postgres::types::Type;
use postgres::{Client, Config, IsolationLevel, SimpleQueryMessage};

use super::tls::Tls;
use super::{Address, Column, Kind, Take};
use crate::error::{Error, Result};

/// Rows that are fetched at a time.
const FETCHED: usize = 8192;
const CONNECT_SECONDS: u64 = 15;
const PORT: u16 = 5432;

/// How the server writes values: dates as ISO 8601, times in UTC, numbers with all their digits.
const WRITES: &str = "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'iso_8601'; \
                      SET extra_float_digits = 1; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'";

/// Refuses an address that cannot be one.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(url: &str) -> Result<()> {
    parse(url).map(drop)
}

fn parse(url: &str) -> Result<(Config, Tls)> {
    let (bare, tls) = Tls::of(url, env)?;
    let config: std::result::Result<Config, postgres::Error> = bare.parse();
    let mut config = config.map_err(|e| {
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Error::usage(super::without_password(url), format!("is no address of a PostgreSQL database: {why}"))
            .next("write postgresql://user@host:port/name, of which every part may be left out")
    })?;
    config.ssl_mode(tls.asks());
    Ok((config, tls))
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The address with what the environment says, as every program of PostgreSQL reads it: PGHOST,
/// PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGPASSFILE.
fn config(url: &str) -> Result<(Config, Tls)> {
    let (mut config, tls) = parse(url)?;
    if config.get_ports().is_empty() {
        let port = env("PGPORT").map_or(Ok(PORT), |port| {
            port.parse().map_err(|_| Error::usage("PGPORT", format!("`{port}` is no port")).next("set it to e.g. 5432"))
        })?;
        config.port(port);
    }
    if config.get_hosts().is_empty() {
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        match env("PGHOST") {
            Some(hosts) => {
                for host in hosts.split(',') {
                    config.host(host);
                }
            }
            None => {
                let local = ["/var/run/postgresql", "/tmp"].into_iter().find(|f| socket(f, port).exists());
                config.host(local.unwrap_or("localhost"));
            }
        }
    }
    if config.get_user().is_none() {
        let user = env("PGUSER").or_else(|| env("USER")).or_else(|| env("LOGNAME"));
        config.user(&user.unwrap_or_else(|| "postgres".into()));
    }
    if config.get_dbname().is_none()
        && let Some(name) = env("PGDATABASE")
    {
        config.dbname(&name);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(CONNECT_SECONDS));
    }
    if config.get_application_name().is_none() {
        config.application_name("rallrec");
    }
    if let Some(password) = env("PGPASSWORD").or_else(|| from_file(&config)) {
        config.password(password);
    }
    Ok((config, tls))
}

fn socket(folder: &str, port: u16) -> PathBuf {
    Path::new(folder).join(format!(".s.PGSQL.{port}"))
}

/// The password that `~/.pgpass` has for a server: of the first line that fits, which is
/// `host:port:database:user:password`, `*` for any.
fn from_file(config: &Config) -> Option<String> {
    let path = env("PGPASSFILE").map(PathBuf::from).or_else(|| Some(Path::new(&env("HOME")?).join(".pgpass")))?;
    let text = std::fs::read_to_string(path).ok()?;
    let (host, port) = place(config);
    let host = if host.starts_with('/') { "localhost".to_owned() } else { host };
    let user = config.get_user().unwrap_or_default();
    find_password(&text, [&host, &port.to_string(), config.get_dbname().unwrap_or(user), user])
}

fn find_password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let fits = fields.len() == 5 && wanted.iter().zip(&fields).all(|(want, field)| field == "*" || field == want);
        fits.then(|| fields[4].clone())
    })
}

/// The fields of a line; `\:` and `\\` are characters of a field.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let at = fields.len() - 1;
        match c {
            '\\' => fields[at].extend(chars.next()),
            // A password may hold colons.
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => fields[at].push(c),
        }
    }
    fields
}

/// Host and port that are tried first.
fn place(config: &Config) -> (String, u16) {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        #[allow(unreachable_patterns, reason = "hosts of other systems")]
        _ => "localhost".into(),
    };
    (host, config.get_ports().first().copied().unwrap_or(PORT))
}

/// Connects.
///
/// # Errors
/// The server is not there, or lets nobody in: with what to do.
pub fn connect(url: &str) -> Result<Client> {
    let (config, tls) = config(url)?;
    let shown = Address::Postgres(url.to_owned());
    let mut client = config.connect(tls.connector()?).map_err(|e| {
        let (host, port) = place(&config);
        let user = config.get_user().unwrap_or_default().to_owned();
        let said = reason(&e);
        match e.code() {
            Some(code)
                if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) =>
            {
                Error::input(&shown, format!("the server at {host}:{port} refuses user `{user}`: {said}")).next(
                    "check PGUSER and PGPASSWORD, or the line of ~/.pgpass, and what pg_hba.conf of the server allows",
                )
            }
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => Error::input(&shown, said)
                .next(format!("name a database that is there; `psql -h {host} -p {port} -l` lists them")),
            Some(_) => Error::failed(&shown, said).next("see the log of the server"),
            None if said.contains("password missing") => {
                Error::input(&shown, format!("the server at {host}:{port} asks for the password of user `{user}`"))
                    .next("set the environment variable PGPASSWORD, or write it into ~/.pgpass")
            }
            None if said.contains("does not support TLS") => {
                Error::input(&shown, format!("the server at {host}:{port} has no TLS, and sslmode asks for it"))
                    .next("turn TLS on there (`ssl = on`), or, in a network that you trust, set sslmode=disable")
            }
            None if said.contains("invalid peer certificate") => Error::input(
                &shown,
                format!("the certificate of the server at {host}:{port} does not hold: {said}"),
            )
            .next(
                "name the certificate of its authority by sslrootcert=FILE in the address or by PGSSLROOTCERT, and the \
                 server as its certificate does",
            ),
            None => Error::failed(&shown, format!("cannot be reached at {host}:{port}: {said}"))
                .next("check that the server runs, and host and port in the address or in PGHOST and PGPORT"),
        }
    })?;
    client.batch_execute(WRITES).map_err(|e| error(&shown, &e))?;
    Ok(client)
}

/// What went wrong, in the server's words where it has any.
fn reason(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let more = [said.detail(), said.hint()].into_iter().flatten();
        return more.fold(said.message().to_owned(), |text, more| format!("{text} ({more})"));
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// An error of a statement with what to do about it.
pub fn error(address: &Address, error: &postgres::Error) -> Error {
    let said = reason(error);
    let Some(code) = error.code() else {
        return Error::failed(address, format!("the connection broke off: {said}"))
            .next("check the server, and run the same command again");
    };
    let next = if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME {
        "check the name of the table and its schema; \\dt *.* of psql lists them"
    } else if *code == SqlState::UNDEFINED_COLUMN {
        "check the names of the columns; \\d TABLE of psql lists them"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "let the user do that (GRANT), or connect as another one (PGUSER)"
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        "write a SELECT: a query is run where nothing can be changed"
    } else if *code == SqlState::SYNTAX_ERROR {
        "check the query: try it in psql"
    } else {
        "try the query in psql"
    };
    Error::input(address, said).next(next)
}

fn kind(kind: &Type) -> Kind {
    match *kind {
        Type::DATE => Kind::Date,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => Kind::Time,
        _ => Kind::Text,
    }
}

/// Hands the rows of a query over, out of a cursor in a transaction that reads one state of the
/// database and changes nothing.
///
/// # Errors
/// Those of [`super::query`].
pub fn query(url: &str, sql: &str, take: &mut dyn Take) -> Result<()> {
    let address = Address::Postgres(url.to_owned());
    let failed = |e: postgres::Error| error(&address, &e);
    let mut client = connect(url)?;
    let options = client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead);
    let mut transaction = options.start().map_err(failed)?;
    // Prepared first: this tells the types, and refuses more than one statement.
    let statement = transaction.prepare(sql).map_err(failed)?;
    let no_query = || {
        Error::input(&address, "the query is no SELECT: it changes something, or has no rows")
            .next("write a SELECT that names the columns for user, item, rating and time")
    };
    if statement.columns().is_empty() {
        return Err(no_query());
    }
    if !statement.params().is_empty() {
        return Err(Error::input(&address, "the query has parameters (`$1`), and nothing says what they are")
            .next("write the values into the query"));
    }
    let types: Vec<Type> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    let columns = statement.columns().iter().map(|c| Column { name: c.name().to_owned(), kind: kind(c.type_()) });
    take.columns(columns.collect())?;
    transaction.batch_execute(&format!("DECLARE rallrec_rows NO SCROLL CURSOR FOR {sql}")).map_err(|e| {
        // It was sound as a statement of any kind.
        if e.code() == Some(&SqlState::SYNTAX_ERROR) { no_query() } else { error(&address, &e) }
    })?;
    let fetch = format!("FETCH {FETCHED} FROM rallrec_rows");
    loop {
        let fetched = transaction.simple_query(&fetch).map_err(failed)?;
        let mut count = 0;
        for message in &fetched {
            let SimpleQueryMessage::Row(row) = message else { continue };
            count += 1;
            let value = |(at, kind): (usize, &Type)| row.get(at).map(|text| text_of(kind, text).as_bytes());
            let values: Vec<Option<&[u8]>> = types.iter().enumerate().map(value).collect();
            take.row(&values)?;
        }
        if count < FETCHED {
            return Ok(());
        }
    }
}

/// A value as text files have it.
fn text_of<'a>(kind: &Type, text: &'a str) -> &'a str {
    match (kind, text) {
        (&Type::BOOL, "t") => "true",
        (&Type::BOOL, "f") => "false",
        // Of a fixed length: the blanks behind it are none of the value's.
        (&Type::BPCHAR, text) => text.trim_end_matches(' '),
        (_, text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_password_file_that_fits_counts() {
        let text = "# none\ndb:5432:shop:bob:wrong\ndb:*:*:ann:a\\:b:c\n*:*:*:*:any\n";
        let of = |host, user| find_password(text, [host, "5432", "shop", user]);
        assert_eq!(of("db", "ann").as_deref(), Some("a:b:c"));
        assert_eq!(of("db", "bob").as_deref(), Some("wrong"));
        assert_eq!(of("other", "bob").as_deref(), Some("any"));
        assert_eq!(find_password("db:1:shop:ann:x", ["db", "2", "shop", "ann"]), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let said = check("postgresql://db:port/shop").unwrap_err().to_string();
        assert!(said.contains("postgresql://db:port/shop") && said.contains("next: "), "{said}");
        check("postgresql:///shop").unwrap();
    }
}
