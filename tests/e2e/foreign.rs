//! An unmodified aio-pika producer and consumer on RabbitMQ, installed from PyPI into a virtual environment of the
//! test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::bench::Bench;

const ROUTES: &str = r#"
    plugin-dir = "$PLUGINS"
    [exchanges."$P.ocelot.events"]
    type = "topic"
    codec = "ocelot"
    [queues.$P-callback-tasks]
    bind = { exchange = "$P.ocelot.events", keys = "comms.call.ended" }
    [routes.callback-tasks]
    queue = "$P-callback-tasks"
    plugin = "callback-task"
"#;

const CLIENT: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url, exchange_name):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "planning.task.created")
        event = {
            "id": "5a1d2a8c-0f6e-4b0e-9a55-6f6f1f0c9a01", "type": "call.ended", "source": "communications",
            "timestamp": "2026-11-21T10:00:00Z", "organizationId": "org-1", "userId": "user-7",
            "data": {"call_id": "c-1", "duration": 42, "outcome": "callback_requested", "transcript": None},
            "metadata": {"version": "1.0.0", "module": "cc-lite"},
        }
        body = json.dumps(event).encode()
        message = aio_pika.Message(body, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key="comms.call.ended")
        async with queue.iterator(timeout=30) as messages:
            async for task in messages:
                async with task.process():
                    print(json.dumps({"body": json.loads(task.body), "message_id": task.message_id, "type": task.type,
                                      "cause": task.headers["trunkline-cause"], "key": task.routing_key}))
                    return

asyncio.run(main(*sys.argv[1:]))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn aio_pika_publishes_a_call_and_receives_the_task() {
    let python = python_with("aio-pika==10.2.1");
    let bench = Bench::amqp();
    let routes = ROUTES.replace("$PLUGINS", &trunkline_support::plugins().display().to_string());
    let daemon = bench.start(&routes).await;
    daemon.runs().await;
    let script = bench.path("client.py");
    std::fs::write(&script, CLIENT).expect("a file");
    let exchange = format!("{}.ocelot.events", bench.prefix);
    let output = run(Command::new(python).arg(script).arg(&bench.broker).arg(exchange));
    let received: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let task = &received["body"];
    assert_eq!(received["key"], "planning.task.created");
    assert_eq!(received["cause"], "5a1d2a8c-0f6e-4b0e-9a55-6f6f1f0c9a01");
    assert_eq!((&task["type"], &task["id"]), (&"planning.task.created".into(), &received["message_id"]));
    assert_eq!((&task["organizationId"], &task["userId"]), (&"org-1".into(), &"user-7".into()));
    assert_eq!((&task["data"]["priority"], &task["data"]["due_date"]), (&"high".into(), &"2026-11-22".into()));
    assert!(daemon.terminate().await.success());
}

/// A Python interpreter with a package, in `target/`, made once.
pub fn python_with(package: &str) -> PathBuf {
    let home = trunkline_support::plugins().parent().expect("target").join("python");
    // Tests run side by side, and so may several cargo processes.
    let lock = std::fs::File::create(home.with_extension("lock")).expect("a file");
    lock.lock().expect("locked");
    let python = home.join("bin/python");
    // An environment of an earlier run may have another version.
    let has = |package: &str| {
        let (name, version) = package.split_once("==").expect("a version");
        let asked =
            format!("import importlib.metadata, sys; sys.exit(importlib.metadata.version({name:?}) != {version:?})");
        Command::new(&python).args(["-c", &asked]).stderr(Stdio::null()).status()
    };
    if !has(package).is_ok_and(|status| status.success()) {
        make_environment(&home);
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]));
    }
    python
}

fn make_environment(home: &Path) {
    xtask::languages::ensure_python().expect("a Python for the test");
    run(Command::new("python3").args(["-m", "venv"]).arg(home));
}

/// Runs a command to its end, which has to be a success.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A `node_modules` with a package, in `target/`, made once. Each package has its own folder, because npm removes
/// packages that were not requested.
pub fn modules_with(package: &str, version: &str) -> PathBuf {
    xtask::languages::ensure_node().expect("a Node.js for the test");
    let home = trunkline_support::plugins().parent().expect("target").join("node").join(package);
    std::fs::create_dir_all(&home).expect("a folder");
    // Several processes may install at the same time.
    let lock = std::fs::File::create(home.join("lock")).expect("a file");
    lock.lock().expect("the lock");
    let modules = home.join("node_modules");
    if !has(&modules, package, version) {
        let install =
            ["install", "--no-audit", "--no-fund", "--no-save", "--prefix", ".", &format!("{package}@{version}")];
        run(Command::new("npm").args(install).current_dir(&home));
    }
    modules
}

fn has(modules: &Path, package: &str, version: &str) -> bool {
    let text = std::fs::read_to_string(modules.join(package).join("package.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).is_ok_and(|found| found["version"] == version)
}
