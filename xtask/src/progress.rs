//! Shows how far a build of cargo is: the crates built so far, their number, the crates being built, and the time so far.

use std::io::{BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Time between two lines where the output is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Columns of cargo's own progress line, which has to have a width outside of a terminal.
const WIDTH: &str = "120";

/// Runs a command of cargo and shows its progress on stderr. `subject` says what is built.
///
/// # Errors
/// When the command cannot be run or its output cannot be read.
pub fn run(cargo: &mut Command, subject: &str) -> Result<ExitStatus> {
    cargo.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", WIDTH);
    let mut child = cargo.stderr(Stdio::piped()).spawn().context("cargo cannot be run")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let mut shown = ProgressOutput::new(subject);
    let mut line = Vec::new();
    for byte in BufReader::new(stderr).bytes() {
        match byte? {
            end @ (b'\r' | b'\n') => {
                shown.line(&String::from_utf8_lossy(&line), end == b'\n');
                line.clear();
            }
            byte => line.push(byte),
        }
    }
    let status = child.wait()?;
    shown.end(status);
    Ok(status)
}

struct ProgressOutput<'a> {
    subject: &'a str,
    begun: Instant,
    is_terminal: bool,
    last: Option<Instant>,
    built: bool,
}

impl<'a> ProgressOutput<'a> {
    fn new(subject: &'a str) -> Self {
        Self { subject, begun: Instant::now(), is_terminal: std::io::stderr().is_terminal(), last: None, built: false }
    }

    /// A line of cargo. Progress is shown in our form; every other line but `Compiling NAME` is passed on.
    fn line(&mut self, line: &str, is_whole: bool) {
        let text = without_colours(line);
        let text = text.trim();
        if let Some(progress) = progress(text) {
            return self.progress(&progress);
        }
        let is_noise = ["Compiling ", "Checking ", "Finished ", "Fresh ", "Locking ", "Downloaded ", "Adding "]
            .iter()
            .any(|start| text.starts_with(start));
        if is_whole && !text.is_empty() && !is_noise {
            self.clear();
            eprintln!("{line}");
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.built = true;
        let due = self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if !self.is_terminal && !due {
            return;
        }
        self.last = Some(Instant::now());
        let Progress { done, all, names } = progress;
        let text = format!("{}: {done} of {all} crates, {}, now {names}", self.subject, elapsed(self.begun));
        if self.is_terminal {
            let text = text.chars().take(110).collect::<String>();
            eprint!("\r\x1b[K{text}");
            let _unseen = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn end(&self, status: ExitStatus) {
        self.clear();
        if self.built && status.success() {
            eprintln!("{}: built in {}", self.subject, elapsed(self.begun));
        }
    }
}

struct Progress {
    done: u32,
    all: u32,
    names: String,
}

/// Reads cargo's progress line: `Building [====> ] 12/345: one, two`.
fn progress(text: &str) -> Option<Progress> {
    let (counts, names) = text.strip_prefix("Building [")?.split_once("] ")?.1.split_once(": ")?;
    let (done, all) = counts.split_once('/')?;
    Some(Progress { done: done.trim().parse().ok()?, all: all.trim().parse().ok()?, names: names.trim().to_owned() })
}

/// The text without ANSI escape sequences.
fn without_colours(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A sequence ends with its letter.
            while characters.next().is_some_and(|next| !next.is_ascii_alphabetic()) {}
        } else {
            text.push(character);
        }
    }
    text
}

fn elapsed(begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_progress_is_read() {
        let line = "\u{1b}[1m\u{1b}[36m    Building\u{1b}[0m [=======>        ] 12/345: syn, wasmtime(build)  ";
        let text = without_colours(line);
        let found = progress(text.trim()).expect("a progress line");
        assert_eq!((found.done, found.all, found.names.as_str()), (12, 345, "syn, wasmtime(build)"));
        assert!(progress("Compiling syn v2.0.0").is_none());
        assert!(progress("error[E0425]: cannot find value `a/b: c`").is_none());
    }
}
