//! Requirements on a plugin's file, checked before the file is compiled: digest, `plugins.lock` and signature.

use std::path::{Path, PathBuf};

use minisign_verify::{Error as SignatureError, PublicKey, Signature};

use super::error::Error;
use trunkline_config::{self as config, LockedPlugin};
use trunkline_event::PluginName;

/// Configured digest, entry of `plugins.lock` and signers of one plugin.
#[derive(Debug, Clone)]
pub struct FileRequirements {
    name: PluginName,
    digest: Option<String>,
    signers: Vec<String>,
    locked: Option<Result<LockedPlugin, String>>,
}

impl FileRequirements {
    /// The requirements of a plugin's configuration.
    #[must_use]
    pub fn new(name: &PluginName, plugin: &config::Plugin) -> Self {
        Self {
            name: name.clone(),
            digest: plugin.digest.clone(),
            signers: plugin.signers.clone(),
            locked: plugin.locked.clone(),
        }
    }

    /// Name of the plugin in routes.toml.
    pub(crate) fn plugin(&self) -> &PluginName {
        &self.name
    }

    /// Checks the bytes of a file, whose digest is `found`.
    ///
    /// # Errors
    /// The first requirement that the file does not meet.
    pub(crate) fn check(&self, file: &Path, bytes: &[u8], found: &str) -> Result<(), Error> {
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
                    "the file {} has the sha-256 digest {found}, but plugins.lock allows the plugin {name} only with the \
                     digest {}; if the new file is the right one, run `trunkline lock`",
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

/// The file of a component's signature: `NAME.wasm.minisig`.
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
            return Err(refused(format!(
                "is not signed, because the file {} does not exist; sign the plugin with `minisign -S -m FILE`",
                beside.display()
            )));
        }
        Err(error) => {
            return Err(refused(format!(
                "has a signature that cannot be read, in the file {}: {error}",
                beside.display()
            )));
        }
    };
    let unfit = |error: SignatureError| {
        refused(format!("has a malformed signature, in the file {}: {error}", beside.display()))
    };
    let signature = Signature::decode(&text).map_err(unfit)?;
    for signer in signers {
        let key = PublicKey::from_base64(signer).map_err(|error| {
            refused(format!("cannot be checked, because a key of `require-signature` cannot be used: {error}"))
        })?;
        match key.verify(bytes, &signature, false) {
            Ok(()) => return Ok(()),
            Err(SignatureError::UnexpectedKeyId) => {}
            Err(SignatureError::InvalidSignature) => {
                return Err(refused(
                    "does not match its signature: the file was changed, or the signature belongs to another file"
                        .to_owned(),
                ));
            }
            Err(
                SignatureError::UnexpectedAlgorithm
                | SignatureError::UnsupportedAlgorithm
                | SignatureError::UnsupportedLegacyMode,
            ) => {
                return Err(refused(
                    "has a signature in the legacy format; sign the file with minisign 0.10 or later".to_owned(),
                ));
            }
            Err(error @ (SignatureError::InvalidEncoding | SignatureError::IoError(_))) => return Err(unfit(error)),
        }
    }
    Err(refused("is signed with a key that is not in `require-signature`".to_owned()))
}
