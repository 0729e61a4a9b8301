//! The applications of the examples. They declare their queues as each README says, in Python with aio-pika or in JavaScript with
//! amqplib.

use trunkline_support::Daemon;

use super::clients::{Client, Library};
use super::example::{Example, RoutesBeside};

/// The declarations of an application in both languages. They end with the queue that the application consumes, or with none.
#[derive(Clone, Copy)]
pub struct Application {
    python: &'static str,
    javascript: &'static str,
}

/// The consumer of the call centre. It declares its queue without arguments.
pub const VOICE: Application = Application {
    python: r#"
    exchange = await channel.declare_exchange("ocelot.events", aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue("focus_lite_calls", durable=True)
    await queue.bind(exchange, "comms.call.ended")
    return queue
"#,
    javascript: r#"
  await channel.assertExchange("ocelot.events", "topic", { durable: true });
  await channel.assertQueue("focus_lite_calls", { durable: true });
  await channel.bindQueue("focus_lite_calls", "ocelot.events", "comms.call.ended");
  return "focus_lite_calls";
"#,
};

/// The grading service. It declares all three queues without arguments, and consumes the results.
pub const GRADING: Application = Application {
    python: r#"
    exchange = await channel.declare_exchange("ai_grading", aio_pika.ExchangeType.DIRECT, durable=True)
    for name in ["writing", "speaking", "result"]:
        queue = await channel.declare_queue(name, durable=True)
        await queue.bind(exchange, name)
    return queue
"#,
    javascript: r#"
  await channel.assertExchange("ai_grading", "direct", { durable: true });
  for (const name of ["writing", "speaking", "result"]) {
    await channel.assertQueue(name, { durable: true });
    await channel.bindQueue(name, "ai_grading", name);
  }
  return "result";
"#,
};

/// The services around WhatsApp. They declare the queues with a TTL and a dead-letter exchange, and send tasks.
pub const WHATSAPP: Application = Application {
    python: r#"
    for name, ttl, exchange in [("ag_queue", 300000, "dlx_agent"), ("wb_queue", 60000, "dlx_webhook")]:
        arguments = {"x-message-ttl": ttl, "x-dead-letter-exchange": exchange}
        await channel.declare_queue(name, durable=True, arguments=arguments)
    return None
"#,
    javascript: r#"
  await channel.assertQueue("ag_queue", { durable: true, messageTtl: 300000, deadLetterExchange: "dlx_agent" });
  await channel.assertQueue("wb_queue", { durable: true, messageTtl: 60000, deadLetterExchange: "dlx_webhook" });
  return null;
"#,
};

/// The service in front of the event broker. It declares the queues with the limits of its settings, and consumes batches.
pub const EVENT_BROKER: Application = Application {
    python: r#"
    limits = {"x-message-ttl": 86400000, "x-max-length": 10000}
    await channel.declare_queue("events", durable=True, arguments={**limits, "x-max-priority": 10})
    return await channel.declare_queue("batches", durable=True)
"#,
    javascript: r#"
  const limits = { messageTtl: 86400000, maxLength: 10000 };
  await channel.assertQueue("events", { durable: true, ...limits, maxPriority: 10 });
  await channel.assertQueue("batches", { durable: true });
  return "batches";
"#,
};

const PYTHON: &str = r#"
import asyncio, json, sys, aio_pika

async def declare(channel):
$DECLARATIONS

async def consume(queue):
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                line = {"key": message.routing_key, "body": json.loads(message.body), "headers": message.headers}
                print(json.dumps(line, default=str), flush=True)

async def main(url):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        queue = await declare(channel)
        print(json.dumps({"ready": True}), flush=True)
        consuming = None if queue is None else asyncio.create_task(consume(queue))
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            task = json.loads(line)
            message = aio_pika.Message(json.dumps(task["body"]).encode(), content_type="application/json",
                                       delivery_mode=aio_pika.DeliveryMode.PERSISTENT, message_id=task["id"])
            await channel.default_exchange.publish(message, routing_key=task["key"])
            print(json.dumps({"confirmed": True}), flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

const JAVASCRIPT: &str = r#"
const amqp = require("amqplib");
const readline = require("node:readline");
const [url] = process.argv.slice(1);

const declare = async (channel) => {
$DECLARATIONS
};

(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const queue = await declare(channel);
  console.log(JSON.stringify({ ready: true }));
  if (queue) {
    await channel.consume(queue, (message) => {
      const { fields, properties, content } = message;
      const line = { key: fields.routingKey, body: JSON.parse(content), headers: properties.headers };
      console.log(JSON.stringify(line));
      channel.ack(message);
    });
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { key, body, id, expiration } = JSON.parse(line);
    const options = { contentType: "application/json", persistent: true, messageId: id ?? undefined, expiration };
    channel.sendToQueue(key, Buffer.from(JSON.stringify(body)), options);
    await channel.waitForConfirms();
    console.log(JSON.stringify({ confirmed: true }));
  }
})();
"#;

impl Application {
    /// Runs the application, and waits until it has declared its queues. It writes a line for each message that it consumes, and
    /// publishes to the queue `key` of each line that it reads. The program with amqplib also takes the field `expiration`.
    pub async fn start(&self, library: Library, url: &str) -> Client {
        let (program, declarations) = match library {
            Library::AioPika => (PYTHON, self.python),
            Library::Amqplib => (JAVASCRIPT, self.javascript),
        };
        Client::start(library, &program.replace("$DECLARATIONS", declarations), &[url]).await
    }
}

/// An application that declared its queues, and the routes of a daemon that starts beside the application.
pub struct Beside {
    pub application: Client,
    pub routes: RoutesBeside,
}

impl Beside {
    pub async fn start(example: &str, application: Application, library: Library, url: &str) -> Self {
        Self { application: application.start(library, url).await, routes: RoutesBeside::of(example) }
    }
}

/// A daemon beside two applications with the same declarations, one with each library.
pub struct Together {
    pub daemon: Daemon,
    pub applications: [Client; 2],
}

/// The program that declares first, and so makes the queues.
#[derive(Clone, Copy)]
pub enum First {
    AioPika,
    Amqplib,
    Daemon,
}

impl Together {
    /// Starts the programs one after the other. No declaration is refused.
    pub async fn start(first: First, example: &Example, application: Application) -> Self {
        let start = |library| application.start(library, &example.broker);
        let (daemon, applications) = match first {
            First::AioPika => {
                let before = start(Library::AioPika).await;
                let daemon = example.start().await;
                (daemon, [before, start(Library::Amqplib).await])
            }
            First::Amqplib => {
                let before = start(Library::Amqplib).await;
                let daemon = example.start().await;
                (daemon, [before, start(Library::AioPika).await])
            }
            First::Daemon => {
                let daemon = example.start().await;
                (daemon, [start(Library::AioPika).await, start(Library::Amqplib).await])
            }
        };
        nothing_differs(&daemon);
        Self { daemon, applications }
    }

    /// Waits until the applications together have received messages; gives all of them.
    pub async fn received(&self, count: usize) -> Vec<serde_json::Value> {
        trunkline_support::eventually("messages of the applications", || {
            let all: Vec<_> = self.applications.iter().flat_map(Client::received).collect();
            async move { (all.len() >= count).then_some(all) }
        })
        .await
    }
}

/// The broker has refused no declaration of the daemon, and no queue differs from the file.
pub fn nothing_differs(daemon: &Daemon) {
    let log = daemon.log();
    for refused in ["refuses a part of the topology", "uses the queue unchanged"] {
        assert!(!log.contains(refused), "{log}");
    }
}
