//! An event that came in over HTTP.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use trunkline_broker::DedupeRecord;
use trunkline_http::PublishRequest;

/// An event that came in. Empty fields were not given.
#[derive(Debug, Default)]
pub(super) struct IncomingEvent {
    pub(super) id: Option<String>,
    pub(super) kind: String,
    pub(super) data: Bytes,
    pub(super) content_type: String,
    pub(super) source: String,
    pub(super) subject: Option<String>,
    pub(super) time: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) routing_key: Option<String>,
    /// The routing key if neither `routing_key` nor the event type sets a routing key. The default is the type.
    pub(super) default_key: Option<String>,
    pub(super) priority: Option<u8>,
    pub(super) reply_to: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) user: Option<String>,
    pub(super) attributes: Vec<(String, String)>,
}

impl From<PublishRequest> for IncomingEvent {
    fn from(request: PublishRequest) -> Self {
        Self {
            id: request.id,
            kind: request.r#type,
            data: Bytes::copy_from_slice(request.data.get().as_bytes()),
            content_type: "application/json".to_owned(),
            source: request.source.unwrap_or_else(|| "/trunkline/api".to_owned()),
            subject: request.subject,
            time: request.time,
            exchange: request.exchange,
            routing_key: request.routing_key,
            default_key: None,
            priority: request.priority,
            reply_to: request.reply_to,
            correlation_id: request.correlation_id,
            tenant: request.organization_id,
            user: request.user_id,
            attributes: request.attributes.into_iter().collect(),
        }
    }
}

impl IncomingEvent {
    /// A hash of everything but the id. Two requests with one id are repeats when their hashes are equal.
    pub(super) fn content(&self) -> u64 {
        let mut hash = Sha256::new();
        let mut add = |part: Option<&[u8]>| {
            hash.update([u8::from(part.is_some())]);
            hash.update(part.map_or(0, <[u8]>::len).to_le_bytes());
            hash.update(part.unwrap_or_default());
        };
        let given = [
            &self.subject,
            &self.time,
            &self.exchange,
            &self.routing_key,
            &self.tenant,
            &self.user,
            &self.reply_to,
            &self.correlation_id,
        ];
        for part in [self.kind.as_bytes(), &self.data, self.content_type.as_bytes(), self.source.as_bytes()] {
            add(Some(part));
        }
        for part in given {
            add(part.as_deref().map(str::as_bytes));
        }
        add(self.priority.as_ref().map(std::slice::from_ref));
        for (name, value) in &self.attributes {
            add(Some(name.as_bytes()));
            add(Some(value.as_bytes()));
        }
        DedupeRecord::content(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_everything_but_the_id() {
        let incoming =
            || IncomingEvent { kind: "t".to_owned(), data: Bytes::from_static(b"1"), ..IncomingEvent::default() };
        let text = |text: &str| Some(text.to_owned());
        let all = [
            incoming(),
            IncomingEvent { kind: "u".to_owned(), ..incoming() },
            IncomingEvent { data: Bytes::from_static(b"2"), ..incoming() },
            IncomingEvent { subject: text("a"), ..incoming() },
            IncomingEvent { subject: text(""), ..incoming() },
            IncomingEvent { tenant: text("a"), ..incoming() },
            IncomingEvent { routing_key: text("a"), ..incoming() },
            IncomingEvent { priority: Some(0), ..incoming() },
            IncomingEvent { reply_to: text("a"), ..incoming() },
            IncomingEvent { correlation_id: text("a"), ..incoming() },
            IncomingEvent { attributes: vec![("a".to_owned(), "b".to_owned())], ..incoming() },
            IncomingEvent { attributes: vec![("ab".to_owned(), String::new())], ..incoming() },
        ];
        let mut contents: Vec<u64> = all.iter().map(IncomingEvent::content).collect();
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(contents.len(), all.len());
        let again = IncomingEvent { id: text("another"), ..incoming() };
        assert_eq!(again.content(), incoming().content(), "the id is not part of the content");
    }
}
