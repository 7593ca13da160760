//! Connections and requests, on one thread that waits; the work is done on others.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::api::{Answer, Api, Health};
use super::{log, openapi};
use crate::error::{Error, Result};

/// How often a stop is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a request's head.
const HEAD: usize = 32 << 10;

/// A server that listens.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

/// What a server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were cut off at the end.
    pub cut_off: usize,
}

/// What all requests share.
struct State {
    api: Api,
    run: String,
    document: Bytes,
    begun: Instant,
    answered: AtomicU64,
    in_flight: AtomicUsize,
    stopping: AtomicBool,
    workers: Arc<Semaphore>,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

/// A request that counts among those in flight for as long as its work goes on.
struct Place(Arc<State>);

impl Place {
    /// `None` where all places are taken.
    fn take(state: &Arc<State>) -> Option<Self> {
        let place = Self(state.clone());
        let before = state.in_flight.fetch_add(1, Ordering::SeqCst);
        (before < state.api.limits().concurrent).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    /// Listens at an address. `run` names the run; `log` takes a line for each request.
    ///
    /// # Errors
    /// The address is taken, or is none of this machine.
    pub fn bind(
        address: SocketAddr,
        api: Api,
        run: String,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let next = match e.kind() {
                ErrorKind::AddrInUse => "end what listens there, or choose another port, e.g. --address 127.0.0.1:8081",
                ErrorKind::PermissionDenied => "choose a port above 1023",
                _ => "choose an address of this machine, e.g. --address 127.0.0.1:8080",
            };
            Error::usage(address, format!("cannot be listened at: {e}")).next(next)
        };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let limits = api.limits().clone();
        let document = serde_json::to_vec(&openapi::document(&limits)).map_err(|e| Error::failed("openapi", e))?;
        let state = Arc::new(State {
            run,
            document: document.into(),
            begun: Instant::now(),
            answered: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            workers: Arc::new(Semaphore::new(limits.workers)),
            log: Box::new(log),
            api,
        });
        Ok(Self { listener, address, state })
    }

    /// Where it listens: the port that was chosen, where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a stop is asked for; then requests in flight end first, for as long as the
    /// limits allow.
    ///
    /// # Errors
    /// The operating system refuses threads or sockets.
    pub fn run(self, stop: &dyn Fn() -> bool) -> Result<Served> {
        let limits = self.state.api.limits().clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(limits.workers + 1)
            .thread_name("rallrec-serve")
            .build()
            .map_err(|e| Error::failed("serve", format!("cannot begin: {e}")))?;
        let state = self.state.clone();
        runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener)
                .map_err(|e| Error::failed("serve", format!("cannot listen: {e}")))?;
            let (stopping, told) = watch::channel(false);
            let connections = Arc::new(Semaphore::new(limits.connections));
            while !stop() {
                // A full house leaves new connections in the queue of the operating system.
                let Ok(Ok(place)) = timeout(LOOK, connections.clone().acquire_owned()).await else { continue };
                let stream = match timeout(LOOK, listener.accept()).await {
                    Ok(Ok((stream, _))) => stream,
                    // Too many open files, or a client that went away: neither ends the server.
                    Ok(Err(_)) => {
                        sleep(LOOK).await;
                        continue;
                    }
                    Err(_) => continue,
                };
                let (state, told) = (state.clone(), told.clone());
                tokio::spawn(async move {
                    connection(stream, state, told).await;
                    drop(place);
                });
            }
            drop(listener);
            state.stopping.store(true, Ordering::SeqCst);
            // Nobody listens where no connection is open.
            let _ = stopping.send(true);
            let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
            let _ = timeout(limits.grace, connections.acquire_many(all)).await;
            Ok::<(), Error>(())
        })?;
        let cut_off = state.in_flight.load(Ordering::SeqCst);
        runtime.shutdown_background();
        Ok(Served { answered: state.answered.load(Ordering::SeqCst), cut_off })
    }
}

/// One connection, with as many requests as its client sends.
async fn connection(stream: TcpStream, state: Arc<State>, mut told: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(state.api.limits().time).max_buf_size(HEAD);
    let service = service_fn(move |request| respond(state.clone(), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stop = pin!(async move { told.wait_for(|stopping| *stopping).await.is_ok() });
    let mut asked = false;
    // A client that sends nonsense or goes away is no error of the server.
    let _ = poll_fn(|context| {
        if !asked && stop.as_mut().poll(context).is_ready() {
            asked = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
}

/// What came of reading a body.
enum Read {
    All(Bytes),
    Refused(Answer),
}

async fn respond(
    state: Arc<State>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), log::short(request.uri().path()));
    let (mut waited, mut bytes_in) = (Duration::ZERO, 0);
    let answer = answer(&state, request, &mut waited, &mut bytes_in).await;
    state.answered.fetch_add(1, Ordering::SeqCst);
    let line = log::Line {
        time: log::now(),
        method: method.as_str(),
        path: &path,
        status: answer.status,
        ms: log::ms_since(begun),
        waited_ms: log::ms(waited),
        bytes_in,
        bytes_out: answer.body.len(),
        entries: answer.entries,
        error: answer.error.as_deref(),
    };
    (state.log)(&line.text());
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match answer.status {
        429 | 503 => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        405 => {
            let allowed = if is_read(&path) { "GET, HEAD" } else { "POST" };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    Ok(response)
}

/// Whether a path is one that is read, and not asked by a body.
fn is_read(path: &str) -> bool {
    matches!(path, "/health" | "/openapi.json")
}

async fn answer(state: &Arc<State>, request: Request<Incoming>, waited: &mut Duration, bytes_in: &mut usize) -> Answer {
    let path = request.uri().path().to_owned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let work: fn(&Api, &[u8]) -> Answer = match (path.as_str(), reads, request.method() == Method::POST) {
        ("/health", true, _) => return health(state),
        ("/openapi.json", true, _) => {
            return Answer { status: 200, body: state.document.to_vec(), entries: 0, error: None };
        }
        ("/recommend", _, true) => Api::recommend,
        ("/score", _, true) => Api::score,
        ("/recommend" | "/score" | "/health" | "/openapi.json", ..) => {
            let method = if is_read(&path) { "GET" } else { "POST" };
            let what = format!("{} is not taken here", log::short(request.method().as_str()));
            return Answer::problem(405, &Error::usage(&path, what).next(format!("send {method}")));
        }
        _ => {
            let error = Error::usage(log::short(&path), "there is nothing at this path");
            return Answer::problem(404, &error.next("see /openapi.json: /recommend, /score, /health"));
        }
    };
    let body = match read(state, request).await {
        Read::All(body) => body,
        Read::Refused(answer) => return answer,
    };
    *bytes_in = body.len();
    worked(state, work, body, waited).await
}

fn health(state: &State) -> Answer {
    let health = Health {
        status: if state.stopping.load(Ordering::SeqCst) { "stopping" } else { "ok" },
        run: state.run.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: state.begun.elapsed().as_secs_f64(),
        answered: state.answered.load(Ordering::SeqCst),
        in_flight: state.in_flight.load(Ordering::SeqCst),
    };
    match serde_json::to_vec(&health) {
        Ok(body) => Answer { status: 200, body, entries: 0, error: None },
        Err(e) => Answer::problem(500, &Error::failed("health", e)),
    }
}

/// Reads a body, up to the limits of size and time.
async fn read(state: &State, request: Request<Incoming>) -> Read {
    let limits = state.api.limits();
    let too_large = || {
        let error = Error::usage("body", format!("is larger than {} bytes", limits.body));
        Read::Refused(Answer::problem(
            413,
            &error.next("send it in parts, or start the server with a larger --max-body"),
        ))
    };
    let body = request.into_body();
    if body.size_hint().lower() > limits.body as u64 {
        return too_large();
    }
    match timeout(limits.time, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(all)) => Read::All(all.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => too_large(),
        Ok(Err(e)) => {
            let error = Error::usage("body", format!("broke off: {e}")).next("send it again");
            Read::Refused(Answer::problem(400, &error))
        }
        Err(_) => {
            let error = Error::usage("body", format!("did not come within {} s", limits.time.as_secs_f64()));
            Read::Refused(Answer::problem(408, &error.next("send it again, faster or in parts")))
        }
    }
}

/// Does the work on a thread for it, when one is free.
async fn worked(state: &Arc<State>, work: fn(&Api, &[u8]) -> Answer, body: Bytes, waited: &mut Duration) -> Answer {
    let limits = state.api.limits();
    let Some(place) = Place::take(state) else {
        let error = Error::failed("", format!("{} requests are being worked on or wait", limits.concurrent));
        return Answer::problem(429, &error.next("try again in a second, with fewer requests at once"));
    };
    let late = |what: &str| {
        let error = Error::failed("", format!("{what} within {} s", limits.time.as_secs_f64()));
        Answer::problem(503, &error.next("try again later, or ask for less at once"))
    };
    let begun = Instant::now();
    let Ok(Ok(worker)) = timeout(limits.time, state.workers.clone().acquire_owned()).await else {
        return late("no thread was free");
    };
    *waited = begun.elapsed();
    let shared = state.clone();
    // Work that goes on when nobody waits for it any more still holds its place and its thread.
    let done = tokio::task::spawn_blocking(move || {
        let answer = work(&shared.api, &body);
        drop((worker, place));
        answer
    });
    match timeout(limits.time + LOOK, done).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            let error = Error::failed("", "the work ended in a fault of the program");
            Answer::problem(500, &error.next("report it with the request; the server goes on"))
        }
        Err(_) => late("the work was not done"),
    }
}
