//! Log lines on their way out: nobody who logs waits for whoever reads.
//!
//! stderr may be a pipe that nobody empties, or a file on a disk that is full or hangs, and a daemon that waits for either
//! handles no event and answers no probe. So lines wait in a bounded room for one thread that writes them. Lines that do
//! not fit are dropped and counted, and [`Condition::LogBlocked`] is raised until lines are written again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use rustix::event::{PollFd, PollFlags, poll};

use super::Condition;

/// What waits to be written, in bytes; as much again may be in the hands of the thread that writes.
const ROOM_BYTES: usize = 1 << 20;
/// Lines that are written at once: what a pipe takes in one piece, so that lines of several writers stay whole.
const PIECE_BYTES: usize = 4096;
/// Nobody reads when so long nothing could be written.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Takes log lines without ever waiting. Cheap to clone; each `write` is a line.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Lines wait.
    came: Condvar,
    /// None wait, and none are being written.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// While something is being written: when the last piece was.
    writing: Option<Instant>,
    /// Since the last one that could be written.
    dropped: u64,
    is_blocked: bool,
}

impl LogWriter {
    /// Writes to stderr, by a descriptor of its own: what holds that up holds up nobody who uses stderr's lock.
    ///
    /// # Errors
    /// When there is no descriptor or no thread.
    pub fn stderr() -> io::Result<Self> {
        Self::new(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// Writes to a file, or what else has a descriptor, by a thread of its own.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn new(out: impl Write + AsFd + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), came: Condvar::new(), idle: Condvar::new() });
        let writer = Self(shared.clone());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(out))?;
        Ok(writer)
    }

    /// Waits until every line is written, or until the time is over, or until so long nothing could be written.
    pub fn finish(&self, within: Duration, stuck_after: Duration) {
        let begun = Instant::now();
        let mut state = self.0.lock();
        loop {
            let is_done = state.waiting.is_empty() && state.writing.is_none();
            let is_stuck = state.writing.is_some_and(|last| last.elapsed().min(begun.elapsed()) >= stuck_after);
            let left = within.saturating_sub(begun.elapsed());
            if is_done || is_stuck || left.is_zero() {
                return;
            }
            let looks = left.min(stuck_after).min(Duration::from_millis(50));
            state = self.0.idle.wait_timeout(state, looks).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn line(&self, line: &[u8]) {
        let mut state = self.0.lock();
        let fits = state.waiting.len() + line.len() <= ROOM_BYTES;
        if fits {
            state.waiting.extend_from_slice(line);
            self.0.came.notify_one();
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
            Condition::LogBlocked.raise("", "nobody reads what the daemon logs; lines that do not fit are dropped");
        }
    }
}

/// The counter of lines that nobody will read.
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs as long as the process.
    fn write_to(&self, mut out: impl Write + AsFd) {
        let mut lines = Vec::new();
        let mut is_torn = false;
        loop {
            self.take(&mut lines);
            if is_torn {
                // The end of a line that was cut off must not become the begin of another.
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
        let mut state = self.lock();
        state.writing = None;
        while state.waiting.is_empty() {
            self.idle.notify_all();
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.waiting, lines);
        state.writing = Some(Instant::now());
    }

    /// Writes whole lines as far as possible; how many bytes are written.
    fn write_all(&self, out: &mut (impl Write + AsFd), lines: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < lines.len() {
            match out.write(piece(&lines[written..])) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    written += bytes;
                    self.lock().writing = Some(Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the pipe with us has said that it does not wait.
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
        let mut state = self.lock();
        let (was_blocked, dropped) = (std::mem::take(&mut state.is_blocked), std::mem::take(&mut state.dropped));
        drop(state);
        if was_blocked {
            Condition::LogBlocked.clear("");
        }
        if dropped > 0 {
            tracing::warn!(dropped, "log lines are missing here: nobody read them, or they could not be written");
        }
    }

    fn failed(&self, unwritten: &[u8], error: &io::Error) {
        let lines = unwritten.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut state = self.lock();
        state.dropped += lines;
        state.is_blocked = true;
        drop(state);
        counter!(DROPPED).increment(lines);
        Condition::LogBlocked.raise("", format!("log lines cannot be written and are dropped: {error}"));
    }
}

/// Whole lines that fit into one write, or one line that is longer.
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
    use crate::raised_conditions;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn pieces_are_whole_lines() {
        assert_eq!(piece(b"a\nb\nc"), b"a\nb\n");
        assert_eq!(piece(b"abc"), b"abc");
        let long = [&b"a\n"[..], &[b'x'; PIECE_BYTES], b"\nb\n"].concat();
        assert_eq!(piece(&long), b"a\n");
        assert_eq!(piece(&long[2..]).len(), PIECE_BYTES + 1);
    }

    /// One test, since the condition is the process's.
    #[test]
    fn nobody_who_logs_waits_and_what_is_dropped_is_told() {
        let is_blocked = || raised_conditions().iter().any(|raised| raised.condition == Condition::LogBlocked);
        let (reader, out) = pipe().expect("a pipe");
        let mut log = LogWriter::new(out).expect("a thread");
        log.write_all(b"first\n").expect("taken");
        log.finish(LONG, LONG);
        assert!(!is_blocked());
        // Far more than pipe and room hold together.
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let (began, all) = (Instant::now(), 8 * ROOM_BYTES / line.len());
        for _ in 0..all {
            log.write_all(&line).expect("taken or dropped");
        }
        assert!(is_blocked());
        log.finish(LONG, Duration::from_millis(100));
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        let dropped = usize::try_from(log.0.lock().dropped).expect("not many");
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

        // Its reader is gone for good.
        let (reader, out) = pipe().expect("a pipe");
        drop(reader);
        let mut log = LogWriter::new(out).expect("a thread");
        for _ in 0..10 {
            log.write_all(b"line\n").expect("dropped");
            log.finish(LONG, LONG);
        }
        assert_eq!(log.0.lock().dropped, 10);
        assert!(is_blocked());
        Condition::LogBlocked.clear("");
    }
}
