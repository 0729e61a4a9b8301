//! The HTTP client of the verbs: the address of the daemon, the token, and the format of the output.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

/// Arguments of every verb that asks a daemon.
#[derive(Args)]
pub(super) struct Api {
    /// The address of the daemon's HTTP listener.
    #[arg(long, default_value = "http://127.0.0.1:8000", env = "TRUNKLINE_URL", global = true)]
    pub(super) url: String,
    /// A bearer token that `tokens` of `[http]` lists.
    #[arg(long, env = "TRUNKLINE_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// The format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub(super) format: Format,
}

/// The format of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// A response of the daemon, whatever its status.
pub(super) struct ApiResponse {
    pub(super) status: u16,
    /// The JSON of the body, or its text as a string.
    pub(super) body: Value,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<Duration>,
}

impl Api {
    /// `GET` of a path below `/api/v1`.
    pub(super) fn get(&self, path: &str, within: Duration) -> Result<ApiResponse, ureq::Error> {
        read(self.authorized(agent(within).get(self.address(path))).call()?)
    }

    /// `POST` to a path below `/api/v1`, with or without a body.
    pub(super) fn post(&self, path: &str, body: Option<&Value>, within: Duration) -> Result<ApiResponse, ureq::Error> {
        let request = self.authorized(agent(within).post(self.address(path)));
        read(match body {
            Some(body) => request.send_json(body)?,
            None => request.send_empty()?,
        })
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url.trim().trim_end_matches('/'))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        // Tools that keep secrets often append a line feed.
        match self.token.as_deref().map(str::trim) {
            None | Some("") => request,
            Some(token) => request.header("authorization", format!("Bearer {token}")),
        }
    }
}

fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(within)).build().into()
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<ApiResponse, ureq::Error> {
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = response.body_mut().read_to_string()?;
    Ok(ApiResponse {
        status: response.status().as_u16(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        retry_after: retry_after.map(Duration::from_secs),
    })
}
