//! A RabbitMQ that starts late, is killed, and closes its connections. The daemon recovers by itself.

use std::collections::BTreeSet;

use trunkline_broker::{Broker, Publication};
use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use crate::bench::{Bench, becomes_ready, drain, message, metric};

const EVENTS: usize = 3_000;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
owned = true
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

/// Publishes with the same id until the message is confirmed, as a real producer does.
pub(crate) async fn insist(broker: &Broker, publication: Publication) {
    eventually("a confirm", || {
        let (broker, publication) = (broker.clone(), publication.clone());
        async move {
            match broker.publish(vec![publication]).await {
                Ok(_receipt) => Some(()),
                Err(unpublished) if unpublished.lost.is_some() => None,
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
}

async fn produce(bench: &Bench, broker: &Broker) {
    let exchange = format!("{}-events", bench.prefix);
    for chunk in (0..EVENTS).collect::<Vec<_>>().chunks(100) {
        let mut work = tokio::task::JoinSet::new();
        for n in chunk {
            let (broker, publication) = (broker.clone(), message(&exchange, "in", &format!("e{n}"), "x"));
            work.spawn(async move { insist(&broker, publication).await });
        }
        work.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_late_and_is_killed_under_load_loses_nothing() {
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    node.stop().expect("it stops");
    let daemon = bench.start(ROUTES).await;
    assert_eq!(daemon.get("/readyz").0, 503, "no broker, and the daemon is there to say so");
    assert_eq!(daemon.get("/livez").0, 200);
    let (status, problem) = daemon.post("/api/v1/events", r#"{"type":"in","data":{}}"#);
    assert_eq!((status, &problem["code"]), (503, &"TL503".into()), "{problem}");
    node.restart().expect("it starts");
    becomes_ready(&daemon, true).await;

    let broker = bench.open(ROUTES).await;
    let killer = async {
        let settled = format!("trunkline_messages_settled_total{{route=\"{}-echo\",outcome=\"ack\"}}", bench.prefix);
        metric(&daemon, &settled, |count| count >= 300.0).await;
        node.kill().expect("it dies");
        becomes_ready(&daemon, false).await;
        node.restart().expect("it starts");
        becomes_ready(&daemon, true).await;
        node.ctl(&["close_all_connections", "test"]).expect("they close");
        becomes_ready(&daemon, true).await;
    };
    tokio::join!(produce(&bench, &broker), killer);
    // The connection of this test was closed too.
    let broker = bench.open(ROUTES).await;

    let mut causes = BTreeSet::new();
    eventually("an outcome for every event", || {
        let (broker, queue) = (broker.clone(), bench.queue("$P-out"));
        let found = &mut causes;
        let got = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { drain(&broker, &queue, 0).await })
        });
        found.extend(
            got.iter().filter_map(|message| message.properties.headers.text("trunkline-cause").map(str::to_owned)),
        );
        let is_all = found.len() == EVENTS;
        async move { is_all.then_some(()) }
    })
    .await;
    assert!(daemon.metric("trunkline_broker_reconnects_total") >= 1.0);
    assert_eq!(drain(&broker, &bench.queue("$P-echo.dlq"), 0).await.len(), 0, "an outage is no reason to give up");
    assert!(daemon.terminate().await.success());
}
