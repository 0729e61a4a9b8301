//! `raw`: the body is the data; all other fields are AMQP properties and headers.

use super::attribute::foreign_attributes;
use super::envelope::{CodecError, Encoded, Outgoing, from_properties, read_json};
use super::header;
use trunkline_event::{Event, Headers, Message};

pub(super) fn decode(message: &Message) -> Result<Event, CodecError> {
    let mut event = from_properties(message);
    read_json(&mut event)?;
    event.attributes = foreign_attributes(&message.properties.headers);
    Ok(event)
}

pub(super) fn encode(event: &Outgoing<'_>) -> Encoded {
    let mut headers = Headers::default();
    for (name, value) in event.attributes {
        headers.set(name.as_str(), value.as_str());
    }
    if let Some(subject) = event.subject {
        headers.set(header::SUBJECT, subject);
    }
    if let Some(user) = event.user {
        headers.set(header::USER, user);
    }
    Encoded { content_type: event.content_type.to_owned(), body: event.data.clone(), headers }
}
