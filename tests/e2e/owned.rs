//! `owned` of `[queues.NAME]`: queues that other programs declare too, or alone.

use std::process::{Command, Stdio};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use trunkline_support::rabbitmq::{RabbitmqNode, free_port, paste};
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, becomes_ready, binary, drain, metric, settled};
use crate::foreign::run;

const SHARED: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
ttl = "1h"
[queues.$P-out]
owned = "shared"
bind = "echoed"
[queues.$P-work]
owned = "shared"
bind = "in"
[routes.$P-work]
queue = "$P-work"
plugin = "echo"
"#;
const AS_IT_IS: &str = "uses the queue unchanged";
const REFUSED: &str = "refuses a part of the topology";

/// The connection and a channel of another program.
struct Program {
    connection: Connection,
    channel: Channel,
}

impl Program {
    async fn on(bench: &Bench) -> Self {
        let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
        let connection = connecting.await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        Self { connection, channel }
    }

    /// Declares a queue as other programs do.
    async fn declare(
        &self,
        bench: &Bench,
        queue: &str,
        options: QueueDeclareOptions,
        arguments: &[(&str, AMQPValue)],
    ) -> Result<(), lapin::Error> {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let name = bench.queue(queue);
        // A refusal closes the channel.
        let channel = self.connection.create_channel().await.expect("a channel");
        channel.queue_declare(name.as_str().into(), options, table).await.map(drop)
    }

    /// Publishes to a queue by its name.
    async fn send(&self, bench: &Bench, queue: &str, body: &str) {
        let (name, properties) = (bench.queue(queue), BasicProperties::default().with_delivery_mode(2));
        let options = BasicPublishOptions::default();
        let sending = self.channel.basic_publish("".into(), name.as_str().into(), options, body.as_bytes(), properties);
        let _ack = sending.await.expect("sent").await.expect("confirmed");
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Publishes one event, and waits until its route has handled it.
async fn handles(bench: &Bench, daemon: &Daemon, kind: &str, route: &str) {
    let acked = settled(bench, route, "ack");
    let before = daemon.metric(&acked);
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": kind, "data": 1 }).to_string());
    assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    metric(daemon, &acked, |count| count > before).await;
}

/// The commands that `trunkline check` prints for the routes.
fn printed_commands(bench: &Bench, program: &str) -> Vec<String> {
    trunkline_support::share_compiled(&bench.state());
    let mut check = Command::new(binary());
    check.args(["check", "--broker", &bench.broker, "--config"]).arg(bench.path("routes.toml"));
    let output = run(check.arg("--state").arg(bench.state()));
    let printed = String::from_utf8(output.stdout).expect("a text");
    printed.lines().filter(|line| line.starts_with(program)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_queue_may_be_declared_in_either_order() {
    for application_first in [true, false] {
        let bench = Bench::amqp();
        let program = Program::on(&bench).await;
        let declare = async || {
            for queue in ["$P-work", "$P-out"] {
                program.declare(&bench, queue, durable(), &[]).await.expect("no argument differs");
            }
        };
        if application_first {
            declare().await;
        }
        let daemon = bench.start(SHARED).await;
        handles(&bench, &daemon, "in", "work").await;
        declare().await;
        let log = daemon.log();
        assert!(!log.contains(AS_IT_IS) && !log.contains(REFUSED), "{log}");
        assert!(log.contains("rabbitmqctl set_policy"), "the log has the policy for dead letters: {log}");
        assert!(daemon.terminate().await.success());
    }
}

/// An existing shared queue may have arguments that the file does not name. The log has a line only for a named argument.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_queue_with_further_arguments_is_used_as_it_is() {
    let bench = Bench::amqp();
    let program = Program::on(&bench).await;
    let quorum = ("x-queue-type", text("quorum"));
    let theirs =
        [quorum, ("x-message-ttl", AMQPValue::LongInt(60_000)), ("x-max-length-bytes", AMQPValue::LongInt(99_999))];
    program.declare(&bench, "$P-work", durable(), &theirs).await.expect("declared");
    program.declare(&bench, "$P-out", durable(), &theirs).await.expect("declared");
    let routes = SHARED.replace("bind = \"echoed\"", "bind = \"echoed\"\nttl = \"30s\"");
    let daemon = bench.start(&routes).await;
    handles(&bench, &daemon, "in", "work").await;
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(AS_IT_IS)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(bench.queue("$P-out").as_str()) && told[0].contains("60000"), "{}", told[0]);
    assert!(!told[0].contains("x-max-length-bytes"), "other programs may choose it: {}", told[0]);
    assert!(daemon.terminate().await.success());
}

/// Without `owned`, a queue of an application is used, and the one warning says what to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_queue_of_an_application_is_used_with_one_warning() {
    let bench = Bench::amqp();
    let program = Program::on(&bench).await;
    let routes = SHARED.replace("owned = \"shared\"\n", "").replace("ttl = \"1h\"\n", "");
    for queue in ["$P-work", "$P-out"] {
        program.declare(&bench, queue, durable(), &[]).await.expect("declared");
    }
    let daemon = bench.start(&routes).await;
    handles(&bench, &daemon, "in", "work").await;
    assert_eq!(daemon.get("/health").0, 200, "{}", daemon.get("/health").1);
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(AS_IT_IS)).collect();
    assert_eq!(told.len(), 1, "the queue without a route has no arguments to differ: {told:?}");
    let line: serde_json::Value = serde_json::from_str(told[0]).expect("JSON");
    assert_eq!((&line["queue"], &line["write"]), (&json!(bench.queue("$P-work")), &json!("owned = \"shared\"")));
    let policy = line["policy"].as_str().unwrap_or_default();
    assert!(policy.starts_with("rabbitmqctl set_policy ") && policy.contains("dead-letter-routing-key"), "{line}");
    assert!(daemon.terminate().await.success());
    // The application starts again after the daemon.
    for queue in ["$P-work", "$P-out"] {
        program.declare(&bench, queue, durable(), &[]).await.expect("the queue is as it was");
    }
}

/// Queues whose use would lose messages. The refusal says what the queue is and what to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_would_lose_messages_is_refused() {
    let bench = Bench::amqp();
    let program = Program::on(&bench).await;
    let alone = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let expires = ("x-expires", AMQPValue::LongInt(600_000));
    let auto_delete = QueueDeclareOptions { auto_delete: true, ..durable() };
    let exclusive = QueueDeclareOptions { exclusive: true, ..durable() };
    let kinds = [
        ("$P-auto", auto_delete, None, "is auto-delete"),
        ("$P-exclusive", exclusive, None, "exclusively"),
        ("$P-alone", durable(), Some(alone), "single active consumer"),
        ("$P-expires", durable(), Some(expires), "expires"),
    ];
    let mut routes = "[defaults]\nexchange = { name = \"$P-events\", type = \"topic\" }\n".to_owned();
    for (queue, options, argument, _) in &kinds {
        let arguments: Vec<_> = argument.clone().into_iter().collect();
        program.declare(&bench, queue, *options, &arguments).await.expect("declared");
        routes += &format!("[queues.{queue}]\n[routes.{queue}]\nqueue = \"{queue}\"\nplugin = \"echo\"\n");
    }
    let daemon = bench.start(&routes).await;
    for (queue, _, _, described) in kinds {
        let name = bench.queue(queue);
        let refusal = eventually("the refusal", || {
            let health: serde_json::Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
            let refused = health["broker"]["refused"].as_array().cloned().unwrap_or_default();
            let about =
                refused.into_iter().find(|refusal| refusal.as_str().is_some_and(|text| text.contains(name.as_str())));
            async move { about }
        })
        .await;
        assert!(refusal.as_str().is_some_and(|text| text.contains(described)), "{queue}: {refusal}");
        let down = format!("trunkline_route_up{{route=\"{}\"", name.as_str());
        assert!(
            daemon.get("/metrics").1.lines().all(|line| !line.starts_with(&down) || line.ends_with(" 0")),
            "{queue}"
        );
    }
    assert!(!daemon.log().contains(AS_IT_IS), "{}", daemon.log());
    assert!(daemon.terminate().await.success());
}

const OTHERS: &str = r#"
[http]
reserved = true
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-theirs]
owned = false
[routes.$P-theirs]
queue = "$P-theirs"
plugin = "rejecter"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_another_programs_queue_waits_for_the_queue() {
    let bench = Bench::amqp();
    let program = Program::on(&bench).await;
    let daemon = bench.start(OTHERS).await;
    let log = daemon.logged("has `owned = false`").await;
    assert!(log.contains("start the program that declares the queue"), "{log}");
    eventually("the reason in /health", || {
        let (status, health) = daemon.get("/health");
        async move { (status == 503 && health.contains("owned = false")).then_some(()) }
    })
    .await;
    assert!(!log.contains(REFUSED), "a queue that is not there yet is not refused: {log}");
    let looked_for = QueueDeclareOptions { passive: true, ..durable() };
    program.declare(&bench, "$P-theirs", looked_for, &[]).await.expect_err("the daemon does not declare the queue");

    let length = ("x-max-length", AMQPValue::LongInt(500));
    program.declare(&bench, "$P-theirs", durable(), &[length]).await.expect("declared");
    daemon.runs().await;
    program.send(&bench, "$P-theirs", "\"hello\"").await;
    metric(&daemon, &settled(&bench, "theirs", "dead_letter"), |count| count >= 1.0).await;

    // A reload may add another queue that does not exist yet.
    let more = OTHERS.replace("theirs", "later");
    let more = more.split_once("[queues").map(|(_, tables)| format!("{OTHERS}[queues{tables}")).expect("tables");
    bench.write_routes(&more);
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!(status, 200, "{answer}");
    program.declare(&bench, "$P-later", durable(), &[]).await.expect("declared");
    daemon.runs().await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(OTHERS).await;
    assert_eq!(
        drain(&broker, &bench.queue("$P-theirs.dlq"), 1).await.len(),
        1,
        "its dead-letter queue is the daemon's"
    );
    broker.close(trunkline_support::patience()).await;
}

/// The daemon is the only consumer of the queue. The broker would remove the queue, and the waiting messages with it, in a
/// moment without a consumer.
#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_queue_of_another_program_stays_while_its_route_runs() {
    let bench = Bench::amqp();
    let program = Program::on(&bench).await;
    let auto_delete = QueueDeclareOptions { auto_delete: true, ..durable() };
    program.declare(&bench, "$P-theirs", auto_delete, &[]).await.expect("declared");
    for number in 0..20 {
        program.send(&bench, "$P-theirs", &number.to_string()).await;
    }
    let daemon = bench.start(OTHERS).await;
    metric(&daemon, &settled(&bench, "theirs", "dead_letter"), |count| count >= 20.0).await;
    let looked_for = QueueDeclareOptions { passive: true, ..durable() };
    program.declare(&bench, "$P-theirs", looked_for, &[]).await.expect("the queue exists");
    assert!(daemon.terminate().await.success());
}

/// Other programs cannot reach the embedded broker, so the daemon makes the queue.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_makes_the_queue_of_another_program() {
    let bench = Bench::embedded();
    let daemon = bench.start(OTHERS).await;
    daemon.runs().await;
    let event = json!({ "type": "x", "exchange": "", "routing_key": bench.queue("$P-theirs"), "data": 1 });
    let (status, answer) = daemon.post("/api/v1/events", &event.to_string());
    assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    metric(&daemon, &settled(&bench, "theirs", "dead_letter"), |count| count >= 1.0).await;
    assert!(daemon.terminate().await.success());
}

/// A pasted policy gives dead-lettering to a queue whose arguments other programs choose.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_dead_letters_expired_messages() {
    const ROUTES: &str = r#"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [queues.$P-short]
        owned = "shared"
        ttl = "500ms"
        arguments = { x-dead-letter-exchange = "" }
        dead-letter = "$P-dead"
    "#;
    let node = RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let program = Program::on(&bench).await;
    bench.write_routes(ROUTES);
    let policies = printed_commands(&bench, "rabbitmqctl ");
    assert_eq!(policies.len(), 1, "{policies:?}");
    paste(node.control(), &policies[0]);

    let theirs = [("x-message-ttl", AMQPValue::LongInt(500)), ("x-dead-letter-exchange", text(""))];
    program.declare(&bench, "$P-short", durable(), &theirs).await.expect("declared");
    let daemon = bench.start(ROUTES).await;
    becomes_ready(&daemon, true).await;
    assert!(!daemon.log().contains(AS_IT_IS), "{}", daemon.log());
    program.send(&bench, "$P-short", "late").await;
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-dead"), 1).await.len(), 1);
    broker.close(trunkline_support::patience()).await;
    assert!(daemon.terminate().await.success());
}

/// With `topology = "check"` the daemon lists what is missing, also its own dead-letter queue and the delay queues. The
/// commands of `trunkline check` make all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_checked_topology_is_made_by_the_printed_commands() {
    const ROUTES: &str = r#"
        [broker]
        topology = "check"
        [defaults]
        exchange = { name = "$P-events", type = "topic" }
        [queues.$P-work]
        bind = "in"
        [queues.$P-out]
        bind = "echoed"
        [routes.$P-work]
        queue = "$P-work"
        plugin = "echo"
        retry = { max = 1, jitter = false }
    "#;
    let port = free_port().expect("a port");
    let settings = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
    let node = RabbitmqNode::start_with_plugins(&["rabbitmq_management"], &settings).expect("a private node");
    let bench = Bench::on(node.url());
    let daemon = bench.start(ROUTES).await;
    let missing = [
        format!("exchange {}-events: ", bench.prefix),
        format!("queue {}: ", bench.queue("$P-work")),
        format!("queue {}: ", bench.queue("$P-work.dlq")),
        format!("queue {}: ", bench.queue("$P-out")),
        "delayed publishing: ".to_owned(),
    ];
    for part in &missing {
        let log = daemon.logged(part).await;
        let line = log.lines().find(|line| line.contains(part.as_str())).expect("a line");
        assert!(line.contains("curl -f -u USER:PASSWORD") || line.contains("trunkline check"), "{line}");
    }
    assert!(daemon.log().contains("trunkline.delay.due"), "{}", daemon.log());
    assert!(daemon.terminate().await.success());

    let commands = printed_commands(&bench, "curl ");
    let script =
        commands.join("\n").replace("USER:PASSWORD", "guest:guest").replace("HOST:15672", &format!("127.0.0.1:{port}"));
    // The management plugin may listen later than the broker.
    eventually("the management plugin", || {
        let ran = Command::new("sh").args(["-ec", &script]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        async move { ran.expect("a shell").success().then_some(()) }
    })
    .await;
    let daemon = bench.start(ROUTES).await;
    daemon.runs().await;
    assert!(!daemon.log().contains(REFUSED), "{}", daemon.log());
    handles(&bench, &daemon, "in", "work").await;
    assert!(daemon.terminate().await.success());
}
