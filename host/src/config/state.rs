//! Where the state of the daemon lives.

use std::path::{Path, PathBuf};

use super::Sources;
use super::codes::Code;
use super::walk::{Context, Table};

/// The flag, else the file (relative to it), else systemd's `$STATE_DIRECTORY`, else the XDG state directory of the
/// user. Absolute. `None` after it was reported that there is no such place.
pub(super) fn directory(cx: &mut Context<'_>, top: &Table<'_>, sources: &Sources) -> Option<PathBuf> {
    let in_file = top.text(cx, "state-dir").map(|text| sources.directory().join(text.value));
    let variable = |name: &str| sources.environment.get(name).filter(|value| !value.is_empty());
    // systemd gives all directories of a unit, separated by colons; XDG wants relative paths to be ignored.
    let systemd = || variable("STATE_DIRECTORY").and_then(|value| value.split(':').next()).map(PathBuf::from);
    let xdg = || {
        variable("XDG_STATE_HOME").map(Path::new).filter(|path| path.is_absolute()).map(|path| path.join("trunkline"))
    };
    let home = || variable("HOME").map(|home| Path::new(home).join(".local/state/trunkline"));
    let chosen = sources.state_dir.clone().or(in_file).or_else(systemd).or_else(xdg).or_else(home);
    match chosen.map(std::path::absolute) {
        Some(Ok(path)) => Some(path),
        Some(Err(error)) => {
            cx.findings.error_anywhere(Code::NoStateDir, format!("the state directory cannot be used: {error}"));
            None
        }
        None => {
            cx.findings
                .error_anywhere(Code::NoStateDir, "there is no place for the state of the daemon")
                .help("pass --state DIR, or write `state-dir = \"DIR\"` at the top of the file");
            None
        }
    }
}
