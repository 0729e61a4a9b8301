//! What comes in over HTTP becomes a message, in the codec of its exchange, and is published once for its id.
//!
//! Promises: nobody is told that an event is accepted before the broker has confirmed it; of two requests with one id
//! that come together one publishes and the other waits for what becomes of it.

mod claims;
mod hook;
mod message;

pub(super) use claims::Claims;
pub(super) use hook::receive;

use std::time::Duration;

use crate::admin::{Accepted, Problem, PublishRequest};
use crate::broker::{Broker, Error, Fate, Known, Mark, Publication};
use crate::config::Config;
use crate::event::RouteName;
use crate::telemetry;
use message::{Composed, Incoming};

/// A client waits for so long; a broker that has blocked us without saying so would keep it for ever.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// What is needed to publish.
#[derive(Clone, Copy)]
pub(super) struct Publisher<'a> {
    pub(super) config: &'a Config,
    pub(super) broker: &'a Broker,
    pub(super) claims: &'a Claims,
}

/// Publishes what came to `POST /api/v1/events`.
pub(super) async fn publish(publisher: Publisher<'_>, request: PublishRequest) -> Result<Accepted, Problem> {
    publisher.take("api", Incoming::from(request)).await
}

impl Publisher<'_> {
    /// Publishes an event, unless its id was accepted before. `from` is the metrics' word for where it came in.
    async fn take(self, from: &'static str, incoming: Incoming) -> Result<Accepted, Problem> {
        let composed = message::compose(self.config, incoming)?;
        let Composed { message, accept_unroutable, given_id, content } = composed;
        let id = message.properties.message_id.clone().unwrap_or_default();
        let kind = message.properties.kind.clone().unwrap_or_default();
        let (exchange, routing_key) = (message.exchange.to_string(), message.routing_key.to_string());
        let accepted = |routed, repeated| Accepted {
            id: id.clone(),
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            routed,
            repeated,
        };
        let _claim = match given_id {
            true => Some(self.claims.claim(&id).await),
            false => None,
        };
        let mark = |routed| self.mark(&id, content, routed);
        if given_id && let Some(routed) = self.known(mark).await? {
            telemetry::event_repeated(from, &id, &kind, &exchange);
            return Ok(accepted(routed, true));
        }
        if self.broker.status().borrow().blocked {
            let why = "the broker is short of memory or disk and has asked publishers to stop; nothing was sent";
            return Err(Problem::unavailable(why));
        }
        let publication = Publication::now(message, accept_unroutable);
        let publishing = async {
            if given_id {
                return self.broker.publish_marked(publication, |fate| mark(fate == Fate::Routed)).await;
            }
            let receipt = self.broker.publish(vec![publication]).await?;
            Ok(receipt.fates().first().copied().unwrap_or(Fate::Unrouted))
        };
        let Ok(published) = tokio::time::timeout(CONFIRM_WITHIN, publishing).await else {
            let why = format!(
                "no confirm within {} s: whether it was taken is not known; send it again",
                CONFIRM_WITHIN.as_secs()
            );
            return Err(Problem::unavailable(why));
        };
        let routed = published.map_err(problem)? == Fate::Routed;
        telemetry::event_accepted(from, &id, &kind, &exchange, routed);
        Ok(accepted(routed, false))
    }

    /// The mark of an event. What became of it is kept in the lowest bit of its content's hash, for the answer to a
    /// repetition.
    fn mark(self, id: &str, content: u64, routed: bool) -> Mark {
        let content = (content & !1) | u64::from(routed);
        Mark { route: RouteName::of_api(), id: id.to_owned(), content, window: self.config.http.dedupe }
    }

    /// Whether an event was accepted before, and was routed then.
    async fn known(self, mark: impl Fn(bool) -> Mark) -> Result<Option<bool>, Problem> {
        for routed in [true, false] {
            match self.broker.known(&mark(routed)).await {
                Known::No => return Ok(None),
                Known::Same => return Ok(Some(routed)),
                Known::Other => {}
            }
        }
        Err(Problem::unpublishable(
            "this id was accepted before, with other content; an event keeps its id, and another has another",
        ))
    }
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Lost(_) | Error::Unusable(_) => Problem::unavailable(error.to_string()),
        Error::Refused(_) | Error::Queue { .. } => Problem::unpublishable(error.to_string()),
    }
}
