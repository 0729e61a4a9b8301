//! The answer of an agent: `{status?, response: {text, type?, attachments?}, agentMetadata?, error?}`. Each field is
//! checked on its own, and only `response.text` is required.

use super::*;
use whatsapp_messages::AgentMetadata;

/// The part of a [`Reply`] that comes from the agent.
pub(crate) struct Answer {
    status: Status,
    response: whatsapp_messages::Response,
    metadata: AgentMetadata,
    error: Option<Problem>,
}

/// Reads an answer.
///
/// # Errors
/// A retry that names the wrong field, because an agent may answer correctly the next time.
pub(crate) fn read(response: &Response, took: Duration) -> Result<Answer, Failure> {
    let body: Value = response.json()?;
    parse(&body, took).map_err(|problem| Failure::retry(format!("the agent's answer: {problem}")))
}

pub(crate) fn parse(body: &Value, took: Duration) -> Result<Answer, String> {
    let response: whatsapp_messages::Response =
        from_value(body["response"].clone()).map_err(|error| format!("`response`: {error}"))?;
    if response.text.trim().is_empty() {
        return Err("`response.text` is empty".to_owned());
    }
    let status = optional(body, "status")?.unwrap_or(Status::Success);
    let mut metadata: AgentMetadata = optional(body, "agentMetadata")?.unwrap_or_default();
    metadata.processing_time.get_or_insert(took.as_millis() as f64);
    Ok(Answer { status, response, metadata, error: optional(body, "error")? })
}

fn optional<T: serde::de::DeserializeOwned>(body: &Value, field: &str) -> Result<Option<T>, String> {
    if body[field].is_null() {
        return Ok(None);
    }
    from_value(body[field].clone()).map(Some).map_err(|error| format!("`{field}`: {error}"))
}

impl Answer {
    pub(crate) fn into_reply(self, task: &Task) -> Reply {
        Reply {
            // The id is the same for every attempt and every agent, so that a reply is sent once.
            message_id: format!("reply-{}", task.message.message_id),
            original_message_id: task.message.message_id.clone(),
            timestamp: time::now(),
            status: self.status,
            contact: task.contact.clone(),
            response: self.response,
            agent_metadata: self.metadata,
            error: self.error,
        }
    }
}
