//! Unmodified clients of RabbitMQ: aio-pika in Python and amqplib in Node.js. Each is a process that exchanges lines of
//! JSON with the test. A producer reads `{key, body, id}` and answers after the broker's confirm. A consumer writes
//! `{key, body, message_id, type}` for every message.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trunkline_support::eventually;

use crate::foreign::{modules_with, python_with};

const AIO_PIKA: &str = "aio-pika==10.2.1";
const AMQPLIB: &str = "2.3.1";

const PYTHON_PRODUCER: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url, exchange_name, kind):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(exchange_name, kind, durable=True)
        print(json.dumps({"ready": True}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            event = json.loads(line)
            message = aio_pika.Message(json.dumps(event["body"]).encode(), content_type="application/json",
                                       delivery_mode=aio_pika.DeliveryMode.PERSISTENT, message_id=event["id"])
            await exchange.publish(message, routing_key=event["key"])
            print(json.dumps({"confirmed": True}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

const PYTHON_CONSUMER: &str = r#"
import asyncio, json, sys, aio_pika

async def main(url, name, kind="", key=""):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        if kind:
            exchange = await channel.declare_exchange(name, kind, durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, key)
        else:
            queue = await channel.get_queue(name)
        async with queue.iterator() as messages:
            print(json.dumps({"ready": True}), flush=True)
            async for message in messages:
                async with message.process():
                    print(json.dumps({"key": message.routing_key, "body": json.loads(message.body),
                                      "message_id": message.message_id, "type": message.type}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

const NODE_PRODUCER: &str = r#"
const amqp = require("amqplib");
const readline = require("node:readline");
const [url, exchange, kind] = process.argv.slice(1);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(exchange, kind, { durable: true });
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { key, body, id } = JSON.parse(line);
    const options = { contentType: "application/json", persistent: true, messageId: id ?? undefined };
    channel.publish(exchange, key, Buffer.from(JSON.stringify(body)), options);
    await channel.waitForConfirms();
    console.log(JSON.stringify({ confirmed: true }));
  }
})();
"#;

const NODE_CONSUMER: &str = r#"
const amqp = require("amqplib");
const [url, name, kind, key] = process.argv.slice(1);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.prefetch(1);
  let queue = name;
  if (kind) {
    await channel.assertExchange(name, kind, { durable: true });
    queue = (await channel.assertQueue("", { exclusive: true })).queue;
    await channel.bindQueue(queue, name, key);
  } else {
    await channel.checkQueue(queue);
  }
  await channel.consume(queue, (message) => {
    const { messageId, type } = message.properties;
    const seen = { key: message.fields.routingKey, body: JSON.parse(message.content), message_id: messageId, type };
    console.log(JSON.stringify(seen));
    channel.ack(message);
  });
  console.log(JSON.stringify({ ready: true }));
})();
"#;

/// The library of a client.
#[derive(Clone, Copy)]
pub enum Library {
    AioPika,
    Amqplib,
}

/// A running client, killed when it is dropped.
pub struct Client {
    child: Child,
    input: ChildStdin,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Client {
    /// A producer for a durable exchange of this type, which it declares as the daemon does.
    pub async fn producer(library: Library, url: &str, [exchange, kind]: [&str; 2]) -> Self {
        let script = match library {
            Library::AioPika => PYTHON_PRODUCER,
            Library::Amqplib => NODE_PRODUCER,
        };
        Self::start(library, script, &[url, exchange, kind]).await
    }

    /// A consumer of the messages that are published to the exchange from now on with matching keys.
    pub async fn consumer(library: Library, url: &str, [exchange, kind, key]: [&str; 3]) -> Self {
        Self::start(library, Self::consuming(library), &[url, exchange, kind, key]).await
    }

    /// A consumer of an existing queue.
    pub async fn consumer_of(library: Library, url: &str, queue: &str) -> Self {
        Self::start(library, Self::consuming(library), &[url, queue]).await
    }

    /// A Python program of a test with aio-pika. The program writes a line of JSON when it is ready.
    pub async fn program(script: &str, arguments: &[&str]) -> Self {
        Self::start(Library::AioPika, script, arguments).await
    }

    const fn consuming(library: Library) -> &'static str {
        match library {
            Library::AioPika => PYTHON_CONSUMER,
            Library::Amqplib => NODE_CONSUMER,
        }
    }

    /// Runs a script in the form of the scripts above, and waits for its first line.
    pub async fn start(library: Library, script: &str, arguments: &[&str]) -> Self {
        let mut command = match library {
            Library::AioPika => Command::new(python_with(AIO_PIKA)),
            Library::Amqplib => Command::new("node"),
        };
        match library {
            Library::AioPika => command.args(["-c", script]),
            Library::Amqplib => command.env("NODE_PATH", modules_with("amqplib", AMQPLIB)).args(["-e", script, "--"]),
        };
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client runs");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                kept.lock().expect("no panic").push(value);
            }
        });
        let client = Self { child, input, lines };
        client.answers("the client is ready", 1).await;
        client
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&mut self, key: &str, body: &Value) {
        self.publish_as(None, key, body).await;
    }

    /// The same, with a message id.
    pub async fn publish_as(&mut self, id: Option<&str>, key: &str, body: &Value) {
        self.ask(&json!({ "key": key, "body": body, "id": id })).await;
    }

    /// Writes a line, and waits for the answer.
    pub async fn ask(&mut self, line: &Value) {
        let before = self.lines.lock().expect("no panic").len();
        writeln!(self.input, "{line}").expect("the client reads");
        self.answers("the confirm", before + 1).await;
    }

    /// Waits until a consumer has received this many messages; gives all of them.
    pub async fn has(&self, count: usize) -> Vec<Value> {
        self.answers(&format!("{count} messages"), 1 + count).await;
        self.received()
    }

    /// The messages that a consumer received so far.
    pub fn received(&self) -> Vec<Value> {
        self.lines.lock().expect("no panic")[1..].to_vec()
    }

    async fn answers(&self, what: &str, count: usize) {
        eventually(what, || {
            let enough = self.lines.lock().expect("no panic").len() >= count;
            async move { enough.then_some(()) }
        })
        .await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
