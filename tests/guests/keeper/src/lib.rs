//! Carries out the steps that the event lists on the plugin's state, and emits each result.

use serde::Deserialize;
use trunkline_plugin::json::{Value, json};
use trunkline_plugin::{Emission, Event, Failure, handler, kv};

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum Step {
    Get {
        key: String,
    },
    Set {
        key: String,
        value: String,
    },
    Fill {
        key: String,
        bytes: usize,
    },
    Delete {
        key: String,
    },
    Keys,
    Increment {
        key: String,
        by: i64,
    },
    /// Appends the event's id by compare-and-set, unless the id is in the list.
    Append {
        key: String,
    },
    Fail {
        text: String,
    },
    Trap,
}

/// One `kept` with the results. An error of the state becomes the plugin's own failure.
#[handler(description = "Keeps state", emits = ["kept"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let steps: Vec<Step> = event.json()?;
    let mut results = Vec::new();
    for step in steps {
        results.push(run(&event, step)?);
    }
    Ok(vec![Emission::json("kept", &results)?])
}

fn run(event: &Event, step: Step) -> Result<Value, Failure> {
    Ok(match step {
        Step::Get { key } => json!(kv::get(&key)?.map(|value| String::from_utf8_lossy(&value).into_owned())),
        Step::Set { key, value } => json!(kv::set(&key, value.as_bytes())?),
        Step::Fill { key, bytes } => json!(kv::set(&key, &vec![b'f'; bytes])?),
        Step::Delete { key } => json!(kv::delete(&key)?),
        Step::Keys => json!(kv::keys()?),
        Step::Increment { key, by } => json!(kv::increment(&key, by)?),
        Step::Append { key } => {
            let list = kv::update(&key, |seen| {
                let list = String::from_utf8_lossy(seen.unwrap_or_default()).into_owned();
                let known = list.lines().any(|line| line == event.id);
                Ok(if known { list } else { format!("{list}{}\n", event.id) }.into_bytes())
            })?;
            json!(list.split(|byte| *byte == b'\n').count() - 1)
        }
        Step::Fail { text } => return Err(Failure::retry(text)),
        Step::Trap => panic!("as told"),
    })
}
