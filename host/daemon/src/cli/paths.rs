//! The arguments of every verb that reads routes.toml.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use trunkline_config::{self as config, Sources};

use super::exit;

#[derive(Args)]
pub(crate) struct Paths {
    /// The routes file. The file describes routes, queues and plugins.
    #[arg(long, default_value = "routes.toml", env = "TRUNKLINE_CONFIG")]
    pub(crate) config: PathBuf,
    /// The URL of the broker, or "embedded". This flag overrides $RABBITMQ_URL and `url` in [broker] of the routes file.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// The IP address and the port of the HTTP listener, such as 127.0.0.1:8000. This flag overrides $HOST, $PORT and `listen` in [http] of the routes file.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// The directory for the embedded broker, the plugins' state and compiled code. This flag overrides `state-dir` of
    /// the routes file and $STATE_DIRECTORY. `state-dir` overrides $STATE_DIRECTORY. Without these three settings, the
    /// directory is .trunkline beside the routes file.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Allow other machines to reach the HTTP listener and hooks without a token.
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl Paths {
    /// The sources of the configuration.
    pub(super) fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: environment(),
            broker_url: self.broker.clone(),
            listen: self.listen.map(|address| address.to_string()),
            state_dir: self.state.clone(),
            insecure: self.insecure,
        }
    }

    /// Reads routes.toml. Prints every error and returns the exit code if there is one.
    pub(super) fn load(&self) -> Result<config::Loaded, u8> {
        config::load(&self.sources()).map_err(|rejected| {
            eprint!("{}", rejected.render(std::io::stderr().is_terminal()));
            if rejected.is_missing() { exit::NO_INPUT } else { exit::CONFIG }
        })
    }
}

/// The environment, without variables that are not UTF-8.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
