//! The header key: the configured one, or one that is made once and kept in the state directory.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::Error;
use trunkline_config::Secret;
use trunkline_config::state_dir;
use trunkline_event::{HeaderKey, KEY_MIN_BYTES};

/// The file in the state directory.
const FILE: &str = "header-key";

/// The configured key, or the key of the state directory. A missing key is made.
///
/// # Errors
/// [`Error::Unusable`] when the file cannot be read or written.
pub(crate) fn header_key(configured: Option<&Secret>, dir: &Path) -> Result<HeaderKey, Error> {
    if let Some(key) = configured {
        return Ok(HeaderKey::new(key.expose().as_bytes()));
    }
    let file = dir.join(FILE);
    let unusable = |error: std::io::Error| {
        Error::Unusable(format!("the header key in {} cannot be used: {error}", file.display()))
    };
    match std::fs::read(&file) {
        Ok(key) if key.len() >= KEY_MIN_BYTES => return Ok(HeaderKey::new(&key)),
        Ok(_) => {
            let why = format!(
                "the header key in {} is shorter than {KEY_MIN_BYTES} bytes; remove the file so that the daemon makes a new key",
                file.display()
            );
            return Err(Error::Unusable(why));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let key = hex::encode(rand::random::<[u8; 32]>());
    state_dir::make(dir).map_err(unusable)?;
    // Another process may have made a key meanwhile. This process must not overwrite it, or the two sign with different keys.
    let written = state_dir::new_file(&file).and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()
    });
    written.map_err(unusable)?;
    tracing::info!(file = %file.display(), "the daemon made a new header key; set the same `header-key` in [broker] of all \
        daemons that share queues");
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
        assert!(header_key(None, &state).is_err(), "a key that is easy to guess");
    }
}
