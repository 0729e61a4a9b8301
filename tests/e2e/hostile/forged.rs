//! F22: a producer that writes the daemon's own headers.

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::{Producer, is_well, table, text};
use crate::bench::{Bench, drain, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = ["seen", "managed"]
[routes.$P-seen]
from = "see"
plugin = "witness"
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 2, delay = "100ms" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_are_dropped_and_counted() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let producer = Producer::on(&bench).await;
    let forged = [
        ("trunkline-tenant", text("victim")),
        ("trunkline-user", text("admin")),
        ("trunkline-attempt", AMQPValue::LongInt(99)),
        ("trunkline-hops", AMQPValue::LongInt(-5)),
        ("trunkline-source-exchange", text("payments")),
        ("trunkline-source-key", text("payment.made")),
        ("trunkline-route", text(&format!("{}-again", bench.prefix))),
        ("trunkline-reason", text("rejected")),
        ("trunkline-mac", text(&format!("1.{}.{}", "0".repeat(8), "0".repeat(32)))),
    ];
    let count = forged.len();
    for last in 1..=count {
        let properties = BasicProperties::default().with_message_id(format!("forged-{last}").into());
        let properties = properties.with_headers(table(&forged[..last]));
        producer.publish("see", properties.clone(), b"1").await;
        producer.publish("again", properties, b"2").await;
    }
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let all = count as f64;
    metric(&daemon, &settled(&bench, "seen", "ack"), |acked| acked >= all).await;
    // Each event is tried as often as its route allows.
    metric(&daemon, &settled(&bench, "again", "ack"), |acked| acked >= all).await;
    assert_eq!(daemon.metric(&settled(&bench, "again", "retry")), all);
    let dropped = daemon.metric("trunkline_headers_dropped_total{why=\"forged\"}");
    assert!(dropped >= all, "an operator sees the forged headers: {dropped}");
    is_well(&daemon);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    for message in drain(&broker, &bench.queue("$P-out"), 2 * count).await {
        let said = String::from_utf8_lossy(&message.body).into_owned();
        for word in ["victim", "admin", "payments", "payment.made"] {
            assert!(!said.contains(word), "{said}");
            let headers = message.properties.headers.iter().any(|(_, value)| value.as_str() == Some(word));
            assert!(!headers, "{word} is passed on");
        }
    }
    broker.close(trunkline_support::patience()).await;
}
