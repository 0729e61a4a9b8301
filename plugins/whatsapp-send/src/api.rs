//! The APIs of the senders: one request for each message, and the meaning of the response.

use trunkline_plugin::http::{Request, Response};
use trunkline_plugin::json::{Value, from_slice};
use trunkline_plugin::{Failure, config};

use crate::part::Part;
use crate::{evolution, meta, wasender};

/// The API of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// wasenderapi.com/api-docs
    Wasender,
    /// doc.evolution-api.com, version 2
    Evolution,
    /// developers.facebook.com/docs/whatsapp/cloud-api
    Meta,
}

impl Api {
    /// The API that config `api` names.
    pub(crate) fn configured() -> Result<Self, Failure> {
        config::parsed("api", Self::Wasender, "not one of wasender, evolution and meta", |name| match name {
            "wasender" => Some(Self::Wasender),
            "evolution" => Some(Self::Evolution),
            "meta" => Some(Self::Meta),
            _ => None,
        })
    }

    /// The request for a message.
    pub(crate) fn request(self, instance: &str, part: &Part<'_>) -> Result<Request, Failure> {
        match self {
            Self::Wasender => wasender::request(part),
            Self::Evolution => evolution::request(instance, part),
            Self::Meta => meta::request(instance, part),
        }
    }

    /// The sender's id of the message, from a response with status 2xx.
    ///
    /// # Errors
    /// A retry for a passing failure, with the wait that the sender requests, and a rejection for any other failure.
    pub(crate) fn outcome(self, response: &Response) -> Result<Option<String>, Failure> {
        let body: Value = from_slice(&response.body).unwrap_or_default();
        let (is_passing, after) = match self {
            Self::Wasender => (response.is_passing(), wasender::wait(response, &body)),
            Self::Evolution => (response.is_passing(), response.retry_after()),
            Self::Meta => (response.is_passing() || meta::is_passing(&body), response.retry_after()),
        };
        let is_refused = self == Self::Wasender && body["success"] == false;
        match response.status {
            200..=299 if !is_refused => Ok(match self {
                Self::Wasender => wasender::id(&body),
                Self::Evolution => evolution::id(&body),
                Self::Meta => meta::id(&body),
            }),
            _ if is_passing => Err(Failure::Retry { reason: problem(response.status, &body), after }),
            _ => Err(Failure::reject(problem(response.status, &body))),
        }
    }
}

/// A sentence for the log and the alert, with the beginning of the sender's own words.
fn problem(status: u16, body: &Value) -> String {
    const MAX: usize = 200;
    let places = ["/error/message", "/message", "/response/message"];
    let said = places.iter().find_map(|place| body.pointer(place)?.as_str()).unwrap_or_default();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = said.char_indices().nth(MAX).map_or(said.len(), |(end, _)| end);
    match &said[..end] {
        "" => format!("the server answered {status}"),
        said => format!("the server answered {status}: {said}"),
    }
}
