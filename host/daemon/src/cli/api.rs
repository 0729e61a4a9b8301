//! How a verb asks a running daemon: where it is, who asks, and how the answer is printed.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

/// Flags of every verb that needs a daemon.
#[derive(Args)]
pub(crate) struct Api {
    /// Where the daemon listens.
    #[arg(long, default_value = "http://127.0.0.1:8000", env = "TRUNKLINE_URL", global = true)]
    pub(crate) url: String,
    /// A token of `[http] tokens`.
    #[arg(long, env = "TRUNKLINE_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What the daemon answered, whatever the status.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// JSON, or the text as a string.
    pub(crate) body: Value,
    /// When it asks to be asked again (`Retry-After`).
    pub(crate) retry_after: Option<Duration>,
}

impl Api {
    /// `GET` of a path below `/api/v1`: status and body, whatever the status.
    pub(crate) fn get(&self, path: &str, within: Duration) -> Result<(u16, Value), ureq::Error> {
        let answered = answer(self.authorized(agent(within).get(self.address(path))).call()?)?;
        Ok((answered.status, answered.body))
    }

    /// `POST` of a body, or of none.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>, within: Duration) -> Result<(u16, Value), ureq::Error> {
        let answered = self.send(path, body, within)?;
        Ok((answered.status, answered.body))
    }

    /// As [`Api::post`], with when to ask again.
    pub(crate) fn send(&self, path: &str, body: Option<&Value>, within: Duration) -> Result<Answered, ureq::Error> {
        let request = self.authorized(agent(within).post(self.address(path)));
        answer(match body {
            Some(body) => request.send_json(body)?,
            None => request.send_empty()?,
        })
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url.trim_end_matches('/'))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }
}

fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(within)).build().into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answered, ureq::Error> {
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = response.body_mut().read_to_string()?;
    Ok(Answered {
        status: response.status().as_u16(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        retry_after: retry_after.map(Duration::from_secs),
    })
}
