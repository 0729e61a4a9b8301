//! Clients of others, unmodified: aio-pika from PyPI and amqplib from npm, each installed once below `target/`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::foreign::{modules_with, python_with, run};

/// Reads `[[exchange, type, routing key, body, id?], ...]` and publishes it.
const PRODUCER: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url, file):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        for name, kind, key, body, *rest in json.load(open(file)):
            exchange = await channel.declare_exchange(name, kind, durable=True)
            message = aio_pika.Message(json.dumps(body).encode(), content_type="application/json",
                                       delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                                       message_id=rest[0] if rest else None)
            await exchange.publish(message, routing_key=key)

asyncio.run(main(*sys.argv[1:]))
"#;

/// Consumes a queue that is there, or one of its own that it binds, and prints what comes.
const CONSUMER: &str = r#"
const amqp = require("amqplib");
const [url, queue, exchange, key] = process.argv.slice(2);
(async () => {
  const channel = await (await amqp.connect(url)).createChannel();
  await channel.prefetch(1);
  let name = queue;
  if (exchange) {
    await channel.assertExchange(exchange, "topic", { durable: true });
    name = (await channel.assertQueue("", { exclusive: true })).queue;
    await channel.bindQueue(name, exchange, key);
  } else {
    await channel.checkQueue(name);
  }
  await channel.consume(name, (message) => {
    const { messageId, type, contentType, headers } = message.properties;
    console.log(JSON.stringify({ body: JSON.parse(message.content), messageId, type, contentType, headers }));
    channel.ack(message);
  });
  console.log(JSON.stringify("ready"));
})().catch((error) => { console.error(error); process.exit(1); });
"#;

/// Publishes with aio-pika, confirmed and persistent.
pub fn publish(broker: &str, messages: &Value) {
    let python = python_with("aio-pika==10.2.1");
    let dir = tempfile::tempdir().expect("a directory");
    let (script, file) = (dir.path().join("producer.py"), dir.path().join("messages.json"));
    std::fs::write(&script, PRODUCER).expect("a file");
    std::fs::write(&file, messages.to_string()).expect("a file");
    run(Command::new(python).arg(script).arg(broker).arg(file));
}

/// An amqplib consumer, as long as it is kept.
pub struct Consumer {
    child: Child,
    lines: Receiver<Value>,
    _dir: tempfile::TempDir,
}

impl Consumer {
    /// Of a queue that the daemon has declared.
    pub fn of_queue(broker: &str, queue: &str) -> Self {
        Self::start(broker, &[queue])
    }

    /// Of a topic exchange, with a queue of its own.
    pub fn of_topic(broker: &str, exchange: &str, key: &str) -> Self {
        Self::start(broker, &["", exchange, key])
    }

    fn start(broker: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("consumer.js");
        std::fs::write(&script, CONSUMER).expect("a file");
        let mut node = Command::new("node");
        node.arg(&script).arg(broker).args(arguments).env("NODE_PATH", modules_with("amqplib", "2.3.1"));
        let mut child = node.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("node runs");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let mut consumer = Self { child, lines, _dir: dir };
        assert_eq!(consumer.next(), "ready");
        consumer
    }

    /// The next message.
    pub fn next(&mut self) -> Value {
        let next = self.lines.recv_timeout(trunkline_support::patience());
        next.unwrap_or_else(|error| panic!("nothing came: {error}; {:?}", self.child.try_wait()))
    }

    pub fn take(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
