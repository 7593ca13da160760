//! Downloads over HTTP that can be cut short and go on: the bytes so far lie in `NAME.part` until
//! all are there and right.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};

use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// How often a connection that breaks is made again, as long as each try brings something.
const TRIES: usize = 3;
/// How long to wait for a connection, and for each piece of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest file that is accepted when nobody knows its size: 200 GiB.
const LARGEST: u64 = 200 << 30;

/// What the file must be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Its bytes.
    pub bytes: Option<u64>,
    /// Its MD5, in lower-case hex.
    pub md5: Option<String>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fetched {
    /// Where it lies.
    pub path: PathBuf,
    /// Where it came from.
    pub url: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its MD5.
    pub md5: String,
    /// Bytes that were there from an earlier try; all of them when nothing had to be fetched.
    pub resumed_at: u64,
}

/// Fetches `url` into the file `to`, unless it is there and right.
///
/// # Errors
/// No network, an answer that is not the file, another size or hash than expected. What was fetched
/// so far stays, so the same call goes on with it, unless it was complete and wrong.
pub fn fetch(url: &str, to: &Path, expected: &Expected, monitor: &dyn Monitor) -> Result<Fetched> {
    fetch_as(None, url, to, expected, monitor)
}

/// [`fetch`] by somebody: `token` goes to the server of `url`, and to no other that it sends us to.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_as(
    token: Option<&str>,
    url: &str,
    to: &Path,
    expected: &Expected,
    monitor: &dyn Monitor,
) -> Result<Fetched> {
    if to.exists() {
        let bytes = size(to)?;
        let md5 = md5_of(to, monitor)?;
        check(to, bytes, &md5, expected).map_err(|e| e.next(format!("remove {} and pull again", to.display())))?;
        return Ok(Fetched { path: to.to_owned(), url: url.into(), bytes, md5, resumed_at: bytes });
    }
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create the folder", &e))?;
    let part = Part::new(to);
    let resumed_at = part.bytes();
    let mut tries = 0;
    loop {
        let before = part.bytes();
        match part.go_on(token, url, expected, monitor) {
            Ok(()) => break,
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Again(error)) => {
                tries = if part.bytes() > before { 0 } else { tries + 1 };
                if tries >= TRIES.min(if before == 0 { 1 } else { TRIES }) {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(200 << tries));
            }
        }
        monitor.check()?;
    }
    let (bytes, md5) = (part.bytes(), md5_of(&part.path, monitor)?);
    if let Err(error) = check(to, bytes, &md5, expected) {
        part.remove();
        return Err(error);
    }
    fs::rename(&part.path, to).map_err(|e| Error::io(to, "rename the finished download", &e))?;
    part.remove();
    Ok(Fetched { path: to.to_owned(), url: url.into(), bytes, md5, resumed_at })
}

/// Whether the server has something at `url`; it has `within` to say so, a name's look-up and all.
///
/// # Errors
/// No answer in time, or one that is neither yes nor no.
pub fn is_there(url: &str, token: Option<&str>, within: Duration) -> Result<bool> {
    let mut request = agent().head(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let answer = request.config().timeout_global(Some(within)).build().call().map_err(|e| unreachable(url, &e))?;
    match answer.status().as_u16() {
        200..=299 => Ok(true),
        404 | 410 => Ok(false),
        status => Err(refused(url, status)),
    }
}

/// A small text from `url`, at most 64 KiB.
pub fn text(url: &str) -> Result<String> {
    let answer = agent().get(url).call().map_err(|e| unreachable(url, &e))?;
    if answer.status() != 200 {
        return Err(refused(url, answer.status().as_u16()));
    }
    let mut text = String::new();
    let read = answer.into_body().into_reader().take(1 << 16).read_to_string(&mut text);
    read.map_err(|e| Error::failed(url, format!("cannot be read: {e}")).next("try again"))?;
    Ok(text)
}

enum Trouble {
    Final(Error),
    Again(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A download under way.
struct Part {
    path: PathBuf,
    /// Holds what tells one version of the file at the server from another.
    tag: PathBuf,
}

impl Part {
    fn new(to: &Path) -> Self {
        let with = |end: &str| {
            let mut name = to.file_name().unwrap_or_default().to_os_string();
            name.push(end);
            to.with_file_name(name)
        };
        Self { path: with(".part"), tag: with(".part.tag") }
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    fn remove(&self) {
        // What is not there need not be removed.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.tag);
    }

    fn go_on(&self, token: Option<&str>, url: &str, expected: &Expected, monitor: &dyn Monitor) -> Result<(), Trouble> {
        let start = self.bytes();
        let tag = fs::read_to_string(&self.tag).unwrap_or_default();
        let mut request = agent().get(url).header("Accept-Encoding", "identity");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 && !tag.is_empty() {
            request = request.header("Range", format!("bytes={start}-")).header("If-Range", tag.trim());
        }
        let answer = request.call().map_err(|e| Trouble::Again(unreachable(url, &e)))?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let range = header("content-range").and_then(|r| {
            let (from, rest) = r.strip_prefix("bytes ")?.split_once('-')?;
            let total = rest.split_once('/')?.1;
            Some((from.parse::<u64>().ok()?, total.parse::<u64>().ok()))
        });
        let (from, total) = match (answer.status().as_u16(), range) {
            (200, _) => (0, header("content-length").and_then(|l| l.parse().ok())),
            (206, Some((from, total))) if from == start => (from, total),
            (416, _) => {
                // The part is longer than the file, or exactly it; which of the two, the next try
                // from the start tells.
                self.remove();
                let error = Error::failed(url, "the server has no more bytes than are there")
                    .next("run the same command again");
                return Err(Trouble::Again(error));
            }
            (206, _) => {
                self.remove();
                let error = Error::failed(url, "the server sent another part than was asked for")
                    .next("run the same command again");
                return Err(Trouble::Again(error));
            }
            (status @ (429 | 500..=599), _) => return Err(Trouble::Again(refused(url, status))),
            (status, _) => return Err(Trouble::Final(refused(url, status))),
        };
        if let (Some(total), Some(bytes)) = (total, expected.bytes)
            && total != bytes
        {
            let what = format!("the server has {total} bytes, expected are {bytes}");
            let next = "this is another version of the file: do not use it; look at the publisher's page";
            return Err(Trouble::Final(Error::input(url, what).next(next)));
        }
        if let Some(tag) = header("etag").filter(|t| !t.starts_with("W/")).or_else(|| header("last-modified")) {
            fs::write(&self.tag, tag).map_err(|e| Error::io(&self.tag, "write", &e))?;
        }
        let io = |e: &std::io::Error| Error::io(&self.path, "write the download", e);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(|e| io(&e))?;
        if from == 0 {
            file.set_len(0).map_err(|e| io(&e))?;
        }
        let most = expected.bytes.or(total).unwrap_or(LARGEST);
        let mut at = from;
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) => {
                    let what = format!("the connection broke after {at} bytes: {e}");
                    return Err(Trouble::Again(
                        Error::failed(url, what).next("run the same command again: it goes on there"),
                    ));
                }
            };
            at += count as u64;
            if at > most {
                self.remove();
                let what = format!("the server sends more than {most} bytes");
                return Err(Trouble::Final(Error::input(url, what).next("look at the publisher's page")));
            }
            file.write_all(&buffer[..count]).map_err(|e| io(&e))?;
            monitor.progress(at, total.unwrap_or(most), "bytes");
            monitor.check()?;
        }
        file.sync_all().map_err(|e| io(&e))?;
        match total {
            Some(total) if at < total => {
                let what = format!("the connection broke after {at} of {total} bytes");
                Err(Trouble::Again(Error::failed(url, what).next("run the same command again: it goes on there")))
            }
            _ => Ok(()),
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .http_status_as_error(false)
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .user_agent(concat!("rallrec/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn unreachable(url: &str, error: &ureq::Error) -> Error {
    Error::failed(url, format!("cannot be reached: {error}")).next(
        "check the network (a proxy is taken from HTTPS_PROXY), or fetch the file on another machine and put it into the folder under its own name",
    )
}

fn refused(url: &str, status: u16) -> Error {
    Error::failed(url, format!("the server answers {status}"))
        .next("try again later; when it stays so, look at the publisher's page for a new address")
}

fn size(path: &Path) -> Result<u64> {
    fs::metadata(path).map(|m| m.len()).map_err(|e| Error::io(path, "read", &e))
}

fn md5_of(path: &Path, monitor: &dyn Monitor) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io(path, "read", &e))?;
    let (mut hasher, mut buffer) = (Md5::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).map_err(|e| Error::io(path, "read", &e))?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..count]);
        monitor.check()?;
    }
}

fn check(path: &Path, bytes: u64, md5: &str, expected: &Expected) -> Result<()> {
    let bad = |what: String| {
        Err(Error::input(path.display(), what)
            .next("the download was damaged or the file has changed: pull again; if it stays so, do not use it"))
    };
    match expected {
        Expected { bytes: Some(wanted), .. } if *wanted != bytes => {
            bad(format!("has {bytes} bytes, expected are {wanted}"))
        }
        Expected { md5: Some(wanted), .. } if wanted != md5 => bad(format!("has MD5 {md5}, expected is {wanted}")),
        _ => Ok(()),
    }
}
