//! F4: headers that make RabbitMQ route a message further, on messages that the daemon copies.

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::{Producer, a_good_one_goes_on, is_well, table, text};
use crate::bench::{Bench, drain, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-private]
[routes.$P-wanted]
from = "wanted"
plugin = "echo"
[routes.$P-unwanted]
from = "unwanted"
plugin = "rejecter"
retry = { max = 0 }
[routes.$P-again]
from = "again"
plugin = "retrier"
retry = { max = 2, delay = "100ms" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_where_the_daemon_sends_them_and_nowhere_else() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let producer = Producer::on(&bench).await;
    let queue = |name: &str| format!("{}-{name}", bench.prefix);
    // The queue of the message, which would consume a copy again, and a queue that no route may reach.
    let places: Vec<AMQPValue> = ["unwanted", "again", "private"].map(|name| text(&queue(name))).into();
    let list = AMQPValue::FieldArray(places.into());
    let mut sent = 0.0;
    for name in ["CC", "BCC", "cc", "Bcc", "x-delay", "x-death", "X-Match"] {
        let value = if name.starts_with('x') { AMQPValue::LongInt(60_000) } else { list.clone() };
        let properties = || BasicProperties::default().with_message_id(format!("{name}-event").into());
        let headers = table(&[(name, value)]);
        for key in ["unwanted", "again"] {
            producer.publish(key, properties().with_headers(headers.clone()), b"99").await;
        }
        sent += 1.0;
    }
    for (route, end) in [("unwanted", "dead_letter"), ("again", "dead_letter")] {
        metric(&daemon, &settled(&bench, route, end), |count| count >= sent).await;
    }
    a_good_one_goes_on(&daemon, "wanted").await;
    is_well(&daemon);
    for route in ["unwanted", "again"] {
        assert_eq!(daemon.metric(&settled(&bench, route, "dead_letter")), sent, "each is dead once");
    }
    assert_eq!(daemon.metric(&settled(&bench, "again", "retry")), 2.0 * sent, "and was tried three times");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-private"), 0).await.len(), 0, "no copy came here");
    for letter in drain(&broker, &bench.queue("$P-unwanted.dlq"), 7).await {
        let kept = letter.properties.headers.iter().any(|(name, _)| name.starts_with("trunkline-kept-"));
        let id = letter.properties.message_id.unwrap_or_default();
        // The broker itself removes BCC, and rewrites x-death.
        assert!(
            kept || ["BCC-event", "Bcc-event", "x-death-event"].contains(&id.as_str()),
            "{id}: what it said can still be read"
        );
    }
    broker.close(trunkline_support::patience()).await;
}
