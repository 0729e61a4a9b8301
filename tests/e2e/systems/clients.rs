//! Foreign clients of RabbitMQ, unmodified: aio-pika in Python and amqplib in Node.js. Each is a process that speaks lines
//! of JSON with the test. A producer takes `{key, body}` and answers when the broker has confirmed it; a consumer tells
//! `{key, body, message_id, type}` of everything that is published to the exchange.

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

async def main(url, exchange_name):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(exchange_name)
        print(json.dumps({"ready": True}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            event = json.loads(line)
            message = aio_pika.Message(json.dumps(event["body"]).encode(), content_type="application/json",
                                       delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, routing_key=event["key"])
            print(json.dumps({"confirmed": True}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

const PYTHON_CONSUMER: &str = r##"
import asyncio, json, sys, aio_pika

async def main(url, exchange_name):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(exchange_name)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        print(json.dumps({"ready": True}), flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    print(json.dumps({"key": message.routing_key, "body": json.loads(message.body),
                                      "message_id": message.message_id, "type": message.type}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"##;

const NODE_PRODUCER: &str = r#"
const amqp = require("amqplib");
const readline = require("node:readline");
const [url, exchange] = process.argv.slice(-2);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.checkExchange(exchange);
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { key, body } = JSON.parse(line);
    const options = { contentType: "application/json", persistent: true };
    channel.publish(exchange, key, Buffer.from(JSON.stringify(body)), options);
    await channel.waitForConfirms();
    console.log(JSON.stringify({ confirmed: true }));
  }
})();
"#;

const NODE_CONSUMER: &str = r##"
const amqp = require("amqplib");
const [url, exchange] = process.argv.slice(-2);
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, exchange, "#");
  await channel.consume(queue, (message) => {
    const { messageId, type } = message.properties;
    const seen = { key: message.fields.routingKey, body: JSON.parse(message.content), message_id: messageId, type };
    console.log(JSON.stringify(seen));
    channel.ack(message);
  });
  console.log(JSON.stringify({ ready: true }));
})();
"##;

/// What a client is written in.
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
    /// Publishes to an exchange that is there.
    pub async fn producer(library: Library, url: &str, exchange: &str) -> Self {
        let script = match library {
            Library::AioPika => PYTHON_PRODUCER,
            Library::Amqplib => NODE_PRODUCER,
        };
        Self::start(library, script, url, exchange).await
    }

    /// Receives everything that is published to an exchange from now on.
    pub async fn consumer(library: Library, url: &str, exchange: &str) -> Self {
        let script = match library {
            Library::AioPika => PYTHON_CONSUMER,
            Library::Amqplib => NODE_CONSUMER,
        };
        Self::start(library, script, url, exchange).await
    }

    async fn start(library: Library, script: &str, url: &str, exchange: &str) -> Self {
        let mut command = match library {
            Library::AioPika => Command::new(python_with(AIO_PIKA)),
            Library::Amqplib => node_with("amqplib", AMQPLIB),
        };
        let flag = match library {
            Library::AioPika => "-c",
            Library::Amqplib => "-e",
        };
        command.args([flag, script]);
        if matches!(library, Library::Amqplib) {
            command.arg("--");
        }
        let mut child = command
            .args([url, exchange])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
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

    /// Publishes and waits for the confirm.
    pub async fn publish(&mut self, key: &str, body: &Value) {
        let before = self.lines.lock().expect("no panic").len();
        writeln!(self.input, "{}", json!({ "key": key, "body": body })).expect("the client reads");
        self.answers("the confirm", before + 1).await;
    }

    /// What a consumer received so far.
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

/// Node.js with a package.
fn node_with(package: &str, version: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules_with(package, version));
    command
}
