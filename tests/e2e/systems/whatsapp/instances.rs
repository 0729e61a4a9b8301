//! Several instances of Evolution API side by side.

use super::super::example::stories;
use super::*;

stories!(the_gateway_posts_to_the_hook, one_instance_holds_up_no_other, instances_know_nothing_of_each_other);

fn of(instance: &str, mut event: Value) -> Value {
    event["instance"] = instance.into();
    event
}

/// A webhook of Evolution API, with a new id.
fn webhook(instance: &str, number: &str, text: &str) -> Value {
    let mut webhook = of(instance, sample(NAME, "samples/08-webhook-evolution.json"));
    webhook["data"]["key"]["remoteJid"] = format!("{number}@s.whatsapp.net").into();
    webhook["data"]["key"]["id"] = uuid::Uuid::now_v7().simple().to_string().into();
    webhook["data"]["message"]["conversation"] = text.into();
    webhook
}

/// Posts a webhook of Evolution API, and gives the answer.
fn post(daemon: &Daemon, webhook: &Value) -> (u16, Value) {
    send(daemon, "/hooks/whatsapp", &[JSON, ("x-hook-token", SECRET)], &webhook.to_string())
}

/// Starts the system with Evolution API as the sender.
async fn with_evolution(on: On, further: &[(&str, &str)]) -> World {
    let further = [&[("SENDER_API", "evolution")][..], further].concat();
    let gateway = Stub::start(|asked, _| senders::evolution(asked));
    World::start_with(on, Box::new(|asked, _| echo(asked)), down(), gateway, &further).await
}

async fn the_gateway_posts_to_the_hook(on: On) {
    let world = with_evolution(on, &[]).await;
    let webhook = webhook("shop", "420777500001", "over the hook");
    let (status, accepted) = post(&world.daemon, &webhook);
    assert_eq!((status, &accepted["routing_key"]), (202, &json!(WEBHOOK)), "{accepted}");
    let sent = world.gateway.one("the answer", |asked| asked.body["number"] == "420777500001").await;
    assert_eq!(sent.body["text"], "You said: over the hook");
    let (status, problem) = post(&world.daemon, &json!({ "instance": "shop", "data": { "key": {} } }));
    assert_eq!(status, 422, "{problem}");
    assert_eq!(world.daemon.sum("trunkline_dead_letters_total"), 0.0, "it was refused at the door");
}

async fn one_instance_holds_up_no_other(on: On) {
    const FLOOD: usize = 60;
    const CLIENTS: usize = 8;
    // Shorter than any machine's answer, so that the rate decides the wait.
    let world = with_evolution(on, &[("AGENT_RATE", "4/s")]).await;
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let daemon = &world.daemon;
            threads.spawn(move || {
                for contact in (client..FLOOD).step_by(CLIENTS) {
                    let webhook = webhook("flood", &format!("4207776{contact:05}"), "hello");
                    assert_eq!(post(daemon, &webhook).0, 202);
                }
            });
        }
    });
    let is_flood = |asked: &Asked| asked.path == "/message/sendText/flood";
    assert_eq!(post(&world.daemon, &webhook("calm", "420777700000", "hello")).0, 202);
    let earlier = world.gateway.those(is_flood).len();
    let sent = world.gateway.one("the calm one's answer", |asked| asked.body["number"] == "420777700000").await;
    assert_eq!(sent.path, "/message/sendText/calm");
    world.gateway.at_least(FLOOD, "the flood's answers", is_flood).await;
    let answers = world.gateway.those(|_| true);
    let before = answers.iter().take_while(|asked| asked.path != sent.path).filter(|asked| is_flood(asked)).count();
    let (waited, waiting) = (before.saturating_sub(earlier), FLOOD - earlier);
    assert!(waited < waiting / 2, "it waited for {waited} of the {waiting} that were before it");
}

async fn instances_know_nothing_of_each_other(on: On) {
    let world = World::start(on, Box::new(|asked, _| echo(asked))).await;
    let number = "420777800000";
    world.publish_and_settle(RECEIVED, &of("one", message(number, "to one"))).await;
    world.at_rest(4).await;
    world.publish_and_settle(RECEIVED, &of("two", message(number, "to two"))).await;
    world.at_rest(8).await;
    world.publish_and_settle(RECEIVED, &of("one", message(number, "to one again"))).await;
    let history = |text: &'static str| {
        let world = &world;
        async move {
            let task = world.agent.one(text, |asked| asked.body["message"]["text"] == text).await;
            let lines = task.body["context"]["conversationHistory"].as_array().expect("a list").clone();
            lines.iter().map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(history("to two").await, Vec::<String>::new());
    assert_eq!(history("to one again").await, ["to one", "You said: to one"]);
}
