//! A measured program: a process that ends with its value, whose output goes to a file.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::place::TemporaryFolder;

/// Lines of the output that an error quotes.
const LINES: usize = 20;
/// The file in the folder of the program that has its output.
const OUTPUT: &str = "output";

/// A running program.
pub(crate) struct MeasuredProgram {
    name: String,
    child: Child,
    folder: TemporaryFolder,
}

impl MeasuredProgram {
    /// Starts a program. Its folder is deleted after the program.
    pub(crate) fn start(name: &str, command: &mut Command, folder: TemporaryFolder) -> Result<Self> {
        let file = File::create(folder.path().join(OUTPUT))?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.with_context(|| format!("{name} cannot be run: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, folder })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of the program.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for the end of a program that was asked to end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("{} failed ({status}):\n{}", self.name, self.last_lines()) }
    }

    /// The output so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(OUTPUT)).unwrap_or_default()
    }

    /// Fails with the last lines of the output when the program has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.last_lines()),
        }
    }

    pub(crate) fn last_lines(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for MeasuredProgram {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
