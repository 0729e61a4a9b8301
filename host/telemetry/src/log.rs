//! The writer of log lines. Code that logs never waits for the reader of the log.
//!
//! stderr may be a pipe that no program reads, or a file on a full disk. A daemon that waited for it would handle no event
//! and answer no probe. Lines therefore wait in a bounded buffer for one thread that writes them. Lines that do not fit are
//! dropped and counted, and [`Condition::LogBlocked`] is raised until lines are written again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};

use crate::conditions::Condition;

/// Bytes of the lines that wait. The writing thread may have as many again.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes of one write. A pipe takes so many at once, so that lines of several writers stay whole.
const PIECE_BYTES: usize = 4096;
/// The log is blocked when no byte could be written for this time.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Takes log lines without waiting. Each `write` is one line. Clones share one buffer.
#[derive(Clone)]
pub struct LogWriter(Arc<LogQueue>);

struct LogQueue {
    state: Mutex<LogState>,
    /// Notified when lines wait.
    arrived: Condvar,
    /// Notified when no line waits and none is being written.
    idle: Condvar,
}

#[derive(Default)]
struct LogState {
    waiting: Vec<u8>,
    /// While lines are being written: the time of the last write.
    writing: Option<Instant>,
    /// Lines that were dropped since the last write that succeeded.
    dropped: u64,
    is_blocked: bool,
}

impl LogWriter {
    /// Writes to stderr through a descriptor of its own, without the lock of `std::io::stderr`.
    ///
    /// # Errors
    /// When the system gives no descriptor or no thread.
    pub fn stderr() -> io::Result<Self> {
        Self::new(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// Writes to `out` in a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(out: impl Write + AsFd + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(LogQueue { state: Mutex::default(), arrived: Condvar::new(), idle: Condvar::new() });
        let writer = Self(shared.clone());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(out))?;
        Ok(writer)
    }

    /// Waits until every line is written, until `within` is over, or until no byte could be written for `stuck_after`.
    pub fn finish(&self, within: Duration, stuck_after: Duration) {
        let begun = Instant::now();
        let mut state = self.0.state.lock();
        loop {
            let is_done = state.waiting.is_empty() && state.writing.is_none();
            let is_stuck = state.writing.is_some_and(|last| last.elapsed().min(begun.elapsed()) >= stuck_after);
            let left = within.saturating_sub(begun.elapsed());
            if is_done || is_stuck || left.is_zero() {
                return;
            }
            let looks = left.min(stuck_after).min(Duration::from_millis(50));
            let _timed_out = self.0.idle.wait_for(&mut state, looks);
        }
    }

    fn line(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        let fits = state.waiting.len() + line.len() <= BUFFER_BYTES;
        if fits {
            state.waiting.extend_from_slice(line);
            self.0.arrived.notify_one();
        } else {
            state.dropped += 1;
        }
        let is_stuck = state.writing.is_some_and(|last| last.elapsed() >= STUCK_AFTER);
        let is_news = (!fits || is_stuck) && !state.is_blocked;
        state.is_blocked |= is_news;
        drop(state);
        if !fits {
            counter!(DROPPED).increment(1);
        }
        if is_news {
            Condition::LogBlocked
                .raise("", "no program reads the log; the daemon drops lines that do not fit into the buffer");
        }
    }
}

/// The counter of dropped lines.
pub(super) const DROPPED: &str = "trunkline_log_lines_dropped_total";

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogQueue {
    /// Writes lines until the process ends.
    fn write_to(&self, mut out: impl Write + AsFd) {
        let mut lines = Vec::new();
        let mut is_torn = false;
        loop {
            self.take(&mut lines);
            if is_torn {
                // The rest of a torn line must not join the next line.
                lines.insert(0, b'\n');
            }
            let (written, result) = self.write_all(&mut out, &lines);
            is_torn = written > 0 && lines[written - 1] != b'\n' || written == 0 && is_torn;
            match result {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&lines[written..], &error),
            }
            lines.clear();
        }
    }

    /// Waits for lines.
    fn take(&self, lines: &mut Vec<u8>) {
        let mut state = self.state.lock();
        state.writing = None;
        while state.waiting.is_empty() {
            self.idle.notify_all();
            self.arrived.wait(&mut state);
        }
        std::mem::swap(&mut state.waiting, lines);
        state.writing = Some(Instant::now());
    }

    /// Writes whole lines as far as possible. Returns the number of written bytes.
    fn write_all(&self, out: &mut (impl Write + AsFd), lines: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < lines.len() {
            match out.write(piece(&lines[written..])) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    written += bytes;
                    self.state.lock().writing = Some(Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the pipe has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let waited = poll(&mut [PollFd::new(&*out, PollFlags::OUT)], None);
                    if let Err(error) = waited.map_err(io::Error::from)
                        && error.kind() != ErrorKind::Interrupted
                    {
                        return (written, Err(error));
                    }
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        let (was_blocked, dropped) = (std::mem::take(&mut state.is_blocked), std::mem::take(&mut state.dropped));
        drop(state);
        if was_blocked {
            Condition::LogBlocked.clear("");
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "log lines before this line were dropped, because no program read the log or the log could not be written"
            );
        }
    }

    fn failed(&self, unwritten: &[u8], error: &io::Error) {
        let lines = unwritten.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut state = self.state.lock();
        state.dropped += lines;
        state.is_blocked = true;
        drop(state);
        counter!(DROPPED).increment(lines);
        Condition::LogBlocked.raise("", format!("log lines cannot be written, so the daemon drops the lines: {error}"));
    }
}

/// The whole lines that fit into one write, or one longer line.
fn piece(lines: &[u8]) -> &[u8] {
    let line_end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
    let fits = &lines[..lines.len().min(PIECE_BYTES)];
    let end =
        line_end(fits).or_else(|| lines.iter().position(|byte| *byte == b'\n')).map_or(lines.len(), |end| end + 1);
    &lines[..end]
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};

    use super::*;
    use crate::conditions::raised_conditions;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn pieces_are_whole_lines() {
        assert_eq!(piece(b"a\nb\nc"), b"a\nb\n");
        assert_eq!(piece(b"abc"), b"abc");
        let long = [&b"a\n"[..], &[b'x'; PIECE_BYTES], b"\nb\n"].concat();
        assert_eq!(piece(&long), b"a\n");
        assert_eq!(piece(&long[2..]).len(), PIECE_BYTES + 1);
    }

    /// One test, because the process has one condition.
    #[test]
    fn logging_never_waits_and_dropped_lines_are_counted() {
        let is_blocked = || raised_conditions().iter().any(|raised| raised.condition == Condition::LogBlocked);
        let (reader, out) = pipe().expect("a pipe");
        let mut log = LogWriter::new(out).expect("a thread");
        log.write_all(b"first\n").expect("taken");
        log.finish(LONG, LONG);
        assert!(!is_blocked());
        // More lines than pipe and buffer hold together.
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let (began, all) = (Instant::now(), 8 * BUFFER_BYTES / line.len());
        for _ in 0..all {
            log.write_all(&line).expect("taken or dropped");
        }
        assert!(is_blocked());
        log.finish(LONG, Duration::from_millis(100));
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        let dropped = usize::try_from(log.0.state.lock().dropped).expect("not many");
        assert!(dropped > 0);
        let reading = std::thread::spawn(|| {
            let lines = BufReader::new(reader).lines().map(|line| line.expect("a text"));
            lines.take_while(|line| line != "last").collect::<Vec<_>>()
        });
        log.finish(LONG, LONG);
        assert!(!is_blocked());
        log.write_all(b"last\n").expect("taken");
        let read = reading.join().expect("no panic");
        assert_eq!((read[0].as_str(), read.len()), ("first", 1 + all - dropped));
        assert!(read[1..].iter().all(|read| read.len() == line.len() - 1), "no line is cut or mixed");

        // The reader is closed.
        let (reader, out) = pipe().expect("a pipe");
        drop(reader);
        let mut log = LogWriter::new(out).expect("a thread");
        for _ in 0..10 {
            log.write_all(b"line\n").expect("dropped");
            log.finish(LONG, LONG);
        }
        assert_eq!(log.0.state.lock().dropped, 10);
        assert!(is_blocked());
        Condition::LogBlocked.clear("");
    }
}
