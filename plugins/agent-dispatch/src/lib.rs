//! Asks an agent over HTTP and emits its reply.
//!
//! The address is config `agent-TYPE` for the task's type, else config `agent`. Passing failures are tried again: no
//! answer, 408, 425, 429, 5xx, and an answer that cannot be read. Any other status would be the same the next time, so
//! it becomes a reply that reports an error to the contact.

mod answer;

use std::time::{Duration, Instant};

use trunkline_plugin::http::{Error, Request, Response};
use trunkline_plugin::json::{Value, from_value, json};
use trunkline_plugin::{Emission, Event, Failure, config, handler};
use whatsapp_messages::{Problem, Reply, Status, Task, TaskType, time};

/// Seconds for each step of a request; config `timeout-s`.
const TIMEOUT_S: f64 = 25.0;
/// The text of the reply when the agent refuses a task; config `error-text`.
const ERROR_TEXT: &str = "I'm having trouble processing your request. Please try again.";

/// Emits the agent's answer, or a reply that reports an error to the contact.
#[handler(
    description = "Asks an agent over HTTP and emits the agent's reply",
    takes = ["agent.task"],
    emits = ["agent.reply"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let mut raw: Value = event.json()?;
    let task: Task = from_value(raw.clone()).map_err(|error| Failure::reject(format!("{}: {error}", event.kind)))?;
    raw["metadata"]["retryCount"] = json!(event.attempt.saturating_sub(1));
    let begun = Instant::now();
    let reply = match ask(&event.id, task.task_type, &raw)? {
        Ok(response) => answer::read(&response, begun.elapsed())?.into_reply(&task),
        Err(problem) => refused(&task, problem, begun.elapsed())?,
    };
    Ok(vec![Emission::json("agent.reply", &reply)?.subject(task.contact.remote_jid)])
}

/// The agent's answer with status 2xx, or the problem when the agent refuses this task.
fn ask(id: &str, kind: TaskType, task: &Value) -> Result<Result<Response, Problem>, Failure> {
    let key = match kind {
        TaskType::Conversation => "agent-conversation",
        TaskType::Appointment => "agent-appointment",
        TaskType::Order => "agent-order",
        TaskType::Search => "agent-search",
    };
    let address = config::get(key).or_else(|| config::get("agent"));
    let address = address.ok_or_else(|| Failure::retry(format!("neither config {key:?} nor \"agent\" is set")))?;
    let timeout = config::number("timeout-s", TIMEOUT_S)?.clamp(0.001, 600.0);
    let mut request = Request::post(&address)
        .json(task)?
        .header("accept", "application/json")
        .header("idempotency-key", id)
        .timeout(Duration::from_secs_f64(timeout));
    if let Some(token) = config::get("AGENT_TOKEN") {
        request = request.header("authorization", &format!("Bearer {token}"));
    }
    let problem = |code: &str, message: String| Ok(Err(Problem { code: code.to_owned(), message }));
    let response = match request.send() {
        Ok(response) => response,
        Err(Error::TooLarge) => return problem("answer-too-large", Error::TooLarge.to_string()),
        Err(error) => return Err(error.into()),
    };
    match response.status {
        200..=299 => Ok(Ok(response)),
        _ if response.is_passing() => response.ok().map(Ok),
        status => problem("agent-refused", format!("the agent answered {status}{}", excerpt(&response.body))),
    }
}

/// The beginning of a response body, in one line.
fn excerpt(body: &[u8]) -> String {
    const MAX: usize = 200;
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {}", text.chars().take(MAX).collect::<String>()) }
}

fn refused(task: &Task, problem: Problem, took: Duration) -> Result<Reply, Failure> {
    let text = config::get("error-text").unwrap_or_else(|| ERROR_TEXT.to_owned());
    let said = json!({ "status": "error", "response": { "text": text } });
    let mut reply = answer::parse(&said, took).map_err(Failure::reject)?.into_reply(task);
    reply.error = Some(problem);
    Ok(reply)
}

#[cfg(test)]
mod tests;
