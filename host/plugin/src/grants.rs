//! What a plugin is granted, made once when it is loaded and shared by its calls. The linker is told what to leave out
//! (`abi`); what stands behind the rest is here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi_config::WasiConfigVariables;

use super::Error;
use super::http::{self, Gate};
use super::redact::Redactor;
use trunkline_config::{self as config, EmitGrant, Quota};
use trunkline_event::PluginName;
use trunkline_state::State;
use trunkline_telemetry::HostCalls;

/// Behind the imports of one plugin.
pub(super) struct Grants {
    /// Config and secrets.
    pub(super) config: WasiConfigVariables,
    pub(super) redactor: Redactor,
    pub(super) http: Option<Arc<Gate>>,
    pub(super) kv: Option<Kept>,
    /// Patterns that emissions have to fit.
    pub(super) emit: Option<Arc<[EmitGrant]>>,
    pub(super) calls: Arc<HostCalls>,
}

/// State of a plugin.
pub(super) struct Kept {
    pub(super) plugin: PluginName,
    /// None where plugins are only checked.
    pub(super) state: Option<State>,
    pub(super) quota: Quota,
}

impl Grants {
    /// Everything that is configured.
    ///
    /// # Errors
    /// A secret that is not there, a store that does not open, no certificates to trust.
    pub(super) fn new(name: &PluginName, plugin: &config::Plugin, services: &Services) -> Result<Self, Error> {
        let mut secrets = Vec::new();
        for (key, secret) in &plugin.secrets {
            match secret {
                Ok(secret) => secrets.push((key, secret)),
                Err(reason) => return Err(Error::Secret { name: key.clone(), reason: reason.clone() }),
            }
        }
        let allow = &plugin.allow;
        let calls = Arc::new(HostCalls::new(name, !allow.http.is_empty(), allow.kv.is_some()));
        let pairs = plugin.config.iter().map(|(key, value)| (key.clone(), value.clone()));
        let secret_pairs = secrets.iter().map(|(key, secret)| ((*key).clone(), secret.expose().to_owned()));
        let http = match allow.http.is_empty() {
            true => None,
            false => Some(Arc::new(Gate::new(allow, plugin.limits.http_body_max_bytes, services, calls.clone())?)),
        };
        let kv = match allow.kv {
            None => None,
            Some(quota) => Some(Kept { plugin: name.clone(), state: services.state()?, quota }),
        };
        Ok(Self {
            config: pairs.chain(secret_pairs).collect(),
            redactor: Redactor::new(secrets.iter().map(|(_, secret)| *secret)),
            http,
            kv,
            emit: allow.emit.as_ref().map(|grants| grants.as_slice().into()),
            calls,
        })
    }

    /// Without any, for a plugin that describes itself.
    pub(super) fn none(name: &PluginName) -> Self {
        Self {
            config: std::iter::empty::<(String, String)>().collect(),
            redactor: Redactor::default(),
            http: None,
            kv: None,
            emit: None,
            calls: Arc::new(HostCalls::new(name, false, false)),
        }
    }
}

/// What all plugins share, opened when the first one needs it.
#[derive(Default)]
pub(super) struct Services {
    state_dir: Option<PathBuf>,
    state: Mutex<Option<State>>,
    tls: Mutex<Option<http::Tls>>,
}

impl Services {
    pub(super) fn new(state_dir: Option<PathBuf>) -> Self {
        Self { state_dir, ..Self::default() }
    }

    /// The store; none where plugins are only checked, for a daemon may have it open.
    fn state(&self) -> Result<Option<State>, Error> {
        let Some(dir) = &self.state_dir else { return Ok(None) };
        let mut open = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(State::open(dir).map_err(|error| Error::State(error.to_string()))?);
        }
        Ok(open.clone())
    }

    /// TLS with the system's roots, or those of `SSL_CERT_FILE`.
    pub(super) fn tls(&self) -> Result<http::Tls, Error> {
        let mut loaded = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tls) = &*loaded {
            return Ok(tls.clone());
        }
        let tls = http::Tls::load().map_err(Error::Tls)?;
        *loaded = Some(tls.clone());
        Ok(tls)
    }
}
