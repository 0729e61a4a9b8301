//! Plans of transactions without a store: what is put and removed, and what a queue delivers afterwards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::request::{WriteError, WriteRequest};
use super::transaction::{Moves, TransactionPlan};
use crate::EventStreamQueues;
use crate::embedded::state::{DeliveryId, Destinations, QueueChange, QueueState, SessionState, unconfigured_queue};
use crate::embedded::store::{DelayKind, DelayedRecord, LastRun, StoredQueue};
use trunkline_config::{self as config, DeadLetter, ExchangeKind, Overflow, Queue as Settings};
use trunkline_event::{ExchangeName, HeaderValue, Message, Properties, QueueName, RoutingKey};

const NOW_MS: u64 = 1_000_000;

fn message(key: &str, id: &str) -> Arc<Message> {
    Arc::new(Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new(key).expect("a key"),
        properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
        body: Bytes::from_static(b"body"),
    })
}

fn settings() -> Settings {
    let exchange = ExchangeName::default_exchange();
    let dead_letter = Some(DeadLetter { exchange, key: RoutingKey::new("dlq").expect("a key") });
    Settings { dead_letter, ..unconfigured_queue() }
}

/// The state with a queue `q` of these settings with the number 1, and with its dead-letter queue with the number 2.
fn state(settings: Settings) -> SessionState {
    let mut state = SessionState { session: 1, ..SessionState::default() };
    for (id, name, settings) in [(1, "q", settings), (2, "dlq", unconfigured_queue())] {
        let stored = StoredQueue { id, ..StoredQueue::default() };
        state.add(QueueState::new(QueueName::new(name).expect("a name"), settings, stored, LastRun::Clean));
    }
    state
}

fn plan(state: &SessionState, now_ms: u64, moves: Moves) -> TransactionPlan {
    TransactionPlan::new(Arc::new(state.routing()), now_ms, moves)
}

fn request(ids: &[&str]) -> WriteRequest {
    let routed = ids.iter().map(|id| (message("q", id), BTreeSet::from([1]))).collect();
    WriteRequest { routed, ..WriteRequest::default() }
}

/// Publishes messages to `q` in a transaction of their own.
fn publish(state: &mut SessionState, ids: &[&str], now_ms: u64) {
    let mut plan = plan(state, now_ms, Moves::Allowed);
    plan.write(state, request(ids)).expect("planned");
    plan.apply(state);
}

/// Puts of a batch, each with the id of the queue and of the message.
type Puts = Vec<(u32, String)>;
/// Removes of a batch, each with the id of the queue and the position.
type Removes = Vec<(u32, u64)>;

/// Plans and applies a transaction without requests. Returns the puts and removes of its batch.
fn run_transaction(state: &mut SessionState, now_ms: u64, moves: Moves) -> (Puts, Removes) {
    let mut plan = plan(state, now_ms, moves);
    plan.changes(state, Vec::new());
    let id = |message: &Message| message.properties.message_id.clone().expect("an id");
    let puts = plan.batch.puts.iter().map(|((queue, _), record)| (*queue, id(&record.message))).collect();
    let removes = plan.batch.removes.clone();
    plan.apply(state);
    (puts, removes)
}

fn pop_all(state: &mut SessionState, number: usize) -> Vec<String> {
    let queue = state.queues.get_mut(&number).expect("a queue");
    let ids = std::iter::from_fn(|| queue.pop()).map(|entry| entry.record.message.properties.message_id.clone());
    ids.map(|id| id.expect("an id")).collect()
}

/// Delivers the next message of `q` to the consumer 7.
fn deliver(state: &mut SessionState) -> DeliveryId {
    let queue = state.queues.get_mut(&1).expect("a queue");
    let entry = queue.pop().expect("a message");
    let position = entry.position;
    queue.hold(entry, 7, NOW_MS);
    DeliveryId { session: 1, queue: 1, position, consumer: 7 }
}

#[test]
fn an_expired_message_moves_to_the_dead_letter_queue_in_one_transaction() {
    let mut state = state(Settings { ttl: Some(Duration::from_millis(50)), ..settings() });
    publish(&mut state, &["a"], NOW_MS);
    publish(&mut state, &["b"], NOW_MS + 40);
    assert_eq!(run_transaction(&mut state, NOW_MS + 49, Moves::Allowed), (Vec::new(), Vec::new()));
    assert_eq!(
        run_transaction(&mut state, NOW_MS + 50, Moves::Postponed),
        (Vec::new(), Vec::new()),
        "moves take space"
    );
    let (puts, removes) = run_transaction(&mut state, NOW_MS + 50, Moves::Allowed);
    assert_eq!((puts, removes), (vec![(2, "a".to_owned())], vec![(1, 0)]));
    let letter = state.queues.get_mut(&2).expect("a queue").pop().expect("a message").record.message;
    let headers = &letter.properties.headers;
    for (name, value) in
        [("x-first-death-reason", "expired"), ("x-first-death-queue", "q"), ("x-last-death-queue", "q")]
    {
        assert_eq!(headers.get(name), Some(&HeaderValue::from(value)), "{name}");
    }
    assert_eq!(pop_all(&mut state, 1), ["b"]);
}

#[test]
fn the_oldest_messages_of_a_full_queue_are_given_up() {
    let mut state = state(Settings { max_length: Some(2), ..settings() });
    publish(&mut state, &["a", "b", "c", "d"], NOW_MS);
    let (puts, removes) = run_transaction(&mut state, NOW_MS, Moves::Allowed);
    assert_eq!(puts, [(2, "a".to_owned()), (2, "b".to_owned())]);
    assert_eq!(removes, [(1, 0), (1, 1)]);
    assert_eq!(pop_all(&mut state, 1), ["c", "d"]);
}

#[test]
fn without_a_dead_letter_target_the_oldest_messages_are_dropped() {
    let mut state = state(Settings { max_length: Some(1), ..unconfigured_queue() });
    publish(&mut state, &["a", "b"], NOW_MS);
    assert_eq!(run_transaction(&mut state, NOW_MS, Moves::Allowed), (Vec::new(), vec![(1, 0)]));
    assert_eq!((pop_all(&mut state, 1), pop_all(&mut state, 2)), (vec!["b".to_owned()], Vec::new()));
}

#[test]
fn a_full_queue_with_reject_publish_refuses_the_whole_request() {
    let mut state = state(Settings { max_length: Some(2), overflow: Overflow::RejectPublish, ..settings() });
    let mut plan = plan(&state, NOW_MS, Moves::Allowed);
    plan.write(&mut state, request(&["a"])).expect("planned");
    let mut second = request(&["b", "c"]);
    second.routed.insert(1, (message("dlq", "d"), BTreeSet::from([2])));
    let Err(WriteError::Full(indexes)) = plan.write(&mut state, second) else { panic!("the queue is full") };
    assert_eq!(indexes, [0, 2], "the message for the other queue is not to blame");
    plan.write(&mut state, request(&["e"])).expect("there is room for one");
    assert_eq!(plan.batch.puts.len(), 2, "nothing of the refused request is planned");
    plan.apply(&mut state);
    assert_eq!(pop_all(&mut state, 1), ["a", "e"]);
}

#[test]
fn a_request_for_a_returned_delivery_changes_nothing() {
    let mut state = state(settings());
    publish(&mut state, &["a"], NOW_MS);
    let id = deliver(&mut state);
    let queue = state.queues.get_mut(&1).expect("a queue");
    let returned = queue.take_back(7);
    returned.into_iter().for_each(|entry| queue.put_back(entry));
    let mut plan = plan(&state, NOW_MS, Moves::Allowed);
    let refused = plan.write(&mut state, WriteRequest { settles: vec![id], ..request(&["b"]) });
    assert!(matches!(refused, Err(WriteError::Lost(_))), "{refused:?}");
    assert!(plan.batch.is_empty(), "{:?}", plan.batch);
    plan.apply(&mut state);
    assert_eq!(pop_all(&mut state, 1), ["a"]);
}

#[test]
fn a_delivery_is_acknowledged_once_and_only_in_its_session() {
    let mut state = state(settings());
    publish(&mut state, &["a"], NOW_MS);
    let id = deliver(&mut state);
    let mut plan = plan(&state, NOW_MS, Moves::Allowed);
    let settle = |id| WriteRequest { settles: vec![id], ..WriteRequest::default() };
    for other in [DeliveryId { session: 2, ..id }, DeliveryId { consumer: 8, ..id }, DeliveryId { position: 1, ..id }] {
        assert!(plan.write(&mut state, settle(other)).is_err(), "{other:?}");
    }
    plan.write(&mut state, settle(id)).expect("planned");
    assert!(plan.write(&mut state, settle(id)).is_err(), "a second acknowledgement");
    assert_eq!(plan.batch.removes, [(1, 0)]);
    plan.apply(&mut state);
    assert!(state.queues[&1].is_empty());
}

#[test]
fn without_a_dead_letter_queue_the_message_is_kept_and_tried_later() {
    let mut state = state(Settings { ttl: Some(Duration::from_millis(50)), ..settings() });
    publish(&mut state, &["a"], NOW_MS);
    state.remove(&[2]);
    assert_eq!(run_transaction(&mut state, NOW_MS + 50, Moves::Allowed), (Vec::new(), Vec::new()));
    let queue = &state.queues[&1];
    let next_try = queue.give_up_not_before();
    assert!(queue.ready() == 1 && next_try > NOW_MS + 50, "{next_try}");
    let stored = StoredQueue { id: 3, ..StoredQueue::default() };
    state.add(QueueState::new(QueueName::new("dlq").expect("a name"), unconfigured_queue(), stored, LastRun::Clean));
    assert_eq!(run_transaction(&mut state, next_try - 1, Moves::Allowed).0, Vec::new(), "before the next try");
    assert_eq!(run_transaction(&mut state, next_try, Moves::Allowed), (vec![(3, "a".to_owned())], vec![(1, 0)]));
}

#[test]
fn pending_changes_are_written_and_postponed_moves_stay_pending() {
    let mut state = state(settings());
    publish(&mut state, &["a", "b", "c"], NOW_MS);
    let entries: Vec<_> = std::iter::from_fn(|| state.queues.get_mut(&1).expect("a queue").pop()).collect();
    let [a, b, c] = entries.try_into().expect("three messages");
    state.pending = vec![
        QueueChange::Remove { queue: 1, position: a.position },
        QueueChange::Recount { queue: 1, entry: b },
        QueueChange::GiveUp { queue: 1, entry: c, reason: "delivery_limit" },
    ];
    let (puts, removes) = run_transaction(&mut state, NOW_MS, Moves::Postponed);
    assert_eq!((puts, removes), (vec![(1, "b".to_owned())], vec![(1, 0)]));
    assert_eq!(state.pending.len(), 1, "the dead letter waits for space");
    let (puts, removes) = run_transaction(&mut state, NOW_MS, Moves::Allowed);
    assert_eq!((puts, removes), (vec![(2, "c".to_owned())], vec![(1, 2)]));
}

#[test]
fn due_messages_are_published_dropped_or_delayed_again() {
    let mut state = state(settings());
    let delayed = |kind, key: &str| DelayedRecord { kind, message: message(key, key) };
    state.retrying.insert("q".to_owned(), 1);
    let due = vec![
        ((NOW_MS, 1), delayed(DelayKind::Retry, "q")),
        ((NOW_MS, 2), delayed(DelayKind::Optional, "missing")),
        ((NOW_MS, 3), delayed(DelayKind::Required, "missing")),
    ];
    let mut plan = plan(&state, NOW_MS, Moves::Allowed);
    plan.changes(&mut state, due);
    assert_eq!(plan.batch.delay_removes, [(NOW_MS, 1), (NOW_MS, 2), (NOW_MS, 3)]);
    let [((due_ms, number), again)] = plan.batch.delay_puts.as_slice() else { panic!("{:?}", plan.batch.delay_puts) };
    assert!(*due_ms > NOW_MS && *number == 3, "{due_ms}, {number}");
    assert_eq!(again.kind, DelayKind::RequiredAgain(1));
    plan.apply(&mut state);
    assert_eq!(pop_all(&mut state, 1), ["q"]);
    assert_eq!(state.retrying.get("q"), None, "the retry waits no longer");
}

/// The state with a queue of a stream with the number 3, which is bound to the exchange `events` with the key `heard`.
fn state_with_stream() -> SessionState {
    let mut state = state(unconfigured_queue());
    let (name, exchange) =
        (|name: &str| QueueName::new(name).expect("a name"), ExchangeName::new("events").expect("a name"));
    let kind = ExchangeKind::Direct;
    let events = config::Exchange { kind, owned: true, codec: config::Codec::Raw, alternate: None };
    state.topology.exchanges.insert(exchange.clone(), events);
    let stream = EventStreamQueues {
        queue: name("stream"),
        overflow: name("stream.overflow"),
        exchange,
        keys: vec![RoutingKey::new("heard").expect("a key")],
        expires: Duration::from_secs(60),
        max_length: 10,
    };
    let stored = |id| StoredQueue { id, ..StoredQueue::default() };
    let ids = HashMap::from([("stream".to_owned(), stored(3)), ("stream.overflow".to_owned(), stored(4))]);
    state.add_stream(&stream, &ids, NOW_MS);
    state
}

/// N2: a message that only streams get is not routed, so a dead letter or a retry never depends on a stream.
#[test]
fn the_queue_of_a_stream_makes_no_message_routable() {
    let mut state = state_with_stream();
    let heard = |id: &str| {
        let mut heard = (*message("heard", id)).copy();
        heard.exchange = ExchangeName::new("events").expect("a name");
        Arc::new(heard)
    };
    let found = state.routing().route(&heard("a")).expect("the exchange exists");
    assert_eq!(found, Destinations { queues: BTreeSet::from([3]), is_routable: false }, "the stream gets the message");
    let by_name = state.routing().route(&message("stream", "b")).expect("a queue");
    assert!(by_name.is_routable, "a message to the queue itself reaches the queue");

    let due = vec![((NOW_MS, 1), DelayedRecord { kind: DelayKind::Required, message: heard("c") })];
    let mut delayed = plan(&state, NOW_MS, Moves::Allowed);
    delayed.changes(&mut state, due);
    assert_eq!((delayed.batch.delay_puts.len(), delayed.batch.puts.len()), (1, 0), "the message is delayed again");

    let target = DeadLetter {
        exchange: ExchangeName::new("events").expect("a name"),
        key: RoutingKey::new("heard").expect("a key"),
    };
    let ttl = Some(Duration::from_millis(50));
    let queue = state.queues.get_mut(&1).expect("a queue");
    queue.change_settings(Settings { ttl, dead_letter: Some(target), ..unconfigured_queue() });
    publish(&mut state, &["d"], NOW_MS);
    assert_eq!(run_transaction(&mut state, NOW_MS + 50, Moves::Allowed), (Vec::new(), Vec::new()));
    assert_eq!(state.queues[&1].ready(), 1, "the dead letter waits for a queue that lasts");
}
