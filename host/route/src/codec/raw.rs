//! `raw`: the body is the data; everything else stands in AMQP properties and headers.

use super::{Encoded, Error, Outgoing, check_json, foreign_text_headers, from_properties, header, is_json};
use trunkline_event::{Event, Headers, Message};

pub(super) fn decode(message: &Message) -> Result<Event, Error> {
    let mut event = from_properties(message);
    if is_json(&event.content_type) {
        check_json(&event.data).map_err(Error::Json)?;
    }
    event.attributes = foreign_text_headers(&message.properties.headers);
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
