//! Where the state of the daemon lives.

use std::path::{Path, PathBuf};

use super::Sources;
use super::codes::Code;
use super::walk::{Context, Table};

/// Beside the routes file, so that two projects of a user have a directory each.
pub const STATE_BESIDE: &str = ".trunkline";

/// The place, and where it would have been by the rules of earlier versions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Absolute.
    pub(super) dir: PathBuf,
    /// The directory that all files of a user shared by default; none where the place was chosen.
    pub(super) earlier: Option<PathBuf>,
}

/// The flag, else the file (relative to it), else systemd's `$STATE_DIRECTORY`, else `.trunkline` beside the file. `None`
/// after it was reported that there is no such place.
pub(super) fn place(cx: &mut Context<'_>, top: &Table<'_>, sources: &Sources) -> Option<Place> {
    let in_file = top.text(cx, "state-dir").map(|text| sources.directory().join(text.value));
    let variable = |name: &str| sources.environment.get(name).filter(|value| !value.is_empty());
    // systemd gives all directories of a unit, separated by colons.
    let systemd = || variable("STATE_DIRECTORY").and_then(|value| value.split(':').next()).map(PathBuf::from);
    let chosen = sources.state_dir.clone().or(in_file).or_else(systemd);
    // XDG wants relative paths to be ignored.
    let xdg = || {
        variable("XDG_STATE_HOME").map(Path::new).filter(|path| path.is_absolute()).map(|path| path.join("trunkline"))
    };
    let home = || variable("HOME").map(|home| Path::new(home).join(".local/state/trunkline"));
    let earlier = if chosen.is_none() { xdg().or_else(home) } else { None };
    match std::path::absolute(chosen.unwrap_or_else(|| sources.directory().join(STATE_BESIDE))) {
        Ok(dir) => Some(Place { earlier: earlier.filter(|earlier| *earlier != dir), dir }),
        Err(error) => {
            cx.findings
                .error_anywhere(Code::NoStateDir, format!("the state directory cannot be used: {error}"))
                .help("pass --state DIR, or write `state-dir = \"DIR\"` at the top of the file");
            None
        }
    }
}
