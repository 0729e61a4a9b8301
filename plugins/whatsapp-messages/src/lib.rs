//! What lies in the queues of the WhatsApp agent, shared by its plugins: the [`Task`] in `ag_queue`, the [`Reply`] in
//! `wb_queue`, and what was [`Sent`]. Fields that are not known here are let through by whoever passes a message on.

pub mod time;

use serde::{Deserialize, Serialize};
use trunkline_plugin::json::Value;

/// What an agent is asked: `ag_queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Identity of the task.
    pub message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// Which agent it is for.
    pub task_type: TaskType,
    /// Who wrote.
    pub contact: Contact,
    /// What was written.
    pub message: Text,
    /// What was said before.
    pub context: Context,
    /// How it is to be handled.
    pub metadata: Metadata,
}

/// Which agent a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// Anything else.
    Conversation,
    /// A time to meet.
    Appointment,
    /// Something to buy.
    Order,
    /// Something to find.
    Search,
}

/// Somebody on WhatsApp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// `420777123456@s.whatsapp.net`
    pub remote_jid: String,
    /// E.164.
    pub phone_number: Option<String>,
    /// As they call themselves.
    pub name: Option<String>,
    /// Calling code, `+420`.
    pub country_code: Option<String>,
}

/// One message of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Text {
    /// The words.
    pub text: String,
    /// WhatsApp's id.
    pub message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
}

/// What an agent may want to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The oldest first, without the message itself.
    pub conversation_history: Vec<Line>,
    /// What colleagues noted about the contact.
    pub user_notes: Option<String>,
    /// Free.
    pub session_data: Value,
}

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Who said it.
    pub role: Role,
    /// The words, shortened if they were many.
    pub text: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The contact.
    User,
    /// The agent.
    Assistant,
}

/// How a task is to be handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// How soon.
    pub priority: Priority,
    /// Attempts so far.
    pub retry_count: u32,
    /// Attempts beyond the first.
    pub max_retries: u32,
}

/// How soon a task is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// In its turn.
    Normal,
    /// Before the normal ones.
    High,
    /// Before all others.
    Urgent,
}

impl Priority {
    /// As AMQP has it, from 0 to 9.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::Normal => 1,
            Self::High => 5,
            Self::Urgent => 9,
        }
    }
}

/// What a contact is to be told: `wb_queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// Identity of the reply: it is sent once.
    pub message_id: String,
    /// WhatsApp's id of the message that it answers.
    pub original_message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// How it went.
    pub status: Status,
    /// To whom.
    pub contact: Contact,
    /// What.
    pub response: Response,
    /// How the agent came to it.
    #[serde(default)]
    pub agent_metadata: AgentMetadata,
    /// Why it is no better.
    #[serde(default)]
    pub error: Option<Problem>,
}

/// How an agent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The answer.
    Success,
    /// No answer.
    Error,
    /// A part of the answer.
    Partial,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The words.
    pub text: String,
    /// `text`, or what the gateway knows besides.
    #[serde(rename = "type", default = "text_type")]
    pub kind: String,
    /// As the gateway takes them.
    #[serde(default)]
    pub attachments: Vec<Value>,
}

fn text_type() -> String {
    "text".to_owned()
}

impl Response {
    /// Words only.
    #[must_use]
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: text_type(), attachments: Vec::new() }
    }
}

/// How an agent came to its answer; all of it as the agent says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentMetadata {
    /// Names of tools.
    pub tools_used: Vec<String>,
    /// A number, or the steps themselves.
    pub reasoning_steps: Value,
    /// Milliseconds.
    pub processing_time: Option<f64>,
    /// Tokens.
    pub tokens_used: Option<u64>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One word, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What was sent: `whatsapp.message.sent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Which of the numbers that we answer for.
    pub instance: String,
    /// The reply's.
    pub message_id: String,
    /// The message that it answers.
    pub original_message_id: String,
    /// The gateway's own id, if it gave one.
    pub provider_message_id: Option<String>,
    /// To whom.
    pub contact: Contact,
    /// What.
    pub text: String,
    /// When the gateway took it; RFC 3339, UTC.
    pub timestamp: String,
}
