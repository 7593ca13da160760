//! Everything that touches files and processes. Threads here send messages and are told what to do
//! by effects; they never see the state.

pub mod catalogue;
pub mod compare;
pub mod engine;
pub mod follow;
mod former;
mod lister;

use std::collections::HashMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{SystemTime, UNIX_EPOCH};

use rallrec_events::RunFolder;
use rallrec_events::scatter::Scatter;

use crate::message::{Effect, Message, RunId, RunNews};
use crate::panes::runs::{Effect as RunsEffect, News, Start};
use catalogue::Places;
use lister::Lister;

/// Carries out effects.
pub struct Edge {
    program: PathBuf,
    prefs: Option<PathBuf>,
    places: Places,
    send: SyncSender<Message>,
    lister: Lister,
    starts: Sender<(Start, Vec<PathBuf>)>,
    followed: HashMap<RunId, Arc<AtomicBool>>,
}

impl Edge {
    /// `program` is the engine's own binary, `prefs` where the layout is remembered.
    ///
    /// # Errors
    /// The threads that list and start runs cannot be started.
    pub fn new(
        program: PathBuf,
        prefs: Option<PathBuf>,
        places: Places,
        send: SyncSender<Message>,
    ) -> io::Result<Self> {
        let to_loop = send.clone();
        let lister = Lister::start(move |c| to_loop.send(Message::Runs(News::Catalogue(c))).is_ok())?;
        let (starts, asked) = mpsc::channel();
        let (to_loop, engine) = (send.clone(), program.clone());
        std::thread::Builder::new().name("starts".into()).spawn(move || start(&engine, &asked, &to_loop))?;
        Ok(Self { program, prefs, places, send, lister, starts, followed: HashMap::new() })
    }

    /// Carries out one effect that does not concern the terminal.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Save(prefs) => {
                if let Some(path) = &self.prefs
                    && let Err(e) = prefs.write(path)
                {
                    self.tell(Message::Done(Err(format!("the layout cannot be remembered: {}: {e}", path.display()))));
                }
            }
            Effect::Control { folder, word } => {
                if let Err(e) = RunFolder::new(&folder).ask(word) {
                    let text = format!("{}: the word '{}' cannot be written: {e}", folder.display(), word.as_str());
                    self.tell(Message::Done(Err(text)));
                }
            }
            Effect::Follow(id, folder) => {
                self.places.add(&folder);
                let stop = Arc::new(AtomicBool::new(false));
                self.followed.insert(id, Arc::clone(&stop));
                let send = self.send.clone();
                self.spawn("follow", move || follow::follow(id, &folder, &stop, &send));
            }
            Effect::Unfollow(id) => {
                if let Some(stop) = self.followed.remove(&id) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Effect::ReadScatter(id, folder) => {
                let send = self.send.clone();
                self.spawn("scatter", move || {
                    let read = Scatter::read(&folder).map(|s| s.map(Box::new)).map_err(|e| e.to_string());
                    // The loop has ended when nobody listens; then nothing is left to do.
                    let _ = send.send(Message::Run(id, RunNews::Scatter(read)));
                });
            }
            Effect::Measure { operator, check } => {
                let (send, program) = (self.send.clone(), self.program.clone());
                self.spawn("measure", move || {
                    let outcome = engine::measure(&program, &operator, check);
                    let _ = send.send(Message::Measured { operator, check, outcome });
                });
            }
            Effect::Ledger { operator, mut lines } => {
                let (send, program) = (self.send.clone(), self.program.clone());
                self.spawn("ledger", move || {
                    lines.push(String::new());
                    match engine::kernels(&program, &operator) {
                        Ok(more) => lines.extend(more),
                        Err(why) => lines.extend(why.lines().map(str::to_string)),
                    }
                    // The loop has ended when nobody listens; then nothing is left to do.
                    let _ = send.send(Message::Runs(News::Text { title: operator, outcome: Ok(lines) }));
                });
            }
            Effect::Runs(effect) => self.perform_runs(effect),
            Effect::Quit(_) | Effect::Suspend | Effect::Redraw | Effect::Terminal(_) => {}
        }
    }

    fn perform_runs(&mut self, effect: RunsEffect) {
        if matches!(effect, RunsEffect::List | RunsEffect::ListNow) {
            return self.lister.ask(self.places.clone(), effect == RunsEffect::ListNow);
        }
        if let RunsEffect::Start(start) = effect {
            // The thread ends with the dashboard.
            let _ = self.starts.send((start, self.places.runs.clone()));
            return;
        }
        let (send, program) = (self.send.clone(), self.program.clone());
        self.spawn("runs", move || {
            let news = match effect {
                RunsEffect::List | RunsEffect::ListNow | RunsEffect::Start(_) => return,
                RunsEffect::Load { source, sets } => {
                    let outcome = engine::load(&program, &source, &sets);
                    News::Recipe { source, sets, outcome }
                }
                RunsEffect::Compare(folders) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
                    News::Text {
                        title: "Comparison".into(),
                        outcome: Ok(compare::with_results(&program, &folders, now)),
                    }
                }
                RunsEffect::Delete(folder) => {
                    let done = RunFolder::new(&folder).delete();
                    let said = match done {
                        Ok(()) => Ok(format!("{} is deleted", folder.display())),
                        Err(e) => Err(e.to_string()),
                    };
                    let _ = send.send(Message::Done(said));
                    News::Changed
                }
                RunsEffect::Unqueue(folder) => {
                    let said = match engine::unqueue(&folder) {
                        Ok(()) => Ok(format!("{} will not start", folder.display())),
                        Err(e) => Err(format!("{}: {e}", folder.display())),
                    };
                    let _ = send.send(Message::Done(said));
                    News::Changed
                }
            };
            let _ = send.send(Message::Runs(news));
        });
    }

    fn tell(&self, message: Message) {
        let send = self.send.clone();
        // Never from the loop's own thread: the channel is bounded and the loop is its only reader.
        self.spawn("tell", move || {
            let _ = send.send(message);
        });
    }

    fn spawn(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        let send = self.send.clone();
        let work = move || {
            // Nothing is shared with the rest but the channel, which a panic leaves whole.
            if panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                let text = format!("a thread of this dashboard failed ({name}): its words are in pane 8");
                let _ = send.send(Message::Done(Err(text)));
            }
        };
        // Without another thread the one thing asked for does not happen; the screen goes on.
        let _ = std::thread::Builder::new().name(name.into()).spawn(work);
    }
}

/// Starts runs one after the other: each has its lock, or its place in the queue, before the next
/// one looks for those before it.
fn start(program: &Path, asked: &Receiver<(Start, Vec<PathBuf>)>, send: &SyncSender<Message>) {
    while let Ok((start, places)) = asked.recv() {
        let outcome = engine::launch(program, &engine::arguments(&start, &places), &start.out);
        let news = News::Started { out: start.out, queued: start.queued, outcome };
        if send.send(Message::Runs(news)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_panics_is_told_of() {
        let (send, receive) = std::sync::mpsc::sync_channel(4);
        let edge = Edge::new(PathBuf::new(), None, Places::default(), send).unwrap();
        edge.spawn("test", || panic!("on purpose, in a test"));
        match receive.recv_timeout(std::time::Duration::from_secs(20)) {
            Ok(Message::Done(Err(text))) => assert!(text.contains("(test)"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
