//! Where do access log lines go, and what happens when the disk is slower than the traffic?
//!
//! Holds: a worker copies a finished line into its sink's buffer and never waits for a file; one writer thread empties
//! the buffers every second, or as soon as one holds 64 KiB (Envoy's numbers). A buffer that is full drops the line and
//! counts it. The lock around a buffer is held for one copy or one swap, never across a system call; a channel would
//! cost a wake-up of the writer for each line. Files are opened for appending, parents are not made, and
//! [`LogSinks::reopen`] serves rotation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use remora_model::Name;
use remora_model::listener::{Listener, Terminal};
use remora_model::log::{AccessLog, LogSink};
use remora_model::snapshot::Snapshot;

/// A buffer is written out when it holds this much, or after [`FLUSH_INTERVAL`].
const FLUSH_BYTES: usize = 64 << 10;
/// Most that one sink may hold back.
const MAX_BUFFERED: usize = 4 << 20;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// An access log that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to open file '{path}': {reason}{}", .listener.as_ref().map(|name| format!(" (access log of listener {name})")).unwrap_or_default())]
pub struct SinkError {
    /// The file.
    pub path: Name,
    /// The system's words.
    pub reason: String,
    /// The listener that wants it, where known.
    pub listener: Option<Name>,
}

/// What happened to lines, under Envoy's names (`filesystem.*`), and the lines that were lost.
#[derive(Debug, Default)]
pub struct SinkCounts {
    /// Lines put into buffers.
    pub write_buffered: AtomicU64,
    /// Writes to files.
    pub write_completed: AtomicU64,
    /// Writes that failed.
    pub write_failed: AtomicU64,
    /// Writes because the interval was over.
    pub flushed_by_timer: AtomicU64,
    /// Files that could not be opened again.
    pub reopen_failed: AtomicU64,
    /// Lines dropped: the buffer was full or the sink is not open. Ours, not Envoy's.
    pub lines_dropped: AtomicU64,
}

/// All sinks of this process.
#[derive(Debug, Default)]
pub struct LogSinks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sinks: Mutex<HashMap<LogSink, Arc<Sink>>>,
    /// Counts changes of `sinks`, so that workers know when to look again.
    version: AtomicU64,
    wake: Wake,
    counts: SinkCounts,
    running: AtomicBool,
}

/// Tells the writer that there is something to do now.
#[derive(Debug, Default)]
struct Wake {
    orders: Mutex<Orders>,
    changed: Condvar,
    /// Flushes that are finished.
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    full: bool,
    reopen: bool,
    stop: bool,
    flush_wanted: u64,
    flush_done: u64,
}

/// One file or stream.
#[derive(Debug)]
struct Sink {
    buffer: Mutex<Vec<u8>>,
    target: Mutex<Target>,
}

#[derive(Debug)]
enum Target {
    File(Name, File),
    Stdout,
    Stderr,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    fn open(sink: &LogSink) -> Result<Self, SinkError> {
        match sink {
            LogSink::Stdout => Ok(Self::Stdout),
            LogSink::Stderr => Ok(Self::Stderr),
            LogSink::File(path) => match &**path {
                "/dev/stdout" => Ok(Self::Stdout),
                "/dev/stderr" => Ok(Self::Stderr),
                _ => Ok(Self::File(Arc::clone(path), append(path)?)),
            },
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(_, file) => file.write_all(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

fn append(path: &Name) -> Result<File, SinkError> {
    File::options()
        .append(true)
        .create(true)
        .open(&**path)
        .map_err(|error| SinkError {
            path: Arc::clone(path),
            reason: error.to_string(),
            listener: None,
        })
}

/// The sinks that a thread used, and what table and version of it they are from.
type Cache = (u64, Vec<(LogSink, Arc<Sink>)>);

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new((0, Vec::new())) };
}

/// Whether both name the same sink; the same name is mostly the same allocation.
fn same(a: &LogSink, b: &LogSink) -> bool {
    match (a, b) {
        (LogSink::File(a), LogSink::File(b)) => Arc::ptr_eq(a, b) || a == b,
        (a, b) => a == b,
    }
}

impl LogSinks {
    /// Opens one sink, so that a listener that wants it can be refused; a sink that is open stays as it is.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(&self, sink: &LogSink) -> Result<(), SinkError> {
        let mut sinks = locked(&self.shared.sinks);
        if !sinks.contains_key(sink) {
            let target = Target::open(sink)?;
            sinks.insert(
                sink.clone(),
                Arc::new(Sink {
                    buffer: Mutex::default(),
                    target: Mutex::new(target),
                }),
            );
            self.shared.version.fetch_add(1, Ordering::Release);
            drop(sinks);
            self.start_writer();
        }
        Ok(())
    }

    /// Opens what the listeners of this version write to and closes what nobody writes to any more. Returns what could
    /// not be opened; lines for it are dropped and counted until a later call succeeds.
    pub fn follow(&self, snapshot: &Snapshot) -> Vec<SinkError> {
        let mut errors: Vec<SinkError> = Vec::new();
        let mut wanted: Vec<&LogSink> = Vec::new();
        for listener in snapshot.listeners.iter() {
            for log in logs_of(listener) {
                if wanted.iter().any(|sink| same(sink, &log.sink)) {
                    continue;
                }
                wanted.push(&log.sink);
                if let Err(error) = self.open(&log.sink) {
                    errors.push(SinkError {
                        listener: Some(Arc::clone(&listener.name)),
                        ..error
                    });
                }
            }
        }
        let mut sinks = locked(&self.shared.sinks);
        let before = sinks.len();
        sinks.retain(|sink, entry| {
            let keep = wanted.iter().any(|candidate| same(candidate, sink));
            if !keep {
                self.shared.empty(entry);
            }
            keep
        });
        if sinks.len() != before {
            self.shared.version.fetch_add(1, Ordering::Release);
        }
        errors
    }

    /// Gives a finished line to its sink.
    pub fn write(&self, sink: &LogSink, line: &[u8]) {
        let counts = &self.shared.counts;
        let Some(entry) = self.cached(sink) else {
            counts.lines_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut buffer = locked(&entry.buffer);
        if buffer.len() + line.len() > MAX_BUFFERED {
            counts.lines_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = buffer.len();
        buffer.extend_from_slice(line);
        let filled = before < FLUSH_BYTES && buffer.len() >= FLUSH_BYTES;
        drop(buffer);
        counts.write_buffered.fetch_add(1, Ordering::Relaxed);
        if filled {
            locked(&self.shared.wake.orders).full = true;
            self.shared.wake.changed.notify_one();
        }
    }

    /// Has every file opened again (SIGUSR1, `/reopen_logs`), so that a rotated one can be let go.
    pub fn reopen(&self) {
        locked(&self.shared.wake.orders).reopen = true;
        self.shared.wake.changed.notify_one();
    }

    /// Waits until every line given so far is handed to the system, or `limit` is over. False: it was over.
    pub fn flush(&self, limit: Duration) -> bool {
        if !self.shared.running.load(Ordering::Acquire) {
            return true;
        }
        let mut orders = locked(&self.shared.wake.orders);
        orders.flush_wanted += 1;
        let mine = orders.flush_wanted;
        self.shared.wake.changed.notify_one();
        let waited = self
            .shared
            .wake
            .flushed
            .wait_timeout_while(orders, limit, |orders| orders.flush_done < mine);
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        orders.flush_done >= mine
    }

    /// What happened to lines.
    pub fn counts(&self) -> &SinkCounts {
        &self.shared.counts
    }

    fn cached(&self, sink: &LogSink) -> Option<Arc<Sink>> {
        let version = self.shared.version.load(Ordering::Acquire);
        CACHE.with_borrow_mut(|(of, known)| {
            // The address tells this table from another one of the same process (tests run several).
            let stamp = version.wrapping_add((Arc::as_ptr(&self.shared) as u64).rotate_left(32));
            if *of != stamp {
                *of = stamp;
                known.clear();
            }
            if let Some((_, entry)) = known.iter().find(|(candidate, _)| same(candidate, sink)) {
                return Some(Arc::clone(entry));
            }
            let entry = locked(&self.shared.sinks).get(sink).map(Arc::clone)?;
            known.push((sink.clone(), Arc::clone(&entry)));
            Some(entry)
        })
    }

    fn start_writer(&self) {
        if self.shared.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let thread = thread::Builder::new().name("access-log".into());
        if let Err(error) = thread.spawn(move || write_out(&shared)) {
            self.shared.running.store(false, Ordering::Release);
            tracing::error!(%error, "no thread for access logs; their lines will be dropped");
        }
    }
}

impl Drop for LogSinks {
    fn drop(&mut self) {
        self.flush(Duration::from_secs(2));
        locked(&self.shared.wake.orders).stop = true;
        self.shared.wake.changed.notify_one();
    }
}

/// Every access log of a listener, its chains' included.
fn logs_of(listener: &Listener) -> impl Iterator<Item = &AccessLog> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    listener
        .access_logs
        .iter()
        .chain(chains.flat_map(|chain| match &chain.terminal {
            Terminal::Http(manager) => manager.access_logs.iter(),
            Terminal::Tcp(proxy) => proxy.access_logs.iter(),
            Terminal::Close => [].iter(),
        }))
}

/// The writer thread.
fn write_out(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let orders = locked(&shared.wake.orders);
        let idle = |orders: &mut Orders| {
            !(orders.full || orders.reopen || orders.stop || orders.flush_wanted > orders.flush_done)
        };
        let waited = shared
            .wake
            .changed
            .wait_timeout_while(orders, FLUSH_INTERVAL, idle);
        let (mut orders, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let (reopen, stop, flush) = (
            std::mem::take(&mut orders.reopen),
            orders.stop,
            orders.flush_wanted,
        );
        orders.full = false;
        drop(orders);
        shared.empty_all(timeout.timed_out());
        if reopen {
            shared.reopen_all();
        }
        locked(&shared.wake.orders).flush_done = flush;
        shared.wake.flushed.notify_all();
        if stop {
            return;
        }
    }
}

impl Shared {
    fn empty_all(&self, by_timer: bool) {
        let sinks: Vec<Arc<Sink>> = locked(&self.sinks).values().map(Arc::clone).collect();
        for sink in sinks {
            if self.empty(&sink) && by_timer {
                self.counts.flushed_by_timer.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes out what a sink holds; false: nothing.
    fn empty(&self, sink: &Sink) -> bool {
        let mut target = locked(&sink.target);
        let bytes = std::mem::take(&mut *locked(&sink.buffer));
        if bytes.is_empty() {
            return false;
        }
        match target.write(&bytes) {
            Ok(()) => self.counts.write_completed.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counts.write_failed.fetch_add(1, Ordering::Relaxed),
        };
        true
    }

    fn reopen_all(&self) {
        let sinks: Vec<Arc<Sink>> = locked(&self.sinks).values().map(Arc::clone).collect();
        for sink in sinks {
            let mut target = locked(&sink.target);
            let Target::File(path, file) = &mut *target else {
                continue;
            };
            match append(path) {
                Ok(newer) => *file = newer,
                Err(error) => {
                    self.counts.reopen_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "access log keeps its old file");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &std::path::Path) -> LogSink {
        LogSink::File(Arc::from(path.to_str().unwrap()))
    }

    #[test]
    fn lines_arrive_in_order_and_a_rotated_file_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let (sinks, sink) = (LogSinks::default(), file(&path));
        sinks.open(&sink).unwrap();
        sinks.write(&sink, b"one\n");
        sinks.write(&sink, b"two\n");
        assert!(sinks.flush(Duration::from_secs(10)));
        std::fs::rename(&path, &rotated).unwrap();
        sinks.reopen();
        assert!(sinks.flush(Duration::from_secs(10)));
        sinks.write(&sink, b"three\n");
        assert!(sinks.flush(Duration::from_secs(10)));
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_and_its_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (sinks, sink) = (LogSinks::default(), file(&folder.path().join("missing/a.log")));
        let error = sinks.open(&sink).unwrap_err();
        assert!(error.to_string().contains("missing/a.log"), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
        sinks.write(&sink, b"lost\n");
        assert_eq!(sinks.counts().lines_dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_buffer_drops_the_line_and_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        let (sinks, sink) = (LogSinks::default(), file(&folder.path().join("a.log")));
        sinks.open(&sink).unwrap();
        let entry = sinks.cached(&sink).unwrap();
        let blocked = locked(&entry.target);
        let line = vec![b'x'; 1 << 20];
        for _ in 0..5 {
            sinks.write(&sink, &line);
        }
        drop(blocked);
        assert_eq!(sinks.counts().lines_dropped.load(Ordering::Relaxed), 1);
        assert!(sinks.flush(Duration::from_secs(10)));
    }

    #[test]
    fn what_was_written_before_the_end_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (sinks, sink) = (LogSinks::default(), file(&path));
        sinks.open(&sink).unwrap();
        sinks.write(&sink, b"last\n");
        drop(sinks);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "last\n");
    }
}
