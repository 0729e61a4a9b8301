//! The messages in the queues of the WhatsApp agent, shared by its plugins: the [`Received`] message of a contact, the
//! [`Task`] in `ag_queue`, the [`Reply`] in `wb_queue`, and the [`Sent`] notice. Plugins that pass a message on keep its
//! unknown fields.

pub mod phone;
pub mod time;

use serde::{Deserialize, Serialize};
use trunkline_plugin::json::Value;

/// A message of a contact, in one form for all senders: `whatsapp.message.received`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The WhatsApp number that received the message.
    pub instance: String,
    /// The sender.
    pub contact: Contact,
    /// The message.
    pub message: Text,
}

/// A task for an agent, in `ag_queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The id of the task.
    pub message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// The kind of agent for the task.
    pub task_type: TaskType,
    /// The sender.
    pub contact: Contact,
    /// The message.
    pub message: Text,
    /// The conversation before the message.
    pub context: Context,
    /// Priority and attempts.
    pub metadata: Metadata,
}

/// The kind of agent for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// Any other task.
    Conversation,
    /// An appointment.
    Appointment,
    /// An order.
    Order,
    /// A search.
    Search,
}

/// A person on WhatsApp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// `420777123456@s.whatsapp.net`
    pub remote_jid: String,
    /// E.164.
    pub phone_number: Option<String>,
    /// The name that the person chose.
    pub name: Option<String>,
    /// Calling code, `+420`.
    pub country_code: Option<String>,
}

/// One message of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Text {
    /// The text.
    pub text: String,
    /// WhatsApp's id.
    pub message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
}

/// Background for the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Oldest line first, without the message itself.
    pub conversation_history: Vec<Line>,
    /// Notes of colleagues about the contact.
    pub user_notes: Option<String>,
    /// Any data of the session.
    pub session_data: Value,
}

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The speaker.
    pub role: Role,
    /// The text, shortened if it was long.
    pub text: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
}

/// The speaker of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The contact.
    User,
    /// The agent.
    Assistant,
}

/// Priority and attempts of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The priority.
    pub priority: Priority,
    /// Attempts so far.
    pub retry_count: u32,
    /// Attempts after the first one.
    pub max_retries: u32,
}

/// The priority of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// In order of arrival.
    Normal,
    /// Before normal tasks.
    High,
    /// Before all other tasks.
    Urgent,
}

impl Priority {
    /// The AMQP priority, from 0 to 9.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::Normal => 1,
            Self::High => 5,
            Self::Urgent => 9,
        }
    }
}

/// A reply to a contact, in `wb_queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The id of the reply. A reply is sent once.
    pub message_id: String,
    /// WhatsApp's id of the answered message.
    pub original_message_id: String,
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// The result of the agent.
    pub status: Status,
    /// The recipient.
    pub contact: Contact,
    /// The content.
    pub response: Response,
    /// Figures of the agent.
    #[serde(default)]
    pub agent_metadata: AgentMetadata,
    /// The error, when the status is not `success`.
    #[serde(default)]
    pub error: Option<Problem>,
}

/// The result of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A complete answer.
    Success,
    /// No answer.
    Error,
    /// A part of the answer.
    Partial,
}

/// The content of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The text.
    pub text: String,
    /// `text`, or another type that the agent names.
    #[serde(rename = "type", default = "text_type")]
    pub kind: String,
    /// Files that follow the text.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

/// A file that WhatsApp downloads from an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The kind of the file.
    #[serde(rename = "type", default)]
    pub media: Media,
    /// A public address.
    pub url: String,
    /// The name of a document in the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The media type, for example `application/pdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The text below the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// WhatsApp shows the picture.
    Image,
    /// WhatsApp offers the file for download.
    #[default]
    Document,
    /// WhatsApp plays the video.
    Video,
}

impl Media {
    /// The word for the kind of the file, which all senders use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Document => "document",
            Self::Video => "video",
        }
    }
}

fn text_type() -> String {
    "text".to_owned()
}

impl Response {
    /// A response with a text only.
    #[must_use]
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: text_type(), attachments: Vec::new() }
    }
}

/// Figures about an answer, as the agent reports them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentMetadata {
    /// Names of tools.
    pub tools_used: Vec<String>,
    /// A number, or the steps themselves.
    pub reasoning_steps: Value,
    /// In milliseconds.
    pub processing_time: Option<f64>,
    /// The number of tokens.
    pub tokens_used: Option<u64>,
}

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A code for programs.
    pub code: String,
    /// A text for people.
    pub message: String,
}

/// A sent reply: `whatsapp.message.sent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The WhatsApp number that sent the reply.
    pub instance: String,
    /// The id of the reply.
    pub message_id: String,
    /// WhatsApp's id of the answered message.
    pub original_message_id: String,
    /// The sender's own id of the message, when it gave one.
    pub provider_message_id: Option<String>,
    /// The recipient.
    pub contact: Contact,
    /// The text. For a file without a text, the name or the address of the file.
    pub text: String,
    /// The time at which the sender accepted the reply; RFC 3339, UTC.
    pub timestamp: String,
}
