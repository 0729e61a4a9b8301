//! `raw`: the body is the data; all other fields are AMQP properties and headers.

use super::attribute::foreign_attributes;
use super::envelope::{BYTES, CodecError, Encoded, Outgoing, from_properties, is_json, read_json};
use super::header;
use trunkline_event::{Event, Message};

pub(super) fn decode(message: &Message) -> Result<Event, CodecError> {
    let mut event = from_properties(message);
    read_json(&mut event)?;
    event.attributes = foreign_attributes(&message.properties.headers);
    Ok(event)
}

pub(super) fn encode(event: &Outgoing<'_>) -> Encoded {
    let mut headers = event.header_table();
    for (name, value) in event.attributes {
        headers.set(name.clone(), value.as_str());
    }
    if let Some(subject) = event.subject {
        headers.set(header::SUBJECT, subject);
    }
    if let Some(user) = event.user {
        headers.set(header::USER, user);
    }
    // An empty body is not JSON, so the next route would refuse an empty body that declares JSON. A CloudEvent may have no data.
    let is_absent = event.data.is_empty() && is_json(event.content_type);
    let content_type = if is_absent { BYTES } else { event.content_type };
    Encoded { content_type: content_type.to_owned(), body: event.data.clone(), headers }
}
