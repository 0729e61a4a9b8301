//! `examples/whatsapp-agent`: the sender's webhooks, the agents, the sender's API and the admin as HTTP stubs. The sender
//! is WaSender if a story names no other. On RabbitMQ webhooks come from aio-pika, and notices of sent replies go to
//! amqplib. Some stories also run beside services that declare the queues before the daemon.

mod instances;
mod senders;
mod trouble;

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use super::applications::WHATSAPP;
use super::clients::{Client, Library};
use super::example::{Example, On, stories, stories_beside};
use super::schemas::{fits, sample, schema};
use super::stub::{Answer, Asked, Stub};
use crate::api::send;

const NAME: &str = "whatsapp-agent";
const KEY: &str = "a-key-of-the-sender";
const SECRET: &str = "a-secret-of-the-webhooks";
const WEBHOOK: &str = "whatsapp.webhook";
const RECEIVED: &str = "whatsapp.message.received";
const JSON: (&str, &str) = ("content-type", "application/json");

stories!(a_conversation, a_colleague_takes_over, a_share_of_the_contacts_gets_the_experiment, urgent_messages_overtake,);
stories_beside!(a_conversation, a_colleague_takes_over);

/// The outside services, and the daemon between them.
struct World {
    agent: Stub,
    experiment: Stub,
    gateway: Stub,
    admin: Stub,
    /// The services that declare the queues, beside the daemon.
    services: Option<Client>,
    example: Example,
    daemon: Daemon,
}

type Answers = Box<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

impl World {
    /// The experimental agent is down, and the sender accepts everything.
    async fn start(on: On, agent: Answers) -> Self {
        Self::start_with(on, agent, down(), gateway(), &[]).await
    }

    async fn start_with(on: On, agent: Answers, experiment: Stub, gateway: Stub, further: &[(&str, &str)]) -> Self {
        let (agent, admin) = (Stub::start(agent), Stub::start(|_, _| Answer::status(200)));
        let origins = [&agent, &experiment, &gateway, &admin].map(Stub::origin);
        let names = ["AGENT_ORIGIN", "EXPERIMENTAL_AGENT_ORIGIN", "SENDER_ORIGIN", "ADMIN_ORIGIN"];
        let mut environment = names.into_iter().zip(origins.iter().map(String::as_str)).collect::<Vec<_>>();
        environment.extend([("SENDER_API_KEY", KEY), ("AGENT_RETRY", "100ms"), ("SEND_RETRY", "100ms")]);
        environment.extend([("SENDER_INSTANCE", "shop"), ("AGENT_PAUSE", "1s"), ("SENDER_RATE", "1000/s")]);
        environment.extend([("SENDER_WEBHOOK_SECRET", SECRET), ("SENDER_VERIFY_TOKEN", "a-token")]);
        environment.extend(further);
        let example = Example::open(NAME, on, &environment);
        let services = match on {
            On::Beside => Some(WHATSAPP.start(Library::Amqplib, &example.broker).await),
            On::Embedded | On::RabbitMq => None,
        };
        let daemon = example.start().await;
        Self { agent, experiment, gateway, admin, services, example, daemon }
    }

    /// Publishes to the example's exchange, and gives the event's id.
    fn publish(&self, key: &str, data: &Value) -> String {
        self.publish_as(&uuid::Uuid::now_v7().to_string(), key, data)
    }

    fn publish_as(&self, id: &str, key: &str, data: &Value) -> String {
        let body = json!({ "id": id, "type": key, "data": data });
        let (status, accepted) = self.daemon.post("/api/v1/events", &body.to_string());
        assert_eq!((status, &accepted["routed"]), (202, &json!(true)), "{accepted}");
        id.to_owned()
    }

    /// Posts a webhook of WaSender, and gives the answer.
    fn hook(&self, webhook: &Value) -> (u16, Value) {
        self.hook_with(("x-webhook-signature", SECRET), webhook)
    }

    /// Posts a webhook with a proof of its sender, and gives the answer.
    fn hook_with(&self, proof: (&str, &str), webhook: &Value) -> (u16, Value) {
        send(&self.daemon, "/hooks/whatsapp", &[JSON, proof], &webhook.to_string())
    }

    /// Publishes, and waits until all following events are settled.
    async fn publish_and_settle(&self, key: &str, data: &Value) {
        let settled = self.daemon.settled(&self.publish(key, data)).await;
        assert_eq!(settled["outcome"], "ack", "{settled}");
    }

    /// The texts that were sent to a contact, in order.
    fn sent_to(&self, number: &str) -> Vec<String> {
        let sent = self.gateway.those(to(number));
        sent.iter().map(|asked| asked.body["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until this many events are settled, without retries.
    async fn at_rest(&self, events: usize) {
        let settled = "trunkline_messages_settled_total";
        eventually("the last events", || {
            let count = self.daemon.sum(settled) - self.daemon.sum("trunkline_retries_scheduled_total");
            async move { (count >= events as f64).then_some(()) }
        })
        .await;
    }
}

/// WaSender.
fn gateway() -> Stub {
    Stub::start(|asked, _| senders::wasender(asked))
}

/// An agent that is down.
fn down() -> Stub {
    Stub::start(|_, _| Answer::status(503))
}

/// Whether a request to WaSender is for this number.
fn to(number: &str) -> impl Fn(&Asked) -> bool + use<> {
    let number = format!("+{number}");
    move |asked| asked.body["to"] == number
}

/// An agent that repeats its text, and answers `first` only when it is released.
fn held_at_first() -> (mpsc::Sender<()>, Answers) {
    let (let_go, held) = mpsc::channel();
    let held = Mutex::new(held);
    let agent = move |asked: &Asked, _: usize| {
        if asked.body["message"]["text"] == "first" {
            let _let_go = held.lock().expect("no panic").recv();
        }
        echo(asked)
    };
    (let_go, Box::new(agent))
}

/// An agent that repeats its text.
fn echo(asked: &Asked) -> Answer {
    let text = format!("You said: {}", asked.body["message"]["text"].as_str().unwrap_or_default());
    Answer::json(200, &json!({ "response": { "text": text } }))
}

/// A message of a contact, with a new id.
fn message(number: &str, text: &str) -> Value {
    let mut received = sample(NAME, "samples/11-message-received.json");
    fits(&schema(NAME, "message-received"), &received);
    received["instance"] = "shop".into();
    received["contact"]["remoteJid"] = format!("{number}@s.whatsapp.net").into();
    received["contact"]["phoneNumber"] = format!("+{number}").into();
    received["message"]["messageId"] = uuid::Uuid::now_v7().simple().to_string().into();
    received["message"]["text"] = text.into();
    received
}

/// The client that publishes webhooks.
async fn gateways(world: &World) -> Client {
    Client::producer(Library::AioPika, &world.example.broker, ["whatsapp", "topic"]).await
}

async fn a_conversation(on: On) {
    let said = sample(NAME, "samples/07-agent-answer.json");
    fits(&schema(NAME, "agent-answer"), &said);
    let world = World::start(on, Box::new(move |_, _| Answer::json(200, &said))).await;
    let [first, second, own, group] =
        ["01-webhook", "02-webhook-order", "03-webhook-own", "04-webhook-group"].map(|name| {
            let webhook = sample(NAME, &format!("samples/{name}.json"));
            fits(&schema(NAME, "wasender-webhook"), &webhook);
            webhook
        });
    let consumer = match on {
        On::RabbitMq | On::Beside => {
            let sent = ["whatsapp", "topic", "whatsapp.message.sent"];
            Some(Client::consumer(Library::Amqplib, &world.example.broker, sent).await)
        }
        On::Embedded => None,
    };
    match on {
        On::RabbitMq | On::Beside => gateways(&world).await.publish(WEBHOOK, &first).await,
        On::Embedded => assert_eq!(world.hook(&first).0, 200),
    }
    let number = "420777123456";
    let sent = world.gateway.one("the answer", to(number)).await;
    assert!(sent.header("idempotency-key").is_some());
    assert_eq!(sent.body, json!({ "to": "+420777123456", "text": "We are open from 10 to 6." }));
    let task = world.agent.asked().remove(0);
    fits(&schema(NAME, "agent-task"), &task.body);
    assert_eq!((task.path.as_str(), &task.body["taskType"]), ("/conversation", &json!("conversation")));
    assert_eq!(task.body["context"]["conversationHistory"], json!([]));
    // A sent reply comes back as an event, and only then it is in the conversation.
    if let Some(consumer) = consumer {
        let sent = &consumer.has(1).await[0];
        fits(&schema(NAME, "message-sent"), &sent["body"]);
        assert_eq!(
            (&sent["type"], &sent["body"]["providerMessageId"]),
            (&json!("whatsapp.message.sent"), &json!("100000"))
        );
    }
    // The webhook, the message, the task, the reply, and the notice that it was sent.
    world.at_rest(5).await;
    let (status, problem) = world.hook(&json!({ "event": "messages.upsert", "data": { "messages": { "key": 7 } } }));
    assert_eq!((status, problem["errors"].is_array()), (422, true), "{problem}");
    for nothing in [&own, &group, &first] {
        world.publish_and_settle(WEBHOOK, nothing).await;
    }
    world.publish_and_settle(WEBHOOK, &second).await;
    let order = world.agent.one("the second task", |asked| asked.path == "/order").await;
    fits(&schema(NAME, "agent-task"), &order.body);
    assert_eq!(order.body["metadata"], json!({ "priority": "high", "retryCount": 0, "maxRetries": 3 }));
    let wanted = [("user", "Hello, are you open on Sunday?"), ("assistant", "We are open from 10 to 6.")];
    assert_eq!(history(&order), wanted.map(|(role, text)| format!("{role}: {text}")));
    world.gateway.at_least(2, "the second answer", to(number)).await;
    repetitions_send_nothing_twice(&world, &second).await;
    let first = world.agent.those(|asked| asked.body["message"]["messageId"] == "3EB0A1");
    assert_eq!(first.len(), 1, "the first message came in two webhooks");
    assert!(world.admin.asked().is_empty());
    assert!(world.daemon.terminate().await.success());
}

/// The conversation in a task, as `role: text`.
fn history(task: &Asked) -> Vec<String> {
    let lines = task.body["context"]["conversationHistory"].as_array().expect("a list").iter();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines.map(|line| format!("{}: {}", word(&line["role"]), word(&line["text"]))).collect()
}

/// The same event again, as after a crash: the same task, which the agent may recognise by its key, and no second
/// message.
async fn repetitions_send_nothing_twice(world: &World, webhook: &Value) {
    let mut webhook = webhook.clone();
    webhook["data"]["messages"][0]["key"]["id"] = "3EB0A9".into();
    webhook["data"]["messages"][0]["message"]["conversation"] = "twice".into();
    let id = uuid::Uuid::now_v7().to_string();
    let is_it = |asked: &Asked| asked.body["message"]["text"] == "twice";
    world.publish_as(&id, WEBHOOK, &webhook);
    world.gateway.at_least(3, "the answer", |_| true).await;
    // The API recognises it by its id, and a broker does not.
    let again = json!({ "id": id, "type": WEBHOOK, "data": webhook });
    assert_eq!(world.daemon.post("/api/v1/events", &again.to_string()).1["repeated"], true);
    if world.example.broker == "embedded" {
        assert_eq!(world.agent.those(is_it).len(), 1);
        return;
    }
    gateways(world).await.publish_as(Some(&id), WEBHOOK, &webhook).await;
    let asked = world.agent.at_least(2, "the task again", is_it).await;
    assert_eq!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
    assert_eq!(asked[0].body["context"], asked[1].body["context"], "the conversation is as it was");
    eventually("the second reply's end", || {
        let found = world.daemon.log().contains("reply-3EB0A9 was sent before").then_some(());
        async move { found }
    })
    .await;
    assert_eq!(world.gateway.asked().len(), 3);
}

async fn a_colleague_takes_over(on: On) {
    let world = World::start(on, Box::new(|asked, _| echo(asked))).await;
    let [off, back] = ["05-contact-ai-off", "06-contact-ai-on"].map(|name| {
        let command = sample(NAME, &format!("samples/{name}.json"));
        fits(&schema(NAME, "contact-ai"), &command);
        command
    });
    let number = "420777123456";
    world.publish_and_settle("whatsapp.contact.ai", &off).await;
    world.publish_and_settle(RECEIVED, &message(number, "Are you open?")).await;
    world.publish_and_settle(RECEIVED, &message("420777999999", "Me too")).await;
    world.gateway.one("the answer to another contact", to("420777999999")).await;
    assert_eq!(world.sent_to(number), Vec::<String>::new());
    world.publish_and_settle("whatsapp.contact.ai", &back).await;
    world.publish_and_settle(RECEIVED, &message(number, "Hello again")).await;
    let task = world.agent.one("the task", |asked| asked.body["message"]["text"] == "Hello again").await;
    assert_eq!(task.body["context"]["userNotes"], "Prefers the phone.");
    assert_eq!(task.body["context"]["conversationHistory"][0]["text"], "Are you open?", "it was kept");
    world.gateway.one("the answer", to(number)).await;
    assert_eq!(world.sent_to(number), ["You said: Hello again"]);
    // Two commands, a message without an answer, and twice a message, its task, the reply, and the notice.
    world.at_rest(11).await;
    // A conversation survives the daemon.
    let World { agent, example, daemon, .. } = world;
    assert!(daemon.terminate().await.success());
    let daemon = example.start().await;
    let body = json!({ "type": RECEIVED, "data": message(number, "After the restart") });
    assert_eq!(daemon.post("/api/v1/events", &body.to_string()).0, 202);
    let task = agent.one("the task", |asked| asked.body["message"]["text"] == "After the restart").await;
    assert_eq!(task.body["context"]["conversationHistory"].as_array().map(Vec::len), Some(3), "{}", task.body);
}

async fn a_share_of_the_contacts_gets_the_experiment(on: On) {
    const CONTACTS: usize = 60;
    let experiment = Stub::start(|asked, _| match asked.body["contact"]["phoneNumber"].as_str() {
        // Every second contact is too much for it.
        Some(number) if number.ends_with(['1', '3', '5', '7', '9']) => Answer::status(500),
        _ => echo(asked),
    });
    let world = World::start_with(on, Box::new(|asked, _| echo(asked)), experiment, gateway(), &[]).await;
    for round in 0..2 {
        for contact in 0..CONTACTS {
            world.publish(RECEIVED, &message(&format!("4207770{contact:05}"), &format!("round {round}")));
        }
    }
    world.gateway.at_least(2 * CONTACTS, "all answers", |_| true).await;
    let number = |asked: &Asked| asked.body["contact"]["phoneNumber"].as_str().map(str::to_owned);
    let tried = world.experiment.asked().iter().filter_map(number).collect::<Vec<_>>();
    let contacts = tried.iter().collect::<std::collections::BTreeSet<_>>();
    assert!((1..CONTACTS / 3).contains(&contacts.len()), "about a tenth of them: {contacts:?}");
    assert_eq!(tried.len(), 2 * contacts.len(), "always the same ones: {tried:?}");
    // The other agent answered at once where this one failed.
    let failed = contacts.iter().filter(|number| number.ends_with(['1', '3', '5', '7', '9'])).count();
    assert_eq!(world.agent.asked().len(), 2 * (CONTACTS - contacts.len() + failed));
    assert_eq!(world.daemon.sum("trunkline_retries_scheduled_total"), 0.0);
}

async fn urgent_messages_overtake(on: On) {
    // The first task takes until the others are in the queue together.
    let (let_go, agent) = held_at_first();
    let world = World::start(on, agent).await;
    world.publish(RECEIVED, &message("420777100000", "first"));
    world.agent.one("the first task", |_| true).await;
    for (contact, text) in [(1, "hello"), (2, "hello you"), (3, "an order please"), (4, "urgent, an order")] {
        world.publish_and_settle(RECEIVED, &message(&format!("42077710000{contact}"), text)).await;
    }
    let_go.send(()).expect("it waits");
    let asked = world.agent.at_least(5, "all tasks", |_| true).await;
    let texts = asked.iter().filter_map(|asked| asked.body["message"]["text"].as_str()).collect::<Vec<_>>();
    assert_eq!(texts, ["first", "urgent, an order", "an order please", "hello", "hello you"]);
}
