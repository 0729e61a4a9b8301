//! `trunkline rollout`: asks a running daemon over its API.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::exit;

#[derive(Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    order: Order,
    /// Where the daemon listens.
    #[arg(long, default_value = "http://127.0.0.1:8000", env = "TRUNKLINE_URL", global = true)]
    url: String,
    /// A token of `[http] tokens`.
    #[arg(long, env = "TRUNKLINE_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
}

#[derive(Subcommand)]
enum Order {
    /// Every canary: where its trial stands and what was counted.
    Status,
    /// The canary of a route gets every event.
    Promote {
        /// Its route.
        route: String,
    },
    /// The canary of a route gets nothing more.
    Abort {
        /// Its route.
        route: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Asks, prints, and gives the exit code.
pub(crate) fn run(arguments: &Rollout) -> u8 {
    match ask(arguments) {
        Ok((status, body)) if (200..300).contains(&status) => {
            print(&body, arguments.format);
            exit::OK
        }
        Ok((_, problem)) => {
            let detail = problem["detail"].as_str().map_or_else(|| problem.to_string(), str::to_owned);
            eprintln!("error: {detail}");
            exit::FAILED
        }
        Err(error) => {
            eprintln!("error: no daemon answers at {}: {error}", arguments.url);
            exit::UNAVAILABLE
        }
    }
}

fn ask(arguments: &Rollout) -> Result<(u16, Value), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(10)))
        .build()
        .into();
    let base = format!("{}/api/v1/rollouts", arguments.url.trim_end_matches('/'));
    let bearer = arguments.token.as_ref().map(|token| format!("Bearer {token}"));
    let ordered = |route: &str, word: &str| {
        let mut request = agent.post(format!("{base}/{route}/{word}"));
        if let Some(bearer) = &bearer {
            request = request.header("authorization", bearer);
        }
        request.send_empty()
    };
    let mut response = match &arguments.order {
        Order::Status => {
            let mut request = agent.get(&base);
            if let Some(bearer) = &bearer {
                request = request.header("authorization", bearer);
            }
            request.call()
        }
        Order::Promote { route } => ordered(route, "promote"),
        Order::Abort { route } => ordered(route, "abort"),
    }?;
    let text = response.body_mut().read_to_string()?;
    Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn print(body: &Value, format: Format) {
    if format == Format::Json {
        println!("{body}");
        return;
    }
    let all = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
    if all.is_empty() {
        println!("no canary has got an event yet");
    }
    for rollout in &all {
        let (trial, text) = (&rollout["trial"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
        println!(
            "{}: {} ({}% of {}) {}: {} good, {} bad, {} slow, {} failed by both{}",
            text(&rollout["route"]),
            text(&rollout["canary"]),
            rollout["percent"],
            text(&rollout["stable"]),
            text(&trial["phase"]),
            trial["good"],
            trial["bad"],
            trial["slow"],
            trial["both"],
            match text(&trial["reason"]).as_str() {
                "" => String::new(),
                reason => format!("; {reason}"),
            }
        );
    }
}
