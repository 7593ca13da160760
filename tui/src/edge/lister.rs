//! The one thread that lists recipes and runs. However often it is asked, it lists at most so often
//! that it takes a small share of a core.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::catalogue::{Places, Shelf, catalogue, names, recipes};
use crate::panes::runs::{Catalogue, RecipeEntry};

/// Rests this many times as long as finding the runs took, before the next list that nobody pressed
/// a key for.
const REST: u32 = 400;
/// The shortest and the longest rest.
const LEAST: Duration = Duration::from_secs(2);
const MOST: Duration = Duration::from_secs(60);
/// Runs that are read before what is known is shown for the first time, and how long until it is
/// shown again.
const PIECE: usize = 400;
const SHOW: Duration = Duration::from_secs(1);

/// Asks for a list.
struct Asked {
    places: Places,
    /// Somebody waits for it.
    now: bool,
}

/// The thread, and how to ask it.
pub struct Lister {
    ask: Sender<Asked>,
}

impl Lister {
    /// Starts the thread; each new list goes to `tell`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(tell: impl Fn(Catalogue) -> bool + Send + 'static) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        std::thread::Builder::new().name("runs".into()).spawn(move || work(&asked, tell))?;
        Ok(Self { ask })
    }

    /// Asks for the lists; without `now` only when the rest is over.
    pub fn ask(&self, places: Places, now: bool) {
        // The thread ends with the dashboard.
        let _ = self.ask.send(Asked { places, now });
    }
}

fn work(asked: &Receiver<Asked>, tell: impl Fn(Catalogue) -> bool) {
    let mut shelf = Shelf::default();
    let mut shown: Option<Catalogue> = None;
    let mut rest = (Instant::now(), Duration::ZERO);
    while let Ok(mut question) = asked.recv() {
        // What came meanwhile is one question.
        while let Ok(more) = asked.try_recv() {
            question = Asked { now: question.now || more.now, places: more.places };
        }
        let left = rest.1.saturating_sub(rest.0.elapsed());
        if !question.now && !left.is_zero() && shown.is_some() {
            continue;
        }
        if shown.is_none() {
            let runs = names(&question.places.runs);
            let many = Catalogue { runs, recipes: recipes(&question.places.recipes), root: "runs".into() };
            if many.runs.len() > PIECE && !tell(many) {
                return;
            }
        }
        let began = Instant::now();
        let now_ms = rallrec_events::now_ms();
        shelf.find(&question.places.runs);
        rest.1 = (began.elapsed() * REST).clamp(LEAST, MOST);
        let recipes: Vec<RecipeEntry> = recipes(&question.places.recipes);
        let mut tell_new = |shelf: &Shelf| {
            let now = catalogue(&question.places, shelf, &recipes);
            if shown.as_ref() == Some(&now) {
                return true;
            }
            shown = Some(now.clone());
            tell(now)
        };
        // The names first where reading them all takes a while.
        if shelf.runs().len() > PIECE && !tell_new(&shelf) {
            return;
        }
        let (mut more, mut told) = (true, None::<Instant>);
        while more {
            more = shelf.read(PIECE, now_ms);
            // The latest runs are read first; the others need not be shown piece by piece.
            if !more || told.is_none_or(|told| told.elapsed() >= SHOW) {
                told = Some(Instant::now());
                if !tell_new(&shelf) {
                    return;
                }
            }
        }
        rest.0 = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every question once started a thread of its own.
    #[test]
    fn a_list_that_has_not_changed_is_told_once() {
        let place = tempfile::tempdir().unwrap();
        let (send, told) = mpsc::channel();
        let lister = Lister::start(move |catalogue| send.send(catalogue).is_ok()).unwrap();
        let places = Places { recipes: Vec::new(), runs: vec![place.path().to_path_buf()] };
        for _ in 0..50 {
            lister.ask(places.clone(), true);
        }
        assert!(told.recv_timeout(Duration::from_secs(20)).is_ok());
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "nothing has changed");
    }
}
