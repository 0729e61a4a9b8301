//! The grants of one plugin, made once when it is loaded and shared by its calls. The linker decides which interfaces a
//! plugin may import (`abi/imports.rs`); the host's side of these interfaces is made here.

use std::sync::Arc;

use wasmtime_wasi_config::WasiConfigVariables;

use crate::call::redact::Redactor;
use crate::engine::services::Services;
use crate::http::client::HttpClient;
use crate::load::error::Error;
use trunkline_config::{self as config, EmitGrant, Quota};
use trunkline_event::PluginName;
use trunkline_state::StateStore;
use trunkline_telemetry::{HostCallMetrics, HostInterface};

/// The host's side of a plugin's imports.
pub(crate) struct Grants {
    /// Config values and secrets.
    pub(crate) config: WasiConfigVariables,
    pub(crate) redactor: Redactor,
    pub(crate) http: Option<Arc<HttpClient>>,
    pub(crate) kv: Option<PluginState>,
    /// Patterns that emissions have to match.
    pub(crate) emit: Option<Arc<[EmitGrant]>>,
    pub(crate) calls: Arc<HostCallMetrics>,
}

/// State of one plugin.
pub(crate) struct PluginState {
    pub(crate) plugin: PluginName,
    /// `None` in an engine that only checks plugins.
    pub(crate) state: Option<StateStore>,
    pub(crate) quota: Quota,
}

impl Grants {
    /// The configured grants.
    ///
    /// # Errors
    /// When a secret is missing, the store cannot be opened, or no trusted certificate is found.
    pub(crate) fn new(name: &PluginName, plugin: &config::Plugin, services: &Services) -> Result<Self, Error> {
        let mut secrets = Vec::new();
        for (key, secret) in &plugin.secrets {
            match secret {
                Ok(secret) => secrets.push((key, secret)),
                Err(reason) => return Err(Error::Secret { name: key.clone(), reason: reason.clone() }),
            }
        }
        let allow = &plugin.allow;
        let http = (!allow.http.is_empty()).then_some(HostInterface::Http);
        let kv = allow.kv.is_some().then_some(HostInterface::Kv);
        let calls = Arc::new(HostCallMetrics::new(name, &http.into_iter().chain(kv).collect::<Vec<_>>()));
        let pairs = plugin.config.iter().map(|(key, value)| (key.clone(), value.clone()));
        let secret_pairs = secrets.iter().map(|(key, secret)| ((*key).clone(), secret.expose().to_owned()));
        let http = match allow.http.is_empty() {
            true => None,
            false => {
                let needs_tls = allow.http.iter().any(|origin| origin.is_https);
                let tls = if needs_tls { Some(services.tls()?) } else { None };
                Some(Arc::new(HttpClient::new(allow, plugin.limits.http_body_max_bytes, tls, calls.clone())))
            }
        };
        let kv = match allow.kv {
            None => None,
            Some(quota) => Some(PluginState { plugin: name.clone(), state: services.state()?, quota }),
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

    /// No grants, for a plugin that describes itself.
    pub(crate) fn none(name: &PluginName) -> Self {
        Self {
            config: std::iter::empty::<(String, String)>().collect(),
            redactor: Redactor::default(),
            http: None,
            kv: None,
            emit: None,
            calls: Arc::new(HostCallMetrics::new(name, &[])),
        }
    }
}
