//! F5: events without an id. Two of them are two events, whatever their content.

use lapin::BasicProperties;

use super::{Producer, is_well};
use crate::bench::{Bench, drain, metric, settled};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = ["managed", "echoed"]
# Each makes a copy of the event that waits: a retry, a turn of its tenant, and an order.
[routes.$P-again]
from = "again"
plugin = "retrier"
dedupe = "10m"
retry = { max = 3, delay = "100ms" }
[routes.$P-shared]
from = "shared"
plugin = "echo"
dedupe = "10m"
tenant = { by = "attributes.org", rate = "2/s" }
[routes.$P-ordered]
from = "ordered"
plugin = "retrier"
dedupe = "10m"
order-by = "attributes.org"
retry = { max = 3, delay = "100ms" }
# And what they emit meets another one.
[routes.$P-after]
from = "managed"
plugin = "echo"
dedupe = "10m"
"#;
const EQUAL: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn equal_events_without_an_id_are_all_handled() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let producer = Producer::on(&bench).await;
    let headers = super::table(&[("org", super::text("one"))]);
    for _ in 0..EQUAL {
        for key in ["again", "shared", "ordered"] {
            producer.publish(key, BasicProperties::default().with_headers(headers.clone()), b"2").await;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let all = EQUAL as f64;
    for route in ["again", "shared", "ordered"] {
        metric(&daemon, &settled(&bench, route, "ack"), |count| count >= all).await;
    }
    metric(&daemon, &settled(&bench, "after", "ack"), |count| count >= 2.0 * all).await;
    for route in ["again", "shared", "ordered", "after"] {
        assert_eq!(daemon.metric(&settled(&bench, route, "dropped")), 0.0, "{route}: none costs another one");
    }
    is_well(&daemon);
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    // One each from `shared`, one each from the other two routes, and one more from `after` for those.
    let out = drain(&broker, &bench.queue("$P-out"), 5 * EQUAL).await;
    assert_eq!(out.len(), 5 * EQUAL);
    broker.close(trunkline_support::patience()).await;
}
