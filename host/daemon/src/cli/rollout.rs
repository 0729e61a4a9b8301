//! `trunkline rollout`: asks a running daemon over its API.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Api, Format};
use super::exit;

const WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    order: Order,
    #[command(flatten)]
    api: Api,
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

/// Asks, prints, and gives the exit code.
pub(crate) fn run(arguments: &Rollout) -> u8 {
    match ask(arguments) {
        Ok((status, body)) if (200..300).contains(&status) => {
            print(&body, arguments.api.format);
            exit::OK
        }
        Ok((_, problem)) => {
            let detail = problem["detail"].as_str().map_or_else(|| problem.to_string(), str::to_owned);
            eprintln!("error: {detail}");
            exit::FAILED
        }
        Err(error) => {
            eprintln!("error: no daemon answers at {}: {error}", arguments.api.url);
            exit::UNAVAILABLE
        }
    }
}

fn ask(arguments: &Rollout) -> Result<(u16, Value), ureq::Error> {
    let ordered = |route: &str, word: &str| arguments.api.post(&format!("rollouts/{route}/{word}"), None, WITHIN);
    match &arguments.order {
        Order::Status => arguments.api.get("rollouts", WITHIN),
        Order::Promote { route } => ordered(route, "promote"),
        Order::Abort { route } => ordered(route, "abort"),
    }
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
