//! A finished run as an HTTP server: lists and scores as JSON.
//!
//! One thread waits for the network (`http`). What a request asks for is read, answered and written
//! by `api`, which knows nothing of sockets, on threads that may compute. `openapi` says in the
//! words of OpenAPI what `api` reads and writes, out of the same types.

mod api;
mod http;
mod log;
mod openapi;

use std::net::SocketAddr;
use std::time::Duration;

pub use api::{Answer, Api};
pub use http::{Served, Server};
pub use openapi::document;

/// What a server allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Lists or pairs of one request.
    pub batch: usize,
    /// Entries of a history, and of exclusions.
    pub history: usize,
    /// Requests that are worked on or wait for it.
    pub concurrent: usize,
    /// Threads that work.
    pub workers: usize,
    /// Time for reading a request, and for the work on it.
    pub time: Duration,
    /// Time that requests in flight have after a stop was asked for.
    pub grace: Duration,
    /// Open connections.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            body: 1 << 20,
            batch: 1000,
            history: 10_000,
            concurrent: 16 * workers,
            workers,
            time: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            connections: 1024,
        }
    }
}

/// Where a server listens, unless something else is said: this machine alone.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
