//! Publishing one event, once for its id.

use std::borrow::Cow;
use std::time::Duration;

use sha2::{Digest, Sha256};

use trunkline_broker::{
    Broker, Confirmed, DedupeLookup, DedupeRecord, Passing, Permanent, Publication, Refusal, SettledAs, Unpublished,
};
use trunkline_config::{Config, DedupeWindow, Hook};
use trunkline_event::{Message, RouteName};
use trunkline_http::{Accepted, HookRequest, Problem, PublishRequest};
use trunkline_telemetry::{self as telemetry, EventOrigin, EventRouting};

use super::compose::{ComposedMessage, compose};
use super::hook;
use super::id_locks::IdLocks;
use super::incoming::IncomingEvent;

/// Longest source that a dedupe record contains, in bytes. The record contains the hash of a longer source.
const SOURCE_BYTES_MAX: usize = 255;
/// Time for the broker to confirm an event. A broker that blocks publishers silently would keep the client waiting.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// The context of a publish.
#[derive(Clone, Copy)]
pub(crate) struct EventPublisher<'a> {
    pub(crate) config: &'a Config,
    pub(crate) broker: &'a Broker,
    pub(crate) id_locks: &'a IdLocks,
}

impl EventPublisher<'_> {
    /// Publishes the event of `POST /api/v1/events`.
    pub(crate) async fn publish(self, request: PublishRequest) -> Result<Accepted, Problem> {
        self.accept(EventOrigin::Api, None, IncomingEvent::from(request)).await
    }

    /// Publishes the event of a request to a hook.
    pub(crate) async fn receive(self, hook: &Hook, request: HookRequest) -> Result<Accepted, Problem> {
        let incoming = hook::incoming(hook, request)?;
        self.accept(EventOrigin::Hook(hook.name.clone()), Some(&hook.path), incoming).await
    }

    /// Publishes an event, unless the id of the event was accepted before. `hook_path` is the path of the hook, if a hook received
    /// the event.
    async fn accept(
        self,
        origin: EventOrigin,
        hook_path: Option<&str>,
        incoming: IncomingEvent,
    ) -> Result<Accepted, Problem> {
        let of_hook = hook_path
            .map(|path| RepeatRule::SameId { hook: RouteName::of_hook(path), source: incoming.source.clone() });
        let composed = compose(self.config, incoming, self.broker.header_key().as_ref())?;
        let with_id = composed.content.map(|content| EventWithId {
            broker: self.broker.clone(),
            id_locks: self.id_locks.clone(),
            rule: of_hook.unwrap_or(RepeatRule::SameContent(content)),
            window: self.config.http.dedupe,
        });
        let publishing = async {
            match with_id {
                // The publish runs in a task, so that a client that disconnects and repeats the request gets its result.
                Some(with_id) => match self.id_locks.spawn(with_id.publish(origin, composed)).await {
                    Ok(result) => result,
                    Err(error) => Err(Problem::unavailable(format!("the publish ended unexpectedly: {error}"))),
                },
                None => publish_new(self.broker, &origin, composed).await,
            }
        };
        tokio::time::timeout(CONFIRM_WITHIN, publishing).await.unwrap_or_else(|_elapsed| {
            Err(Problem::unavailable(format!(
                "the broker did not confirm the event within {} s; send the event again with the same id",
                CONFIRM_WITHIN.as_secs()
            )))
        })
    }
}

/// Publishes an event with a new id, which cannot be a repeat.
async fn publish_new(broker: &Broker, origin: &EventOrigin, composed: ComposedMessage) -> Result<Accepted, Problem> {
    check_blocked(broker)?;
    let accepted = accepted(&composed.message);
    let ComposedMessage { message, accept_unroutable, .. } = composed;
    let publication = Publication { accept_unroutable, ..Publication::now(message) };
    let receipt = broker.publish(publication).await.map_err(|unpublished| problem(&unpublished))?;
    let routed = receipt.confirmed().iter().all(|confirmed| *confirmed == Confirmed::Routed);
    telemetry::event_accepted(origin, &accepted.id, &accepted.exchange, routing(routed));
    Ok(Accepted { routed, ..accepted })
}

/// The rule by which two events with the same id are the same event.
enum RepeatRule {
    /// Events of the API are the same if this hash of their content is the same. Different content is an error of the client.
    SameContent(u64),
    /// Events of a hook with this source are the same if their ids are the same. A sender that sends an event again may count its
    /// attempts in the body, so the content differs. Two hooks may receive the same id for different events. Two sources of one
    /// hook may also choose the same id for different events, because the id of a CloudEvent belongs to the source of the event.
    SameId { hook: RouteName, source: String },
}

impl RepeatRule {
    /// The route, the id and the content for the dedupe record of an event.
    fn record(&self, id: &str) -> (RouteName, String, u64) {
        match self {
            Self::SameContent(content) => (RouteName::of_api(), id.to_owned(), *content),
            // The length separates the source from the id.
            Self::SameId { hook, source } => (hook.clone(), format!("{} {} {id}", source.len(), short(source)), 0),
        }
    }
}

/// A source in a record. A sender may choose a source as long as the body, and the records of a day would fill the disk.
fn short(source: &str) -> Cow<'_, str> {
    if source.len() <= SOURCE_BYTES_MAX { source.into() } else { hex::encode(Sha256::digest(source)).into() }
}

/// The context of an event whose sender chose the id.
struct EventWithId {
    broker: Broker,
    id_locks: IdLocks,
    rule: RepeatRule,
    window: DedupeWindow,
}

impl EventWithId {
    async fn publish(self, origin: EventOrigin, composed: ComposedMessage) -> Result<Accepted, Problem> {
        let accepted = accepted(&composed.message);
        let record = |routed| self.record(&accepted.id, routed);
        // The request that holds the lock may wait for the end of an alarm. This request does not wait with it.
        if let Err(blocked) = check_blocked(&self.broker)
            && accepted_before(&self.broker, record).await?.is_none()
        {
            return Err(blocked);
        }
        let _lock = self.id_locks.lock(&self.rule.record(&accepted.id).1).await;
        if let Some(routed) = accepted_before(&self.broker, record).await? {
            telemetry::event_repeated(&origin, &accepted.id, &accepted.exchange);
            return Ok(Accepted { routed, repeated: true, ..accepted });
        }
        check_blocked(&self.broker)?;
        let ComposedMessage { message, accept_unroutable, .. } = composed;
        let publication = Publication { accept_unroutable, ..Publication::now(message) };
        let published =
            self.broker.publish_recorded(publication, |confirmed| record(confirmed == Confirmed::Routed)).await;
        let routed = published.map_err(|unpublished| problem(&unpublished))? == Confirmed::Routed;
        telemetry::event_accepted(&origin, &accepted.id, &accepted.exchange, routing(routed));
        Ok(Accepted { routed, ..accepted })
    }

    /// The dedupe record of an event. The lowest bit of the content's hash says whether the event was routed, for the answer
    /// to a repeat.
    fn record(&self, id: &str, routed: bool) -> DedupeRecord {
        let (route, id, content) = self.rule.record(id);
        DedupeRecord {
            route,
            id,
            content: (content & !1) | u64::from(routed),
            window: self.window,
            settled_as: SettledAs::Done,
        }
    }
}

/// Whether the event was routed when it was accepted before. `None` when it was not accepted before.
async fn accepted_before(broker: &Broker, record: impl Fn(bool) -> DedupeRecord) -> Result<Option<bool>, Problem> {
    for routed in [true, false] {
        match broker.look_up(&record(routed)).await {
            DedupeLookup::Unknown => return Ok(None),
            DedupeLookup::Same(_) => return Ok(Some(routed)),
            DedupeLookup::Other(_) => {}
        }
    }
    Err(Problem::unpublishable("an event with the same id and other content was accepted before; use another id"))
}

/// The answer for a routed event.
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
        let why = "an alarm of the broker stops publishers; send the event again later";
        return Err(Problem::unavailable(why));
    }
    Ok(())
}

fn routing(routed: bool) -> EventRouting {
    if routed { EventRouting::Routed } else { EventRouting::Unroutable }
}

/// The problem of an event that is not confirmed. Problems that another try may solve have a status that says so.
fn problem(unpublished: &Unpublished) -> Problem {
    let why = unpublished.why();
    match unpublished.refused.first().map(|(_, refusal)| refusal) {
        Some(Refusal::Permanent(Permanent::TooLarge { .. })) => Problem::too_large_because(why),
        Some(Refusal::Permanent(Permanent::Forbidden(_))) => Problem::forbidden(why),
        Some(Refusal::Permanent(Permanent::Limit(_) | Permanent::Delay(_) | Permanent::Address(_))) => {
            Problem::unpublishable(why)
        }
        Some(Refusal::Passing(Passing::Unroutable { .. } | Passing::NoExchange(_))) => Problem::unpublishable(why),
        Some(Refusal::Passing(Passing::NoRoom(_))) => Problem::no_room(why),
        Some(Refusal::Passing(Passing::Full)) => Problem::unavailable(format!(
            "{why}; send the event again with the same id, because another queue may have the event already"
        )),
        None => Problem::unavailable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_hook_have_the_same_source_and_id() {
        let hook = |path: &str, source: &str, id: &str| {
            RepeatRule::SameId { hook: RouteName::of_hook(path), source: source.to_owned() }.record(id)
        };
        assert_eq!(RepeatRule::SameContent(7).record("e-1"), (RouteName::of_api(), "e-1".to_owned(), 7));
        let one = hook("/hooks/a", "/s", "e-1");
        assert_eq!(one, (RouteName::of_hook("/hooks/a"), "2 /s e-1".to_owned(), 0));
        for other in [hook("/hooks/b", "/s", "e-1"), hook("/hooks/a", "/t", "e-1"), hook("/hooks/a", "/s", "e-2")] {
            assert_ne!(one, other);
        }
        assert_ne!(hook("/hooks/a", "a b", "c"), hook("/hooks/a", "a", "b c"));
    }

    #[test]
    fn a_long_source_makes_no_long_record() {
        let id = |source: &str| {
            RepeatRule::SameId { hook: RouteName::of_hook("/hooks/a"), source: source.to_owned() }.record("e-1").1
        };
        let [longest, longer] = [SOURCE_BYTES_MAX, SOURCE_BYTES_MAX + 1].map(|bytes| "s".repeat(bytes));
        assert_eq!(id(&longest), format!("255 {longest} e-1"));
        let hashed = id(&longer);
        assert!(hashed.starts_with("256 ") && hashed.len() < 80, "{hashed}");
        assert_eq!(id(&longer), hashed);
        // A source that is the hash of another source has another length.
        for other in [format!("t{longest}"), hex::encode(Sha256::digest(&longer)), "s".repeat(1 << 20)] {
            assert_ne!(id(&other), hashed);
        }
    }
}
