//! `rallrec serve`: a finished run as an HTTP server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::output::{self, Interruptible};
use crate::error::{Error, Result};
use crate::pipeline::{Run, control};
use crate::server::{ADDRESS, Api, Limits, Server};
use crate::terminal::{print_line, say};

/// Answer requests for recommendations over HTTP, out of a finished run.
///
/// POST /recommend takes {"user": ID} or {"history": [{"item": ID, "rating": 5}]}, with "top",
/// "cold" and "exclude", or an array of such requests; POST /score takes {"pairs": [{"user": ID,
/// "item": ID}]}. GET /health says how the server is, GET /openapi.json describes all of it. Errors
/// are JSON with what, where and next: 413 for a body that is too large, 422 for one that is not
/// understood, 429 for too many requests at once, 503 for work that takes too long. Each request is
/// a line of JSON on standard error. Ctrl-C and SIGTERM let the requests in flight end.
///
/// Nobody is asked for a password. So the server listens on this machine alone, unless --address
/// says otherwise.
#[derive(clap::Args)]
#[command(after_help = "Example: rallrec serve runs/demo --address 127.0.0.1:8080\n  \
    curl -s 127.0.0.1:8080/recommend -d '{\"user\": 17, \"top\": 3}'")]
pub struct ServeArgs {
    /// Folder of the run.
    run: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value_t = ADDRESS)]
    address: SocketAddr,
    /// Threads that work on requests.
    #[arg(long, value_name = "N", default_value_t = Limits::default().workers, value_parser = at_least_one)]
    workers: usize,
    /// Requests that are worked on or wait for it; others get 429.
    #[arg(long, value_name = "N", default_value_t = Limits::default().concurrent, value_parser = at_least_one)]
    max_requests: usize,
    /// Bytes of a request's body; larger ones get 413.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body, value_parser = at_least_one)]
    max_body: usize,
    /// Lists or pairs of one request; more get 422.
    #[arg(long, value_name = "N", default_value_t = Limits::default().batch, value_parser = at_least_one)]
    max_batch: usize,
    /// Entries of one history, and exclusions of one list; more get 422.
    #[arg(long, value_name = "N", default_value_t = Limits::default().history, value_parser = at_least_one)]
    max_history: usize,
    /// Seconds for reading a request, and for the work on it.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// Seconds that requests in flight have after a stop was asked for.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    grace: Duration,
    /// Load the tuned language model too, for requests with "score": "llm".
    #[arg(long)]
    with_model: bool,
    /// Take in the ratings that the raw data has by now, without a new fit.
    #[arg(long)]
    with_new_ratings: bool,
    /// No line for each request.
    #[arg(long, short)]
    quiet: bool,
}

fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    // What counts places in a semaphore ends there.
    text.parse().ok().filter(|n| (1..=1 << 30).contains(n)).ok_or_else(|| "give a whole number from 1".into())
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let sound = |s: &f64| (0.001..=86_400.0).contains(s);
    text.parse()
        .ok()
        .filter(sound)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give seconds from 0.001 to 86400".into())
}

pub fn main(args: ServeArgs) -> Result<()> {
    let recipe = output::recipe_of_run(&args.run)?;
    let run = Run::open_finished(&args.run)?;
    let monitor = Interruptible("serve");
    let recommender = Arc::new(output::recommender(&run, &recipe, args.with_new_ratings, &monitor)?);
    if args.with_model {
        recommender.load_model(&monitor)?;
    }
    let limits = Limits {
        body: args.max_body,
        batch: args.max_batch,
        history: args.max_history,
        concurrent: args.max_requests,
        workers: args.workers,
        time: args.timeout,
        grace: args.grace,
        ..Limits::default()
    };
    let log = move |line: &str| {
        if !args.quiet {
            print_line(line);
        }
    };
    let server = Server::bind(args.address, Api::new(recommender, limits), recipe.name.clone(), log)?;
    let address = server.address();
    if !address.ip().is_loopback() {
        say!("warning: {address} can be reached from other machines, and nobody is asked for a password");
    }
    // For people and for programs that start it: the first line of standard output.
    output::text(&format!("listening on http://{address}"))?;
    let served = server.run(&control::interrupted)?;
    if served.cut_off > 0 {
        return Err(Error::failed("serve", format!("{} requests were cut off after {:?}", served.cut_off, args.grace))
            .next("give them longer by --grace"));
    }
    say!("stopped after {} requests", served.answered);
    Ok(())
}
