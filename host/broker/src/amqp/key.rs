//! The key of the daemon's headers: the configured one, or one that is made once and kept in the state directory.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Error;
use trunkline_config::Token;
use trunkline_config::state_dir;
use trunkline_event::{HeaderKey, KEY_MIN_BYTES};

const FILE: &str = "header-key";

/// The key that is configured, else the one of the state directory, which is made when there is none.
///
/// # Errors
/// [`Error::Unusable`] when the file cannot be read or written.
pub(crate) fn header_key(configured: Option<&Token>, dir: &Path) -> Result<HeaderKey, Error> {
    if let Some(key) = configured {
        return Ok(HeaderKey::new(key.expose().as_bytes()));
    }
    let file = dir.join(FILE);
    let unusable = |error: std::io::Error| Error::Unusable(format!("{}: {error}", file.display()));
    match std::fs::read(&file) {
        Ok(key) if key.len() >= KEY_MIN_BYTES => return Ok(HeaderKey::new(&key)),
        Ok(_) => return Err(Error::Unusable(format!("{}: the key is too short; remove the file", file.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let key: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    state_dir::make(dir).map_err(unusable)?;
    let mut new = OpenOptions::new();
    let written = new.write(true).create_new(true).mode(0o600).open(&file).and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()
    });
    written.map_err(unusable)?;
    tracing::info!(file = %file.display(), "a key for the daemon's headers was made; daemons that share queues need the \
        same one: see `header-key` in [broker]");
    Ok(HeaderKey::new(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let made = format!("{:?}", header_key(None, &state).expect("made"));
        assert_eq!(format!("{:?}", header_key(None, &state).expect("read")), made);
        let mode = std::fs::metadata(state.join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(state.join(FILE), "short").expect("written");
        assert!(header_key(None, &state).is_err(), "a key that anybody guesses");
    }
}
