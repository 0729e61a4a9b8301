//! Hooks.

use crate::model::broker::codec::Codec;
use crate::model::http::placeholder::{Placeholder, ValueSource};
use crate::model::http::sender::HookProvider;
use crate::model::http::template::Template;
use crate::model::schema::Schema;
use crate::model::secret::Secret;
use trunkline_event::ExchangeName;

/// `[hooks.NAME]`: an HTTP POST that becomes a published event.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// The name of the hook.
    pub name: String,
    /// Path of the request, below `/hooks/`; no other hook has it.
    pub path: String,
    /// The exchange; a key of `Topology::exchanges`, or the nameless exchange.
    pub exchange: ExchangeName,
    /// Templates of the event's type, for requests whose envelope has no type. The first template that the request can fill counts.
    pub kinds: Vec<Template>,
    /// Routing key. When absent: the key of the event type, else the type.
    pub key: Option<Template>,
    /// Templates of the event's id, which replaces the request's id. The first template that the request can fill counts. Without a
    /// template and without an id of the request, each event gets a new id.
    pub ids: Vec<Template>,
    /// Templates of the event's source, for requests without an envelope. The first template that the request can fill counts. If
    /// the request can fill none, the source is the path of the hook.
    pub sources: Vec<Template>,
    /// Whether the file has the key `id`.
    pub id_is_written: bool,
    /// The form of requests.
    pub codec: Codec,
    /// The schema that the data has to fit.
    pub schema: Option<Schema>,
    /// The valid tokens. If the list is empty, a request needs no token.
    pub tokens: Vec<Secret>,
    /// The valid signatures. If the list is empty, a request needs no signature.
    pub signatures: Vec<Signature>,
    /// The known sender of the requests, from the key `provider`.
    pub provider: Option<HookProvider>,
    /// HTTP status of the answer to a published event: 200, 201, 202 or 204.
    pub status: u16,
}

/// HMAC-SHA256 of the body in a header, in hexadecimal, with or without `sha256=` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The header, in lower case.
    pub header: String,
    /// The key of the HMAC.
    pub secret: Secret,
}

impl Hook {
    /// Whether the hook accepts requests to a path. A hook accepts requests to its own path and to every path below its own path,
    /// because some senders append the event type to the path.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str()).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    /// Every template of the hook.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.kinds.iter().chain(&self.key).chain(&self.ids).chain(&self.sources)
    }

    /// The headers of requests that the templates name, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let sources = self.templates().flat_map(Template::placeholders).flat_map(Placeholder::sources);
        sources.filter_map(|source| {
            let ValueSource::Header(name) = source else { return None };
            Some(name.as_str())
        })
    }
}
