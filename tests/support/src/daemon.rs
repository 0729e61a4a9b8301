//! The daemon as a process: the real binary, its log, its listener.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::log::Log;
use crate::{eventually, patience};

/// A running daemon, killed when it is dropped.
pub struct Daemon {
    child: Child,
    log: Log,
    address: String,
}

/// The end of a daemon that did not start to listen.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All text of its stderr.
    pub stderr: String,
}

impl Daemon {
    /// Starts `binary run --config routes --state state --broker broker` on a free port, and waits until its routes are
    /// started.
    ///
    /// # Errors
    /// The daemon ended.
    ///
    /// # Panics
    /// When the daemon neither starts nor ends.
    pub async fn start(binary: &str, routes: &Path, state: &Path, broker: &str) -> Result<Self, Ended> {
        Self::start_with(binary, routes, state, broker, &[]).await
    }

    /// Like [`Daemon::start`], with further environment variables.
    ///
    /// # Errors
    /// The daemon ended.
    ///
    /// # Panics
    /// When the daemon neither starts nor ends.
    pub async fn start_with(
        binary: &str,
        routes: &Path,
        state: &Path,
        broker: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, Ended> {
        crate::share_compiled(state);
        let mut command = Self::command(binary, routes, broker);
        command.arg("--state").arg(state).envs(environment.iter().copied());
        Self::launch(command).await
    }

    /// `binary run --config routes --broker broker` on a free port, with the daemon's default state directory.
    #[must_use]
    pub fn command(binary: &str, routes: &Path, broker: &str) -> Command {
        let mut command = Command::new(binary);
        command.args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--broker", broker, "--config"]);
        command.arg(routes).env("LOG_LEVEL", "info,trunkline::trace=debug");
        command
    }

    /// Starts a command that was made from [`Daemon::command`], and waits like [`Daemon::start`].
    ///
    /// # Errors
    /// The daemon ended.
    ///
    /// # Panics
    /// When the daemon neither starts nor ends.
    pub async fn launch(mut command: Command) -> Result<Self, Ended> {
        let log = Log::new();
        let started = command.stdin(Stdio::null()).stderr(log.writer()).spawn();
        let mut child = started.expect("the daemon's binary runs");
        let started = eventually("the daemon's start", || {
            let ended = child.try_wait().expect("the process can be asked");
            let address =
                find(&log, STARTED).and_then(|_| find(&log, LISTENING)?["address"].as_str().map(str::to_owned));
            let answer = match (ended, address) {
                (Some(status), _) => Some(Err(status)),
                (None, Some(address)) => Some(Ok(address)),
                (None, None) => None,
            };
            async move { answer }
        })
        .await;
        match started {
            Ok(address) => Ok(Self { child, log, address }),
            Err(status) => Err(Ended { status, stderr: log.text().clone() }),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of a path: `http://ADDRESS` and the path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until every route runs. A test that publishes to the broker itself finds the queues only then.
    pub async fn runs(&self) {
        eventually("every route to run", || {
            let is_well = self.get("/health").0 == 200;
            async move { is_well.then_some(()) }
        })
        .await;
    }

    /// `GET`, for any status.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, String) {
        let request = ureq::get(self.url(path)).config().timeout_global(Some(patience()));
        let mut response = request.http_status_as_error(false).build().call().expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a text"))
    }

    /// `POST` of a JSON text, for any status.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, _, answer) = self.post_for(path, body, "");
        (status, answer)
    }

    /// Like [`Daemon::post`], with one header of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn post_for(&self, path: &str, body: &str, header: &str) -> (u16, Option<String>, Value) {
        let request = ureq::post(self.url(path)).config().timeout_global(Some(patience()));
        let request = request.http_status_as_error(false).build();
        let mut response = request.header("content-type", "application/json").send(body).expect("an answer");
        let wanted = response.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().read_to_string().expect("a text");
        (response.status().as_u16(), wanted, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The value of a series of `/metrics`, named as in that text; 0 when the series is missing.
    #[must_use]
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// The sum over all series of a name.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let of_name = lines.filter(|rest| rest.starts_with(['{', ' ']));
        of_name.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The log line with the outcome of an event.
    pub async fn settled(&self, id: &str) -> Value {
        eventually(&format!("the end of event {id}"), || {
            let log = self.log.text();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = lines.rfind(|line| {
                line["message"] == "settled"
                    && line["event"] == id
                    && line["outcome"] != "retry"
                    && line["outcome"] != "parked"
            });
            async move { found }
        })
        .await
    }

    /// The log so far.
    ///
    /// # Panics
    /// When the log is not UTF-8.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text().clone()
    }

    /// Waits until the log contains a text, and gives the log so far.
    pub async fn logged(&self, text: &str) -> String {
        eventually(text, || {
            let log = self.log();
            async move { log.contains(text).then_some(log) }
        })
        .await
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        sent.expect("kill can be run");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the daemon does not end.
    pub async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the daemon's end", || {
            let ended = child.try_wait().expect("the process can be asked");
            async move { ended }
        })
        .await
    }

    /// Sends SIGTERM, and gives the exit status.
    pub async fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Messages of the log lines of a start.
const STARTED: &str = "the daemon started";
const LISTENING: &str = "the daemon listens for HTTP requests";

fn find(log: &Log, message: &str) -> Option<Value> {
    log.text()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == message)
}
