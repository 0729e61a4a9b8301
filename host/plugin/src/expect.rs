//! What a plugin's file has to be before it is compiled: its digest, its place in `plugins.lock`, its signature.

use std::path::{Path, PathBuf};

use minisign_verify::{Error as SignatureError, PublicKey, Signature};

use super::Error;
use trunkline_config::{self as config, Entry};
use trunkline_event::PluginName;

/// Digest, lock and signers of one plugin.
#[derive(Debug, Clone)]
pub struct Expected {
    name: PluginName,
    digest: Option<String>,
    signers: Vec<String>,
    locked: Option<Result<Entry, String>>,
}

impl Expected {
    /// As the configuration says.
    #[must_use]
    pub fn new(name: &PluginName, plugin: &config::Plugin) -> Self {
        Self {
            name: name.clone(),
            digest: plugin.digest.clone(),
            signers: plugin.signers.clone(),
            locked: plugin.locked.clone(),
        }
    }

    /// # Errors
    /// The first thing that is not as expected.
    pub(super) fn check(&self, file: &Path, bytes: &[u8], found: &str) -> Result<(), Error> {
        if let Some(expected) = &self.digest
            && expected != found
        {
            return Err(Error::Digest { file: file.to_owned(), expected: expected.clone(), found: found.to_owned() });
        }
        match &self.locked {
            None => {}
            Some(Err(problem)) => return Err(Error::Lock(problem.clone())),
            Some(Ok(entry)) if entry.sha256 != found => {
                let name = &self.name;
                return Err(Error::Lock(format!(
                    "{} has the sha-256 digest {found}, but plugins.lock grants what plugin {name} may do to {} only; if \
                     the new file is the right one, run `trunkline lock`",
                    file.display(),
                    entry.sha256
                )));
            }
            Some(Ok(_)) => {}
        }
        match self.signers.is_empty() {
            true => Ok(()),
            false => check_signature(file, bytes, &self.signers),
        }
    }
}

/// `NAME.wasm.minisig`
#[must_use]
pub fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

fn check_signature(file: &Path, bytes: &[u8], signers: &[String]) -> Result<(), Error> {
    let beside = signature_file(file);
    let refused = |problem: String| Error::Signature { file: file.to_owned(), problem };
    let text = match std::fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(refused(format!("is not signed: there is no {}", beside.display())));
        }
        Err(error) => {
            return Err(refused(format!("has a signature that cannot be read: {}: {error}", beside.display())));
        }
    };
    let unfit = |error: SignatureError| refused(format!("has a signature that is none: {}: {error}", beside.display()));
    let signature = Signature::decode(&text).map_err(unfit)?;
    for signer in signers {
        let key = PublicKey::from_base64(signer)
            .map_err(|error| refused(format!("cannot be checked: a key of require-signature: {error}")))?;
        match key.verify(bytes, &signature, false) {
            Ok(()) => return Ok(()),
            Err(SignatureError::UnexpectedKeyId) => {}
            Err(SignatureError::InvalidSignature) => {
                return Err(refused(
                    "is not the file that was signed: it was changed, or the signature is another file's".to_owned(),
                ));
            }
            Err(
                SignatureError::UnexpectedAlgorithm
                | SignatureError::UnsupportedAlgorithm
                | SignatureError::UnsupportedLegacyMode,
            ) => {
                return Err(refused(
                    "has a signature of the legacy form; sign it with minisign 0.10 or later".to_owned(),
                ));
            }
            Err(error @ (SignatureError::InvalidEncoding | SignatureError::IoError(_))) => return Err(unfit(error)),
        }
    }
    Err(refused("is signed with a key that is not in require-signature".to_owned()))
}
