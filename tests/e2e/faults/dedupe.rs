//! F18: the disk under the dedupe records is full, or fails, while RabbitMQ works.

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use super::strace::Tracer;
use super::{Mount, settled};
use crate::bench::{Bench, metric};

const ROUTES: &str = r#"
[http]
dedupe = { window = "10m", max = 1 }
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-once]
from = "once"
plugin = "echo"
dedupe = { window = "10m", max = 1000000 }
"#;
const OFF: &str = "trunkline_condition{condition=\"dedupe-off\",subject=\"\"}";

async fn publish(bench: &Bench, broker: &trunkline_broker::Broker, id: &str) {
    let exchange = format!("{}-events", bench.prefix);
    drop(broker.publish(vec![crate::bench::message(&exchange, "once", id, "x")]).await.expect("confirmed"));
}

/// Publishes an event again and again until a repeat of it is dropped.
async fn is_recognised_again(bench: &Bench, daemon: &Daemon, broker: &trunkline_broker::Broker, id: &str) {
    let dropped = settled(bench, "once", "dropped");
    let before = daemon.metric(&dropped);
    eventually("a repeat is dropped", || async {
        publish(bench, broker, id).await;
        (daemon.metric(&dropped) > before).then_some(())
    })
    .await;
}

async fn shows_off(daemon: &Daemon, reason: &str) {
    metric(daemon, OFF, |raised| raised == 1.0).await;
    let (status, text) = daemon.get("/health");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &health["status"]), (503, &json!("degraded")), "{text}");
    let condition = &health["conditions"][0];
    assert_eq!(condition["condition"], "dedupe-off", "{text}");
    let detail = condition["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("dedupe.redb") && detail.contains(reason), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_lets_events_pass_and_ends_with_the_fullness() {
    let bench = Bench::amqp();
    std::fs::create_dir_all(bench.state()).expect("a directory");
    let _mount = Mount::small(&bench.state(), 4);
    let daemon = bench.start(ROUTES).await;
    let broker = bench.open(ROUTES).await;
    publish(&bench, &broker, "before").await;
    metric(&daemon, &settled(&bench, "once", "ack"), |count| count == 1.0).await;
    let filler = bench.state().join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);

    // Until the file would have to grow.
    let exchange = format!("{}-events", bench.prefix);
    let mut published = 0;
    while daemon.metric(OFF) == 0.0 {
        let batch = (0..500).map(|n| crate::bench::message(&exchange, "once", &format!("{published}-{n}"), "x"));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
        published += 500;
        assert!(published < 500_000, "so many records do not fit into 4 MB");
    }
    shows_off(&daemon, "No space left on device").await;
    let acked = settled(&bench, "once", "ack");
    metric(&daemon, &acked, |count| count >= f64::from(published) + 1.0).await;
    assert_eq!(daemon.metric(&settled(&bench, "once", "dead_letter")), 0.0, "no event's fault");
    daemon.logged("without a dedupe record").await;

    std::fs::remove_file(&filler).expect("removed");
    metric(&daemon, OFF, |raised| raised == 0.0).await;
    assert_eq!(daemon.get("/health").0, 200, "it heals by itself");
    is_recognised_again(&bench, &daemon, &broker, "after").await;
    is_recognised_again(&bench, &daemon, &broker, "before").await;
    daemon.logged("the daemon can write dedupe records again").await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_lets_events_pass_until_it_works() {
    let bench = Bench::amqp();
    let daemon = bench.start(ROUTES).await;
    let broker = bench.open(ROUTES).await;
    publish(&bench, &broker, "before").await;
    let acked = settled(&bench, "once", "ack");
    metric(&daemon, &acked, |count| count == 1.0).await;
    let tracer = Tracer::attach(&daemon, "fdatasync,fsync", "error=EIO", None).await;
    // strace attaches to one thread after another.
    let mut published = 0;
    eventually("the failure is seen", || {
        published += 1;
        let id = format!("meanwhile-{published}");
        let (bench, daemon, broker) = (&bench, &daemon, &broker);
        async move {
            publish(bench, broker, &id).await;
            (daemon.metric(OFF) == 1.0).then_some(())
        }
    })
    .await;
    shows_off(&daemon, "Input/output error").await;
    metric(&daemon, &acked, |count| count >= f64::from(published) + 1.0).await;
    tracer.detach();
    metric(&daemon, OFF, |raised| raised == 0.0).await;
    is_recognised_again(&bench, &daemon, &broker, "after").await;
    assert!(daemon.terminate().await.success());
}
