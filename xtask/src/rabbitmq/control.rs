//! Commands for a running private node, also from another process than the one that started the node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::server::RabbitmqServer;

/// The file in the directory of a node that [`NodeControl::open`] reads: the port, the root of the server or an empty line, then a
/// line `NAME=VALUE` for each variable.
const FILE: &str = "control";
/// Limit for one command, in the form of `timeout`. A command waits without a limit for a node that hangs.
const CTL_WITHIN: &str = "120";

/// Address and environment of a node.
#[derive(Debug, Clone)]
pub struct NodeControl {
    server: RabbitmqServer,
    port: u16,
    environment: Vec<(String, String)>,
}

impl NodeControl {
    pub(super) fn new(server: RabbitmqServer, port: u16, environment: Vec<(String, String)>) -> Self {
        Self { server, port, environment }
    }

    /// The node of a directory, which another process started.
    ///
    /// # Errors
    /// When the directory is not the directory of a node.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut lines = text.lines();
        let (Some(port), Some(root)) = (lines.next(), lines.next()) else { bail!("{} is incomplete", file.display()) };
        let server = match root {
            "" => RabbitmqServer::installed(),
            root => RabbitmqServer::in_root(root.into()),
        };
        let variable = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self { server, port: port.parse()?, environment: lines.filter_map(variable).collect() })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let lines = self.environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
        let root = self.server.root().map(|root| root.display().to_string()).unwrap_or_default();
        Ok(std::fs::write(dir.join(FILE), format!("{}\n{root}\n{lines}", self.port))?)
    }

    /// The URL of the node, with its default user and virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn environment(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.environment.iter().cloned()
    }

    /// Runs `rabbitmqctl` and gives its output.
    ///
    /// # Errors
    /// When the command fails, with its error output, or when the node does not answer within two minutes.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("timeout")
            .args(["--kill-after=5", CTL_WITHIN])
            .args(self.server.words("rabbitmqctl"))
            .arg("-q")
            .args(arguments)
            .envs(self.environment())
            .output()?;
        if !output.status.success() {
            let (status, errors) = (output.status, String::from_utf8_lossy(&output.stderr));
            bail!("rabbitmqctl {arguments:?} ({status}): {errors}");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
