//! The hook that the gateway posts to, and several of its instances beside each other.

use super::super::example::stories;
use super::*;

stories!(the_gateway_posts_to_the_hook, one_instance_holds_up_no_other, instances_know_nothing_of_each_other);

fn to(instance: &str, mut webhook: Value) -> Value {
    webhook["instance"] = instance.into();
    webhook
}

async fn the_gateway_posts_to_the_hook(on: On) {
    let world = World::start(on, Box::new(|asked, _| echo(asked))).await;
    let webhook = message("420777500001", "over the hook");
    let (status, accepted) = world.daemon.post("/hooks/whatsapp", &webhook.to_string());
    assert_eq!((status, &accepted["routing_key"]), (202, &json!(WEBHOOK)), "{accepted}");
    let sent = world.gateway.one("the answer", |asked| asked.body["number"] == "420777500001").await;
    assert_eq!(sent.body["text"], "You said: over the hook");
    let (status, problem) = world.daemon.post("/hooks/whatsapp", r#"{ "instance": "shop", "data": { "key": {} } }"#);
    assert_eq!(status, 422, "{problem}");
    assert_eq!(world.daemon.sum("trunkline_dead_letters_total"), 0.0, "it was refused at the door");
}

async fn one_instance_holds_up_no_other(on: On) {
    const FLOOD: usize = 60;
    const CLIENTS: usize = 8;
    let (agent, experiment) = (Box::new(|asked: &Asked, _| echo(asked)), Stub::start(|_, _| Answer::status(503)));
    // Less than any machine answers, so that it is the rate that they wait for.
    let world = World::start_with(on, agent, experiment, gateway(), &[("AGENT_RATE", "4/s")]).await;
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let daemon = &world.daemon;
            threads.spawn(move || {
                for contact in (client..FLOOD).step_by(CLIENTS) {
                    let webhook = to("flood", message(&format!("4207776{contact:05}"), "hello"));
                    assert_eq!(daemon.post("/hooks/whatsapp", &webhook.to_string()).0, 202);
                }
            });
        }
    });
    let is_flood = |asked: &Asked| asked.path == "/message/sendText/flood";
    let webhook = to("calm", message("420777700000", "hello"));
    assert_eq!(world.daemon.post("/hooks/whatsapp", &webhook.to_string()).0, 202);
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
    world.publish_and_settle(WEBHOOK, &to("one", message(number, "to one"))).await;
    world.at_rest(4).await;
    world.publish_and_settle(WEBHOOK, &to("two", message(number, "to two"))).await;
    world.at_rest(8).await;
    world.publish_and_settle(WEBHOOK, &to("one", message(number, "to one again"))).await;
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
