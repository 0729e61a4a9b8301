//! Streams and subscriptions of an open broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

use super::broker::EmbeddedBroker;
use super::subscription::{EmbeddedSubscription, Exclusivity};
use crate::EventStreamQueues;
use crate::delivery::END_CHECK_INTERVAL;
use crate::embedded::plan::WriteRequest;
use crate::embedded::state::QueueState;
use trunkline_config::Topology;
use trunkline_event::{ExchangeName, Message, Properties, QueueName, RoutingKey};

fn stream(name: &str) -> EventStreamQueues {
    let queue = |end: &str| QueueName::new(format!("{name}{end}")).expect("valid");
    EventStreamQueues {
        queue: queue(""),
        overflow: queue(".overflow"),
        exchange: ExchangeName::default_exchange(),
        keys: Vec::new(),
        expires: Duration::ZERO,
        max_length: 10,
    }
}

fn message(queue: &str) -> Message {
    Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::new(queue).expect("valid"),
        properties: Properties::default(),
        body: bytes::Bytes::from_static(b"late"),
    }
}

fn number(broker: &EmbeddedBroker, stream: &EventStreamQueues) -> usize {
    broker.shared.lock().number(&stream.queue).expect("the queue exists")
}

/// F29: a message that was routed to a removed queue never gets into another queue, however late it is written.
#[tokio::test]
async fn the_number_of_a_queue_is_never_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let topology = Topology::default();
    let mut numbers = BTreeSet::new();
    for run in 0..3 {
        let broker = EmbeddedBroker::open(dir.path(), &topology).await.expect("a broker");
        for round in 0..3 {
            let (removed, made) = (stream(&format!("removed-{run}-{round}")), stream(&format!("made-{run}-{round}")));
            broker.open_event_stream(&removed).await.expect("made");
            let late = number(&broker, &removed);
            broker.expire_event_streams().await;
            broker.open_event_stream(&made).await.expect("made");
            assert!(numbers.insert(late) && numbers.insert(number(&broker, &made)), "{numbers:?}");
            let routed = vec![(message("removed").into(), BTreeSet::from([late]))];
            let request = WriteRequest { routed, ..WriteRequest::default() };
            assert!(broker.shared.write(request).await.is_ok(), "the message is discarded");
            let depths = broker.shared.lock().queues.values().map(QueueState::ready).sum::<u64>();
            assert_eq!(depths, 0, "another queue got the message");
        }
        broker.close(Duration::from_secs(60)).await;
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// While a route wants no delivery, arriving messages do not wake its task.
#[tokio::test]
async fn arrivals_wake_no_task_while_no_delivery_is_wanted() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = EmbeddedBroker::open(dir.path(), &Topology::default()).await.expect("a broker");
    let stream = stream("full");
    broker.open_event_stream(&stream).await.expect("a queue");
    let subscription = EmbeddedSubscription::new(broker.shared.clone(), &stream.queue, 10, Exclusivity::Shared);
    let mut subscription = subscription.expect("a subscription");
    let queue = number(&broker, &stream);
    let (wakes, begun) = (Arc::new(Wakes::default()), Instant::now());
    let waker = wakes.clone().into();
    for _ in 0..200 {
        let mut ended = std::pin::pin!(subscription.ended());
        assert!(ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let routed = vec![(message("full").into(), BTreeSet::from([queue]))];
        assert!(broker.shared.write(WriteRequest { routed, ..WriteRequest::default() }).await.is_ok());
    }
    let checks = begun.elapsed().as_millis() / END_CHECK_INTERVAL.as_millis() + 1;
    let woken = wakes.0.load(Ordering::Relaxed);
    assert!(woken as u128 <= checks, "{woken} wakes for 200 arrivals in the time of {checks} checks");
}
