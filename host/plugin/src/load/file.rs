//! Reading a plugin's file, and recognising files that are not components.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{COMPONENT_MAX_BYTES, Error};

/// The bytes of a component's file, with their digest.
pub(crate) struct ComponentFile {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) digest: String,
}

impl ComponentFile {
    /// Reads a file that begins like a component.
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let bytes = read_bounded(file)?;
        check_preamble(file, &bytes)?;
        let digest = hex_digest(&bytes);
        Ok(Self { bytes, digest })
    }
}

/// The digest of a file's current content, in the form of [`Ready::digest`](crate::Ready).
///
/// # Errors
/// When the file cannot be read, or is too large.
pub fn digest_of(file: &Path) -> Result<String, Error> {
    Ok(hex_digest(&read_bounded(file)?))
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::Read { file: file.to_owned(), reason: error.to_string() };
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::Read { file: file.to_owned(), reason: "the path is not a regular file".to_owned() });
    }
    if metadata.len() > COMPONENT_MAX_BYTES {
        return Err(Error::TooLarge { file: file.to_owned(), bytes: metadata.len() });
    }
    std::fs::read(file).map_err(failed)
}

/// Names the kind of a file that is not a component, before the parser complains about its first bytes.
fn check_preamble(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let kind = match bytes {
        [] => "the file is empty",
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "the file is a core module; build the plugin for wasm32-wasip2, or run `trunkline wrap` on the file"
        }
        [0, b'a', b's', b'm', ..] => "the file is WebAssembly of an unknown version, or is incomplete",
        [0x7f, b'E', b'L', b'F', ..] => {
            "the file is a program for this machine (ELF); build the plugin for wasm32-wasip2"
        }
        [b'P', b'K', 3, 4, ..] => "the file is a zip archive; unpack the archive first",
        [b'(', ..] => "the file is WebAssembly text; assemble the text first",
        _ => "the file does not begin with the WebAssembly header",
    };
    Err(Error::NotAComponent { file: file.to_owned(), what: kind.to_owned() })
}
