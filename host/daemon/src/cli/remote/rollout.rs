//! `trunkline rollout`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Api, ApiResponse, Format};
use crate::cli::exit;

/// Time for the daemon to respond.
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(in crate::cli) struct Rollout {
    #[command(subcommand)]
    verb: RolloutVerb,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum RolloutVerb {
    /// Show every canary with the state of its trial and the counted results.
    Status,
    /// Promote the canary of a route. The canary then handles every event.
    Promote {
        /// The name of the route.
        route: String,
    },
    /// Stop sending events of a route to its canary. The stable plugin then handles every event.
    Abort {
        /// The name of the route.
        route: String,
    },
}

/// Sends the request of the verb and prints the result.
pub(in crate::cli) fn run(arguments: &Rollout) -> u8 {
    match ask(arguments) {
        Ok(ApiResponse { status: 200..300, body, .. }) => {
            print(&body, arguments.api.format);
            exit::OK
        }
        Ok(ApiResponse { body: problem, .. }) => {
            let detail = problem["detail"].as_str().map_or_else(|| problem.to_string(), str::to_owned);
            eprintln!("error: {detail}");
            exit::FAILED
        }
        Err(error) => {
            eprintln!("error: no daemon responds at {}: {error}", arguments.api.url);
            exit::UNAVAILABLE
        }
    }
}

fn ask(arguments: &Rollout) -> Result<ApiResponse, ureq::Error> {
    let post = |route: &str, word: &str| arguments.api.post(&format!("rollouts/{route}/{word}"), None, WITHIN);
    match &arguments.verb {
        RolloutVerb::Status => arguments.api.get("rollouts", WITHIN),
        RolloutVerb::Promote { route } => post(route, "promote"),
        RolloutVerb::Abort { route } => post(route, "abort"),
    }
}

fn print(body: &Value, format: Format) {
    if format == Format::Json {
        println!("{body}");
        return;
    }
    let all = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
    if all.is_empty() {
        println!("no canary has received an event yet");
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
