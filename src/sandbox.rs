//! Code of other people's files, run with limits: templates that come with models or stand in
//! recipes. Such code may loop for ever, or double a text until the memory is gone.
//!
//! The work runs on a thread of its own whose allocations are counted. Where it goes beyond its
//! memory or its time, the thread stands still for good, which costs what it holds, and the caller
//! gets an error. Counting needs the global allocator, which costs other threads one comparison an
//! allocation.
//!
//! The same allocator says in words that the machine has no more memory, where Rust would abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// Instructions of a template; a conversation of a thousand turns needs about half.
pub const FUEL: u64 = 200_000;
/// Bytes that the work may hold beside eight times its input.
const MEMORY: usize = 64 << 20;
/// The caller looks this often.
const SLICE: Duration = Duration::from_millis(50);
/// Processor time that the work may take. A busy machine, or a program that was stopped and goes
/// on, takes none of it.
const PROCESSOR: Duration = Duration::from_millis(1200);
/// Looks until work that does not even compute is given up: a minute. Where a system does not tell
/// a thread's processor time, looks are all that is counted, and [`PROCESSOR`] is the limit.
const LOOKS: u32 = 1200;
/// A nested value is written, and dropped, by recursion. Pages are taken when they are touched.
const STACK: usize = 64 << 20;

/// Why the work did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It wanted more memory than it may have, in bytes.
    Memory(usize),
    /// It took too long.
    Time,
    /// It panicked, with these words.
    Panic(String),
    /// No thread could be had for it.
    Thread(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "wants more than {} MiB of memory", bytes >> 20),
            Self::Time => write!(f, "did not end within {} ms of processor time", PROCESSOR.as_millis()),
            Self::Panic(what) => write!(f, "panicked: {what}"),
            Self::Thread(what) => write!(f, "no thread could be started for it: {what}"),
        }
    }
}

thread_local! {
    /// Bytes that this thread may still take; the largest number where nothing is counted.
    static ROOM: Cell<isize> = const { Cell::new(isize::MAX) };
    /// Set when the room is gone. The thread itself keeps the value alive.
    static SPILLED: Cell<*const AtomicBool> = const { Cell::new(std::ptr::null()) };
    /// Panics of this thread are somebody's result, and no message.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes `size` bytes of the thread's room, or never returns.
#[inline]
fn take(size: usize) {
    let room = ROOM.get();
    if room == isize::MAX {
        return;
    }
    let left = room.saturating_sub_unsigned(size);
    if left >= 0 {
        ROOM.set(left);
        return;
    }
    // An allocator must not unwind, and null would end the program: so the thread stands still.
    // SAFETY: `SPILLED` is null or points into an `Arc` that a frame below this one holds.
    if let Some(spilled) = unsafe { SPILLED.get().as_ref() } {
        spilled.store(true, Ordering::Release);
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[inline]
fn give_back(size: usize) {
    let room = ROOM.get();
    if room != isize::MAX {
        ROOM.set(room.saturating_add_unsigned(size).min(isize::MAX - 1));
    }
}

/// The block, where there is one. Else the process ends with a message and the code of a failure:
/// sizes are the user's, finished work is on the disk, and nothing can go on without memory.
#[inline]
fn had(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        no_memory(size);
    }
    block
}

#[cold]
fn no_memory(size: usize) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    thread_local! {
        static ENDING: Cell<bool> = const { Cell::new(false) };
    }
    if ENDING.replace(true) {
        // Even ending takes memory that is not there.
        std::process::abort();
    }
    if SAID.swap(true, Ordering::SeqCst) {
        // Another thread ends the process.
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    let mut text = [0u8; 512];
    let mut rest = &mut text[..];
    // What does not fit into the buffer, or cannot be written, is lost with the process.
    let _ = write!(
        rest,
        "rallrec: memory: {} MiB more cannot be had\n  next: allow the process more memory (a container's limit, ulimit \
         -v), or ask for less: fewer threads, a smaller batch, dim or max_tokens, a smaller model; finished work is kept\n",
        size.div_ceil(1 << 20)
    );
    let left = rest.len();
    let _ = std::io::stderr().write_all(&text[..512 - left]);
    std::process::exit(1)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's.
        had(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's.
        had(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give_back(layout.size());
        // SAFETY: the caller's.
        had(unsafe { System.realloc(block, layout, size) }, size)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that waits for work.
struct Worker {
    jobs: Sender<Job>,
    spilled: Arc<AtomicBool>,
    clock: Clock,
}

/// The clock of a thread's processor time.
#[derive(Clone, Copy)]
struct Clock(#[cfg(target_os = "linux")] libc::clockid_t);

impl Clock {
    /// That of the calling thread.
    #[cfg(target_os = "linux")]
    fn of_this_thread() -> Option<Self> {
        let mut clock = 0;
        // SAFETY: the thread is there, and so is the place that is written.
        (unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0).then_some(Self(clock))
    }

    #[cfg(target_os = "linux")]
    fn read(self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the place is there; a clock whose thread has ended is an error.
        let said = unsafe { libc::clock_gettime(self.0, &raw mut time) } == 0;
        said.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    #[cfg(not(target_os = "linux"))]
    fn of_this_thread() -> Option<Self> {
        Some(Self())
    }

    #[cfg(not(target_os = "linux"))]
    fn read(self) -> Option<Duration> {
        None
    }
}

static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

impl Worker {
    fn start() -> Result<Self, Broken> {
        let (jobs, work): (Sender<Job>, Receiver<Job>) = channel();
        let spilled = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&spilled);
        let (tell, told) = channel();
        let run = move || {
            SPILLED.set(Arc::as_ptr(&held));
            // Whoever started this waits for it.
            let _ = tell.send(Clock::of_this_thread());
            work.iter().for_each(|job| job());
        };
        let thread = std::thread::Builder::new().name("sandbox".into()).stack_size(STACK);
        thread.spawn(run).map_err(|e| Broken::Thread(e.to_string()))?;
        let clock = told.recv().ok().flatten().ok_or_else(|| Broken::Thread("it has no clock".into()))?;
        Ok(Self { jobs, spilled, clock })
    }
}

/// Runs `work`, which may hold 64 MiB beside eight times `input` bytes, for 1.2 s of
/// processor time at most.
///
/// # Errors
/// It went beyond its limits, or panicked.
pub fn limited<T: Send + 'static>(input: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Broken> {
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = MEMORY.saturating_add(input.saturating_mul(8)).min(isize::MAX as usize - 1);
    let taken = idle().pop();
    let worker = match taken {
        Some(worker) => worker,
        None => Worker::start()?,
    };
    let (say, done) = channel();
    let job = move || {
        ROOM.set(memory as isize);
        let result = quietly(work);
        ROOM.set(isize::MAX);
        // Nobody listens any more where the time was up.
        let _ = say.send(result);
    };
    let began = worker.clock.read();
    if worker.jobs.send(Box::new(job)).is_err() {
        return Err(Broken::Thread("it ended".into()));
    }
    for look in 1..=LOOKS {
        match done.recv_timeout(SLICE) {
            Ok(result) => {
                idle().push(worker);
                return result.map_err(Broken::Panic);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Broken::Panic("it is gone".into())),
            Err(RecvTimeoutError::Timeout) if worker.spilled.load(Ordering::Acquire) => {
                return Err(Broken::Memory(memory));
            }
            Err(RecvTimeoutError::Timeout) => {
                let taken =
                    worker.clock.read().zip(began).map_or(SLICE * look, |(now, began)| now.saturating_sub(began));
                if taken >= PROCESSOR {
                    break;
                }
            }
        }
    }
    Err(Broken::Time)
}

/// Runs `work`. A panic is its result, and prints nothing.
///
/// # Errors
/// The words of a panic.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    QUIET.set(outer);
    result.map_err(|words| {
        let text = words.downcast_ref::<String>().map(String::as_str).or(words.downcast_ref::<&str>().copied());
        text.unwrap_or("without a word").lines().next().unwrap_or_default().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_that_stays_within_its_limits_is_done() {
        let threads: Vec<_> = (0..8).map(|n| std::thread::spawn(move || limited(0, move || n * 2))).collect();
        for (n, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), Ok(n * 2));
        }
        // What is freed may be taken again.
        let again = limited(0, || (0..8).map(|_| vec![1u8; 32 << 20].len()).sum::<usize>());
        assert_eq!(again, Ok(8 * (32 << 20)));
    }

    /// Computes for so long by the clock of its own thread.
    fn compute(time: Duration) {
        let clock = Clock::of_this_thread().unwrap();
        let now = || clock.read().unwrap_or_default();
        let began = now();
        while now() - began < time {
            std::hint::spin_loop();
        }
    }

    /// Such work was refused, and its template with it, while other programs had the processors.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_busy_machine_takes_nothing_of_the_time() {
        let wait_and_compute = || {
            std::thread::sleep(PROCESSOR + 4 * SLICE);
            compute(PROCESSOR / 4);
        };
        assert_eq!(limited(0, wait_and_compute), Ok(()));
    }

    #[test]
    fn too_much_memory_and_too_much_time_are_errors_and_the_next_work_is_done() {
        let began = Instant::now();
        let bytes = (1usize << 40).min(isize::MAX as usize);
        assert_eq!(limited(0, move || vec![1u8; bytes].len()), Err(Broken::Memory(MEMORY)));
        let grown = limited(1 << 20, || {
            let mut text = "a".to_owned();
            for _ in 0..40 {
                text = text.repeat(2);
            }
            text.len()
        });
        assert_eq!(grown, Err(Broken::Memory(MEMORY + (8 << 20))));
        assert!(began.elapsed() < SLICE * LOOKS, "memory is noticed before the time is up");
        assert_eq!(limited(0, || compute(2 * PROCESSOR)), Err(Broken::Time));
        assert_eq!(limited(0, || panic!("these {}", "words")), Err::<(), _>(Broken::Panic("these words".into())));
        assert_eq!(limited(0, || 1), Ok(1));
    }
}
