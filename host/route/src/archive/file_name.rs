//! Names of archive files and objects.

use uuid::Uuid;

/// Ending of every archive file.
pub(super) const ENDING: &str = ".jsonl.gz";

/// Day and name of a file that begins at a time. Names sort by time, and no two daemons use the same name.
pub(super) fn file_name(now: &str) -> (&str, String) {
    let (day, time) = now.split_once('T').unwrap_or((now, ""));
    let time = time.get(..8).unwrap_or(time).replace(':', "");
    (day, format!("{time}-{}{ENDING}", Uuid::now_v7().simple()))
}
