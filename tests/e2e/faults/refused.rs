//! F11: messages that the broker refuses for good. Only such a message fails; its neighbours are published.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunkline_support::Daemon;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::{header, id, settled};
use crate::bench::{Bench, drain, metric};

const LARGE: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s", output = "32MiB" }
[http]
max-body = "8MiB"
[queues.$P-out]
bind = "echoed"
[queues.$P-kept]
bind = "kept"
[routes.$P-echo]
from = "in"
plugin = "echo"
[routes.$P-shout]
from = "shout"
plugin = "bigmouth"
retry = { max = 2, delay = "100ms" }
"#;
const MAX_MESSAGE_BYTES: usize = 200_000;
const NEIGHBOURS: usize = 300;
const SENDERS: usize = 6;
/// A refusal is known at once. Waiting for a lost session or for the grace takes longer than this.
const SOON: Duration = Duration::from_secs(20);

/// Publishes good events and refused ones at the same time; gives the accepted ids and the answers to the others.
fn beside(daemon: &Daemon, bad: &Value) -> (BTreeSet<String>, Vec<(u16, String)>) {
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || {
                    let (mut taken, mut refused) = (BTreeSet::new(), Vec::new());
                    for n in 0..NEIGHBOURS / SENDERS {
                        let (id, padding) = (format!("good-{sender}-{n}"), "x".repeat(n * 100));
                        let event = json!({ "type": "kept", "id": id, "data": padding });
                        let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
                        assert_eq!(status, 202, "a neighbour is not taken: {answer}");
                        taken.insert(id);
                        if n % 10 == sender {
                            let (status, answer) = daemon.post("/api/v1/events", &bad.to_string());
                            refused.push((status, answer.to_string()));
                        }
                    }
                    (taken, refused)
                })
            })
            .collect();
        let (mut taken, mut refused) = (BTreeSet::new(), Vec::new());
        for sender in senders {
            let (more, others) = sender.join().expect("a sender");
            taken.extend(more);
            refused.extend(others);
        }
        (taken, refused)
    })
}

async fn ends_soon(daemon: Daemon) {
    let started = Instant::now();
    assert!(daemon.terminate().await.success());
    assert!(started.elapsed() < SOON, "nothing is left to wait for: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_for_the_broker_ends_alone() {
    let node = RabbitmqNode::start_with(&format!("max_message_size = {MAX_MESSAGE_BYTES}\n")).expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bench.start(LARGE).await;
    let bad = json!({ "type": "kept", "data": "x".repeat(MAX_MESSAGE_BYTES + 1) });
    let (taken, refused) = beside(&daemon, &bad);
    for (status, answer) in &refused {
        assert_eq!(*status, 413, "{answer}");
        assert!(answer.contains(&MAX_MESSAGE_BYTES.to_string()), "it names the bound: {answer}");
    }
    assert!(refused.len() > 20, "some were refused");

    // A plugin's emission is refused: its event is dead-lettered at once, without a retry.
    let started = Instant::now();
    for n in 0..5 {
        super::post(&daemon, "shout", n);
    }
    metric(&daemon, &settled(&bench, "shout", "dead_letter"), |count| count >= 5.0).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!(daemon.metric(&settled(&bench, "shout", "retry")), 0.0);
    super::handled(&daemon, "in", 1).await;
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "no session ends for it");
    ends_soon(daemon).await;

    let broker = bench.open(LARGE).await;
    let kept = drain(&broker, &bench.queue("$P-kept"), taken.len()).await;
    assert_eq!(kept.iter().map(id).collect::<BTreeSet<_>>(), taken, "every accepted event arrived with its id");
    for letter in drain(&broker, &bench.queue("$P-shout.dlq"), 5).await {
        assert_eq!(header(&letter, "trunkline-reason"), "too-large");
        let error = header(&letter, "trunkline-error");
        assert!(error.contains(&MAX_MESSAGE_BYTES.to_string()), "{error}");
    }
    println!("{} refused beside {} good ones, {} of them twice", refused.len(), taken.len(), kept.len() - taken.len());
    broker.close(trunkline_support::patience()).await;
}

const FORBIDDEN: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = ["echoed", "allowed.#"]
[queues.$P-kept]
bind = "kept"
[routes.$P-echo]
from = "in"
plugin = "echo"
[routes.$P-addresser]
from = "address"
plugin = "addresser"
retry = { max = 2, delay = "100ms" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_broker_forbids_ends_its_message_alone() {
    let node = RabbitmqNode::start().expect("a private node");
    let mut bench = Bench::on(node.url());
    let exchange = format!("{}-events", bench.prefix);
    node.ctl(&["add_user", "limited", "secret"]).expect("a user");
    node.ctl(&["set_permissions", "limited", ".*", ".*", ".*"]).expect("permissions");
    let allowed = "^(in|address|kept|echoed|allowed\\..*)$";
    // RabbitMQ 4.3 has permissions for keys of exchanges that exist only.
    bench.open(FORBIDDEN).await.close(trunkline_support::patience()).await;
    node.ctl(&["set_topic_permissions", "limited", &exchange, allowed, ".*"]).expect("permissions for keys");
    bench.broker = bench.broker.replace("guest:guest", "limited:secret");
    let daemon = bench.start(FORBIDDEN).await;
    let (taken, refused) = beside(&daemon, &json!({ "type": "forbidden", "data": 1 }));
    for (status, answer) in &refused {
        assert_eq!(*status, 403, "{answer}");
        assert!(answer.contains("ACCESS_REFUSED") || answer.contains("access"), "the broker's words: {answer}");
    }

    let started = Instant::now();
    let body = json!(["allowed.one", "forbidden", "allowed.two"]);
    for _ in 0..5 {
        super::post(&daemon, "address", body.clone());
    }
    metric(&daemon, &settled(&bench, "addresser", "dead_letter"), |count| count >= 5.0).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    super::handled(&daemon, "in", 1).await;
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "no session ends for it");
    let (_, health) = daemon.get("/health");
    assert!(health.contains("permanent-refusals"), "an operator sees that a permission is missing: {health}");

    // The permission returns while the daemon runs, and no restart is needed.
    node.ctl(&["clear_topic_permissions", "limited"]).expect("cleared");
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "forbidden", "data": 1 }).to_string());
    assert_eq!(status, 202, "{answer}");
    ends_soon(daemon).await;

    let broker = bench.open(FORBIDDEN).await;
    let kept = drain(&broker, &bench.queue("$P-kept"), taken.len()).await;
    assert_eq!(kept.iter().map(id).collect::<BTreeSet<_>>(), taken, "every accepted event arrived with its id");
    let letters = drain(&broker, &bench.queue("$P-addresser.dlq"), 5).await;
    assert_eq!(letters.len(), 5);
    for letter in letters {
        assert_eq!(header(&letter, "trunkline-reason"), "refused");
        let error = header(&letter, "trunkline-error");
        assert!(error.contains("forbidden"), "{error}");
    }
    broker.close(trunkline_support::patience()).await;
}
