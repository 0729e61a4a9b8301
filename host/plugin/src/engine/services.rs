//! Services that all plugins of an engine share, opened when the first plugin needs them.

use std::path::PathBuf;

use parking_lot::Mutex;

use crate::http::tls::ClientTls;
use crate::load::error::Error;
use trunkline_state::StateStore;

/// The state of plugins and the TLS settings of the process.
#[derive(Default)]
pub(crate) struct Services {
    state_dir: Option<PathBuf>,
    state: Mutex<Option<StateStore>>,
    tls: Mutex<Option<ClientTls>>,
}

impl Services {
    pub(crate) fn new(state_dir: Option<PathBuf>) -> Self {
        Self { state_dir, ..Self::default() }
    }

    /// The state of plugins; `None` in an engine that only checks plugins, because a daemon may have the store open.
    pub(crate) fn state(&self) -> Result<Option<StateStore>, Error> {
        let Some(dir) = &self.state_dir else { return Ok(None) };
        let mut open = self.state.lock();
        if open.is_none() {
            *open = Some(StateStore::open(dir).map_err(|error| Error::State(error.to_string()))?);
        }
        Ok(open.clone())
    }

    /// TLS with the system's roots, or those of `SSL_CERT_FILE`.
    pub(crate) fn tls(&self) -> Result<ClientTls, Error> {
        let mut loaded = self.tls.lock();
        if let Some(tls) = &*loaded {
            return Ok(tls.clone());
        }
        let tls = ClientTls::load().map_err(Error::Tls)?;
        *loaded = Some(tls.clone());
        Ok(tls)
    }
}
