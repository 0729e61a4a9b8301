//! What comes in over HTTP becomes a message, in the codec of its exchange, and is published once for its id.
//!
//! Promises: nobody is told that an event is accepted before the broker has confirmed it; of two requests with one id
//! that come together one publishes and the other waits for what becomes of it, also when the first one's sender has hung
//! up meanwhile.

mod claims;
mod hook;
mod message;

pub(super) use claims::Claims;
pub(super) use hook::receive;

use std::time::Duration;

use message::{Composed, Incoming};
use trunkline_broker::{Broker, Confirmed, Ended, Known, Mark, Passing, Permanent, Publication, Refusal, Unpublished};
use trunkline_config::{Config, DedupeWindow};
use trunkline_event::{Message, RouteName};
use trunkline_http::{Accepted, Problem, PublishRequest};
use trunkline_telemetry as telemetry;

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
        let composed = message::compose(self.config, incoming, self.broker.header_key().as_ref())?;
        let given = composed.content.map(|content| Given {
            broker: self.broker.clone(),
            claims: self.claims.clone(),
            content,
            window: self.config.http.dedupe,
        });
        let publishing = async {
            match given {
                // A task of its own: who hangs up and sends again must find what became of the first.
                Some(given) => match self.claims.spawn(given.publish(from, composed)).await {
                    Ok(answer) => answer,
                    Err(error) => Err(Problem::unavailable(format!("publishing ended: {error}"))),
                },
                None => new(self.broker, from, composed).await,
            }
        };
        tokio::time::timeout(CONFIRM_WITHIN, publishing).await.unwrap_or_else(|_elapsed| {
            Err(Problem::unavailable(format!(
                "no confirm within {} s: whether it was taken is not known; send it again",
                CONFIRM_WITHIN.as_secs()
            )))
        })
    }
}

/// Publishes an event whose id nobody can have.
async fn new(broker: &Broker, from: &'static str, composed: Composed) -> Result<Accepted, Problem> {
    check_blocked(broker)?;
    let accepted = accepted(&composed.message);
    let publication = Publication::now(composed.message, composed.accept_unroutable);
    let receipt = broker.publish(publication).await.map_err(|unpublished| problem(&unpublished))?;
    let routed = receipt.confirmed().iter().all(|confirmed| *confirmed == Confirmed::Routed);
    let accepted = Accepted { routed, ..accepted };
    telemetry::event_accepted(from, &accepted.id, &accepted.exchange, accepted.routed);
    Ok(accepted)
}

/// What an event takes along whose sender chose its id.
struct Given {
    broker: Broker,
    claims: Claims,
    /// Of all that the sender said.
    content: u64,
    window: DedupeWindow,
}

impl Given {
    async fn publish(self, from: &'static str, composed: Composed) -> Result<Accepted, Problem> {
        let accepted = accepted(&composed.message);
        let mark = |routed| self.mark(&accepted.id, routed);
        // Who has the id may be waiting for the end of an alarm, and nobody has to wait with them.
        if let Err(blocked) = check_blocked(&self.broker)
            && known(&self.broker, mark).await?.is_none()
        {
            return Err(blocked);
        }
        let _claim = self.claims.claim(&accepted.id).await;
        if let Some(routed) = known(&self.broker, mark).await? {
            telemetry::event_repeated(from, &accepted.id, &accepted.exchange);
            return Ok(Accepted { routed, repeated: true, ..accepted });
        }
        check_blocked(&self.broker)?;
        let publication = Publication::now(composed.message, composed.accept_unroutable);
        let published = self.broker.publish_marked(publication, |confirmed| mark(confirmed == Confirmed::Routed)).await;
        let routed = published.map_err(|unpublished| problem(&unpublished))? == Confirmed::Routed;
        telemetry::event_accepted(from, &accepted.id, &accepted.exchange, routed);
        Ok(Accepted { routed, ..accepted })
    }

    /// The mark of an event. What became of it is kept in the lowest bit of its content's hash, for the answer to a
    /// repetition.
    fn mark(&self, id: &str, routed: bool) -> Mark {
        let content = (self.content & !1) | u64::from(routed);
        Mark { route: RouteName::of_api(), id: id.to_owned(), content, window: self.window, ended: Ended::Done }
    }
}

/// Whether an event was accepted before, and was routed then.
async fn known(broker: &Broker, mark: impl Fn(bool) -> Mark) -> Result<Option<bool>, Problem> {
    for routed in [true, false] {
        match broker.known(&mark(routed)).await {
            Known::No => return Ok(None),
            Known::Same(_) => return Ok(Some(routed)),
            Known::Other(_) => {}
        }
    }
    Err(Problem::unpublishable("an event with this id was accepted before, with other content"))
}

/// As if it was published and routed.
fn accepted(message: &Message) -> Accepted {
    Accepted {
        id: message.properties.message_id.clone().unwrap_or_default(),
        exchange: message.exchange.to_string(),
        routing_key: message.routing_key.to_string(),
        routed: true,
        repeated: false,
    }
}

fn check_blocked(broker: &Broker) -> Result<(), Problem> {
    if broker.status().borrow().blocked {
        let why = "the broker is short of memory or disk and has asked publishers to stop; nothing was sent";
        return Err(Problem::unavailable(why));
    }
    Ok(())
}

/// The answer for an event that is not confirmed: what another try can change is told as such.
fn problem(unpublished: &Unpublished) -> Problem {
    let why = unpublished.why();
    match unpublished.refused.first().map(|(_, refusal)| refusal) {
        Some(Refusal::Permanent(Permanent::TooLarge { .. })) => Problem::too_large_because(why),
        Some(Refusal::Permanent(Permanent::Forbidden(_))) => Problem::forbidden(why),
        Some(Refusal::Permanent(Permanent::Limit(_) | Permanent::Delay(_))) => Problem::unpublishable(why),
        Some(Refusal::Passing(Passing::Unroutable { .. } | Passing::NoExchange(_))) => Problem::unpublishable(why),
        Some(Refusal::Passing(Passing::NoRoom(_))) => Problem::no_room(why),
        Some(Refusal::Passing(Passing::Full)) => {
            Problem::unavailable(format!("{why}; other queues may have it, so send it again with the same id"))
        }
        None => Problem::unavailable(why),
    }
}
