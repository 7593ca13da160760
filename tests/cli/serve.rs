//! `rallrec serve`: the real server on loopback, spoken to over sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{Place, say};

/// A run that is far enough for recommendations, made once.
fn run() -> &'static str {
    static RUN: OnceLock<(Place, String)> = OnceLock::new();
    let (_, run) = RUN.get_or_init(|| {
        let place = Place::new();
        let (recipe, out) = (place.recipe(), place.text("run"));
        say(&["run", &recipe, "--out", &out, "--until", "align", "--quiet"]).ended_with(0);
        (place, out)
    });
    run
}

/// The program, serving.
struct Serving {
    child: Child,
    address: String,
    log: Option<thread::JoinHandle<Vec<String>>>,
}

impl Serving {
    fn start(more: &[&str]) -> Self {
        Self::of(run(), more)
    }

    fn of(run: &str, more: &[&str]) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["serve", run, "--address", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
        let address = first.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let log = Some(thread::spawn(move || errors.lines().map_while(Result::ok).collect()));
        Self { child, address, log }
    }

    fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    }

    /// Stops it as a service manager does; the exit code, and what it wrote on standard error.
    fn stop(self) -> (Option<i32>, Vec<String>) {
        self.signal("TERM");
        self.ended()
    }

    /// The same for one that was told to stop.
    fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                break status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not stop");
            thread::sleep(Duration::from_millis(10));
        };
        (code, self.log.take().expect("once").join().expect("lines"))
    }

    /// Sends bytes and reads all that comes back.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        // A server that refuses a body may close before all of it was sent.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string().as_bytes())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Ended already, where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset behind the answer has said all there is.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    /// An error with its three parts.
    #[track_caller]
    fn is_problem(&self, status: u16, what: &str) {
        let error = &self.body["error"];
        let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key} in {self:?}")).to_owned();
        assert_eq!(self.status, status, "{self:?}");
        assert!(format!("{}: {}", text("where"), text("what")).contains(what) && !text("next").is_empty(), "{self:?}");
    }
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no items in {list}"));
    items.iter().map(|item| item["item"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn lists_and_scores_are_those_of_the_command_line() {
    let server = Serving::start(&[]);
    let told =
        say(&["recommend", "--run", run(), "--user", "3", "--top", "4", "--cold", "0", "--json"]).ended_with(0).json();
    let list = server.post("/recommend", &json!({ "user": 3, "top": 4 }));
    assert_eq!((list.status, &list.body), (200, &told), "{list:?}");
    assert!(list.head.contains("content-type: application/json"), "{}", list.head);

    // A history may be of nobody whom the run knows.
    let met: Vec<Value> = ids(&told)[..2].iter().map(|id| json!({ "item": id, "rating": 5 })).collect();
    let given = server.post("/recommend", &json!({ "history": met, "top": 40, "exclude": [ids(&told)[2]] }));
    assert_eq!((given.status, &given.body["user"], &given.body["ratings"]), (200, &Value::Null, &2.into()));
    assert!(ids(&told)[..3].iter().all(|id| !ids(&given.body).contains(id)), "{given:?}");

    // One wrong entry does not lose the others.
    let batch =
        json!([{ "user": "3", "top": 4 }, { "user": "nobody" }, { "user": 4, "top": 0 }, {}, { "user": 4, "top": 1 }]);
    let batch = server.post("/recommend", &batch);
    assert_eq!((batch.status, &batch.body[0]), (200, &told));
    let problems: Vec<&str> = (1..4).map(|at| batch.body[at]["error"]["where"].as_str().expect("a place")).collect();
    assert_eq!(problems, ["[1].user", "[2].top", "[3]"]);
    assert_eq!(ids(&batch.body[4]).len(), 1);

    let best = &ids(&told)[0];
    let scores =
        server.post("/score", &json!({ "pairs": [{ "user": 3, "item": best }, { "user": "4", "item": best }] }));
    let scores = scores.body["scores"].as_array().expect("scores").clone();
    assert_eq!((scores.len(), &scores[0]["score"], &scores[0]["met"]), (2, &told["items"][0]["score"], &false.into()));
    server
        .post("/score", &json!({ "pairs": [{ "user": 3, "item": "none" }] }))
        .is_problem(422, "there is no item 'none'");

    let health = server.send("GET", "/health", b"");
    assert_eq!((health.status, &health.body["status"], &health.body["run"]), (200, &"ok".into(), &"tiny".into()));
    assert_eq!((&health.body["answered"], &health.body["in_flight"]), (&5.into(), &0.into()));
    assert_eq!(server.stop().0, Some(0));
}

/// The tuned model's answers count where a request asks for it and the server has loaded it.
#[test]
fn the_tuned_model_is_asked_of_users_and_of_histories() {
    Serving::start(&[])
        .post("/recommend", &json!({ "user": 3, "score": "llm" }))
        .is_problem(422, "score: this server has not loaded the tuned model");
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    say(&["run", &recipe, "--out", &out, "--until", "predict", "--quiet"]).ended_with(0);
    let server = Serving::of(&out, &["--with-model", "--timeout", "60"]);
    let document = server.send("GET", "/openapi.json", b"").body;
    let schema = &document["paths"]["/recommend"]["post"]["responses"]["200"]["content"]["application/json"]["schema"];
    // How long it took is another each time.
    let timeless = |mut list: Value| {
        assert!(list["model"]["seconds"].take().is_number() && list["model"]["seconds_each"].take().is_number());
        list
    };
    for (body, who) in [
        (json!({ "user": 3, "top": 4, "score": "llm" }), ["--user", "3"]),
        (
            json!({ "history": [{ "item": 1, "rating": 5 }, { "item": 2 }], "top": 4, "score": "llm" }),
            ["--history", "1:5,2"],
        ),
    ] {
        let list = server.post("/recommend", &body);
        assert_eq!(differs(&list.body, schema, &document, "answer"), None, "{list:?}");
        let more = ["--top", "4", "--cold", "0", "--score", "llm", "--json"];
        let told = say(&[&["recommend", "--run", &out][..], &who, &more].concat()).ended_with(0).json();
        assert!(told["items"][0]["model_probability"].is_number(), "{told}");
        assert_eq!((list.status, timeless(list.body)), (200, timeless(told)));
    }
    server.post("/recommend", &json!({ "user": 3, "score": "tuned" })).is_problem(422, "body, line 1");
}

/// Whether a value is what a schema of the document says; the first difference.
fn differs(value: &Value, schema: &Value, document: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let place = name.strip_prefix('#').expect("of the document");
        return differs(value, document.pointer(place).unwrap_or_else(|| panic!("no {place}")), document, at);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(ways) = schema[key].as_array() {
            let faults: Vec<String> = ways.iter().filter_map(|way| differs(value, way, document, at)).collect();
            let fit = ways.len() - faults.len();
            return (fit == 0 || (key == "oneOf" && fit > 1)).then(|| format!("{at}: {fit} ways fit: {faults:?}"));
        }
    }
    let own = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Some(format!("{at}: a schema without a type: {schema}")),
    };
    let fits = types.contains(&own) || (own == "integer" && types.contains(&"number"));
    if !fits {
        return Some(format!("{at}: {own} where {types:?} is described"));
    }
    match value {
        Value::Array(entries) => {
            let each = entries.iter().enumerate();
            each.filter_map(|(n, entry)| differs(entry, &schema["items"], document, &format!("{at}[{n}]"))).next()
        }
        Value::Object(fields) if schema["properties"].is_object() => {
            let needed = schema["required"].as_array().cloned().unwrap_or_default();
            let lacks = needed.iter().filter_map(Value::as_str).find(|name| !fields.contains_key(*name));
            if let Some(name) = lacks {
                return Some(format!("{at}: no {name}"));
            }
            fields.iter().find_map(|(name, field)| match &schema["properties"][name] {
                Value::Null => Some(format!("{at}.{name} is not described")),
                inner => differs(field, inner, document, &format!("{at}.{name}")),
            })
        }
        _ => None,
    }
}

#[test]
fn the_document_describes_what_is_read_and_written() {
    let server = Serving::start(&["--max-batch", "3"]);
    let document = server.send("GET", "/openapi.json", b"").body;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["/recommend", "/score", "/health", "/openapi.json"]);
    let schema = |path: &str, method: &str, rest: &str| {
        let place = format!("/paths/~1{}/{method}/{rest}/content/application~1json/schema", &path[1..]);
        document.pointer(&place).unwrap_or_else(|| panic!("no {place}")).clone()
    };
    let history = json!({ "history": [{ "item": 3 }, { "item": "4", "rating": 1.5 }], "cold": 2, "exclude": [5] });
    let wrong = json!({ "user": "nobody" });
    for (path, body) in [
        ("/recommend", json!({ "user": 3 })),
        ("/recommend", history.clone()),
        ("/recommend", json!([{ "user": 3 }, history, wrong])),
        ("/recommend", json!([])),
        ("/recommend", wrong),
        ("/score", json!({ "pairs": [{ "user": 3, "item": "7" }] })),
        ("/score", json!({ "pairs": [] })),
    ] {
        assert_eq!(differs(&body, &schema(path, "post", "requestBody"), &document, "body"), None, "{body}");
        let answer = server.post(path, &body);
        let described = schema(path, "post", &format!("responses/{}", answer.status));
        assert_eq!(differs(&answer.body, &described, &document, "answer"), None, "{body}: {answer:?}");
    }
    let health = server.send("GET", "/health", b"").body;
    assert_eq!(differs(&health, &schema("/health", "get", "responses/200"), &document, "health"), None);
    // What is not described is not taken either.
    for body in [json!({ "user": 3, "tops": 4 }), json!({ "user": [] }), json!({ "user": 1.5 }), json!("3")] {
        assert!(differs(&body, &schema("/recommend", "post", "requestBody"), &document, "body").is_some(), "{body}");
        assert_eq!(server.post("/recommend", &body).status, 422, "{body}");
    }
    for list in ["/recommend", "/score"] {
        for status in ["408", "413", "422", "429", "500", "503"] {
            schema(list, "post", &format!("responses/{status}"));
        }
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_in_words() {
    let server = Serving::start(&["--max-body", "2000", "--max-batch", "3", "--max-history", "4", "--timeout", "2"]);
    let many = json!({ "user": 3, "exclude": vec!["x"; 1000] });
    server.post("/recommend", &many).is_problem(413, "body: is larger than 2000 bytes");
    // Without a length that is told before.
    let chunks = "POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_owned()
        + &format!("400\r\n{}\r\n", "[".repeat(1024)).repeat(3)
        + "0\r\n\r\n";
    server.raw(chunks.as_bytes()).is_problem(413, "2000 bytes");
    server
        .post("/recommend", &json!([{}, {}, {}, {}]))
        .is_problem(422, "the array: has 4 entries, where 3 are the most");
    server.post("/recommend", &json!({ "user": 3, "exclude": [1, 2, 3, 4, 5] })).is_problem(422, "exclude: has 5");
    server.post("/recommend", &json!({ "user": 3, "top": 257 })).is_problem(422, "top: 257 is out of range");
    server.post("/recommend", &json!({ "user": 3, "history": [] })).is_problem(422, "there is a user as well");
    server.send("POST", "/recommend", b"{\n  \"user\": }").is_problem(422, "body, line 2 column 11");
    server.send("POST", "/recommend", b"\xff\xfe").is_problem(422, "body, line 1");
    server.send("GET", "/nothing", b"").is_problem(404, "/nothing: there is nothing at this path");
    let other = server.send("DELETE", "/recommend", b"");
    other.is_problem(405, "DELETE is not taken here");
    assert!(other.head.contains("allow: post"), "{}", other.head);
    // A body of which a part never comes.
    let begun = Instant::now();
    let slow = "POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    server.raw(slow.as_bytes()).is_problem(408, "did not come within 2 s");
    // A head of which a part never comes: there is nobody to answer.
    assert_eq!(server.raw(b"POST /sco").head, "");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(server.send("GET", "/health", b"").status, 200);
}

#[test]
fn more_than_can_be_worked_on_is_refused_for_now() {
    let server =
        Serving::start(&["--max-requests", "2", "--workers", "1", "--max-batch", "100000", "--max-body", "10000000"]);
    let long = Value::Array(vec![json!({ "user": 3, "top": 40, "cold": 40 }); 20_000]).to_string();
    let statuses: Vec<(u16, String)> = thread::scope(|scope| {
        let asked: Vec<_> =
            (0..6).map(|_| scope.spawn(|| server.send("POST", "/recommend", long.as_bytes()))).collect();
        asked.into_iter().map(|one| one.join().expect("an answer")).map(|a| (a.status, a.head)).collect()
    });
    let count = |status: u16| statuses.iter().filter(|s| s.0 == status).count();
    // Two are worked on in turn, within their time or not; the others find no place.
    assert_eq!((count(429) >= 3, count(200) + count(503) + count(429)), (true, 6), "{statuses:?}");
    assert!(statuses.iter().filter(|s| s.0 != 200).all(|s| s.1.contains("retry-after: 1")), "{statuses:?}");
    let server = Serving::start(&["--timeout", "0.05", "--max-batch", "100000", "--max-body", "10000000"]);
    server.send("POST", "/recommend", long.as_bytes()).is_problem(503, "took longer than 0.05 s");
    assert_eq!(server.send("GET", "/health", b"").status, 200);
}

#[test]
fn a_stop_lets_requests_in_flight_end() {
    let server = Serving::start(&["--max-batch", "100000", "--max-body", "10000000"]);
    let long = Value::Array(vec![json!({ "user": 3, "top": 40 }); 2_000]);
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| server.post("/recommend", &long));
        let begun = Instant::now();
        while server.send("GET", "/health", b"").body["in_flight"] != 1 {
            assert!(begun.elapsed() < Duration::from_secs(20) && !asked.is_finished(), "it was never in flight");
        }
        server.signal("TERM");
        asked.join().expect("an answer")
    });
    assert_eq!((answer.status, answer.body.as_array().map(Vec::len)), (200, Some(2_000)));
    let address = server.address.clone();
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log:?}");
    assert!(log.last().is_some_and(|line| line.starts_with("stopped after")), "{log:?}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn each_request_is_a_line_without_escapes_and_no_body_ends_the_server() {
    let server = Serving::start(&[]);
    server.send("GET", "/%1b%5d0;x%07\u{9b}31m\u{202e}", b"");
    server.post("/recommend", &json!({ "user": "\u{1b}[31m\u{202e}" })).is_problem(422, "there is no user");
    // Bodies that are mutations of a sound one.
    let sound = json!([{ "user": 3, "history": [{ "item": "1", "rating": 3 }], "top": 10 }]).to_string().into_bytes();
    let mut state = 20_250_206_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut body = sound.clone();
        for _ in 0..=draw(4) {
            let at = draw(body.len());
            match draw(3) {
                0 => body[at] = draw(256) as u8,
                1 => body.truncate(at.max(1)),
                _ => body.insert(at, b"[]{},:\"0e-9"[draw(11)]),
            }
        }
        let answer = server.send("POST", if draw(2) == 0 { "/recommend" } else { "/score" }, &body);
        assert!(matches!(answer.status, 200 | 422), "{answer:?} of {}", String::from_utf8_lossy(&body));
    }
    let deep = "[".repeat(500_000);
    assert_eq!(server.send("POST", "/recommend", deep.as_bytes()).status, 422);
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log:?}");
    let lines: Vec<Value> =
        log.iter().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // A head that is no HTTP is no request.
    assert!(lines.len() >= 302, "{} lines", lines.len());
    let fields = ["time", "method", "path", "status", "ms", "waited_ms", "bytes_in", "bytes_out", "entries"];
    assert!(lines.iter().all(|line| fields.iter().all(|name| !line[name].is_null())), "{:?}", lines.first());
    let hostile = |c: char| (c.is_control() && c != '\t') || c == '\u{202e}';
    assert!(log.iter().all(|line| !line.contains(hostile)), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:?}");
}

#[test]
fn an_address_that_is_taken_or_a_folder_that_is_no_run_is_an_error() {
    let server = Serving::start(&["--quiet"]);
    say(&["serve", run(), "--address", &server.address])
        .ended_with(2)
        .err_has("cannot be listened at")
        .err_has("--address");
    say(&["serve", "/nonexistent"]).ended_with(2).err_has("is not a run folder");
    say(&["serve", run(), "--timeout", "0"]).ended_with(2).err_has("give seconds from 0.001");
    server.send("GET", "/health", b"");
    let (code, log) = server.stop();
    assert_eq!((code, log.iter().any(|line| line.starts_with('{'))), (Some(0), false), "{log:?}");
}
