//! The state directory's place.

use std::path::{Path, PathBuf};

use crate::diagnostics::codes::Code;
use crate::parse::context::{ReadContext, Text};
use crate::sources::Sources;

/// The default, beside the routes file, so that two projects of a user have a directory each.
pub const STATE_BESIDE: &str = ".trunkline";

/// The place, and where it would have been by the rules of earlier versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StatePlace {
    /// Absolute.
    pub(crate) dir: PathBuf,
    /// The directory that all files of a user shared by default; `None` where the place was chosen.
    pub(crate) earlier: Option<PathBuf>,
}

/// The flag, else the file (relative to it), else systemd's `$STATE_DIRECTORY`, else `.trunkline` beside the file. `None`
/// after it was reported that there is no such place.
pub(crate) fn place(cx: &mut ReadContext<'_>, in_file: Option<&Text>, sources: &Sources) -> Option<StatePlace> {
    let in_file = in_file.map(|text| cx.path(&text.value));
    let variable = |name: &str| sources.environment.get(name).filter(|value| !value.is_empty());
    // systemd gives all directories of a unit, separated by colons.
    let systemd = || variable("STATE_DIRECTORY").and_then(|value| value.split(':').next()).map(PathBuf::from);
    let chosen = sources.state_dir.clone().or(in_file).or_else(systemd);
    // The XDG specification wants relative paths to be ignored.
    let xdg = || {
        variable("XDG_STATE_HOME").map(Path::new).filter(|path| path.is_absolute()).map(|path| path.join("trunkline"))
    };
    let home = || variable("HOME").map(|home| Path::new(home).join(".local/state/trunkline"));
    let earlier = if chosen.is_none() { xdg().or_else(home) } else { None };
    match std::path::absolute(chosen.unwrap_or_else(|| cx.path(STATE_BESIDE))) {
        Ok(dir) => Some(StatePlace { earlier: earlier.filter(|earlier| *earlier != dir), dir }),
        Err(error) => {
            cx.findings
                .error_anywhere(Code::NoStateDir, format!("the state directory cannot be used: {error}"))
                .help("pass --state DIR, or write `state-dir = \"DIR\"` at the top of the file");
            None
        }
    }
}
