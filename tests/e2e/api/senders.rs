//! The known senders of webhooks: handshakes, signatures, types, ids, responses, and the reports of the daemon about each hook.

use std::time::SystemTime;

use serde_json::{Value, json};
use trunkline_support::{Daemon, patience};

use super::send;
use crate::bench::{Bench, drain, on_both_brokers};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = "#"
codec = "raw"
[hooks.meta]
provider = "meta"
signature = { secret = { env = "SECRET" } }
handshake = { token = { env = "VERIFY" } }
[hooks.github]
provider = "github"
signature = { secret = [{ env = "OLD" }, { env = "SECRET" }] }
[hooks.gitlab]
provider = "gitlab"
signature = { secret = [{ env = "SECRET" }, { env = "STANDARD" }] }
[hooks.standard]
provider = "standard"
signature = { secret = { env = "STANDARD" } }
[hooks.strict]
provider = "event-grid"
signature = { secret = { env = "SECRET" } }
key = "{data.subject}"
[hooks.own]
type = "{header.X-Event}"
id = "{header.X-Delivery}"
"##;

/// The senders whose hook has no further key.
const PLAIN: [&str; 6] = ["wasender", "stripe", "slack", "shopify", "telegram", "event-grid"];

fn routes() -> String {
    let hook = |name: &str| {
        format!("[hooks.{name}]\nprovider = \"{name}\"\nsignature = {{ secret = {{ env = \"SECRET\" }} }}\n")
    };
    format!("{ROUTES}{}", PLAIN.map(hook).concat())
}

const SECRET: &str = "It's a Secret to Everybody";
const VARIABLES: [(&str, &str); 4] = [
    ("SECRET", SECRET),
    ("OLD", "the-secret-before-the-rotation"),
    ("VERIFY", "meatyhamhock"),
    ("STANDARD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
];
const JSON: (&str, &str) = ("content-type", "application/json");

/// Status, body and one header of the response to a request without a body.
fn ask(request: ureq::RequestBuilder<ureq::typestate::WithoutBody>, header: &str) -> (u16, String, String) {
    let request = request.config().timeout_global(Some(patience())).http_status_as_error(false).build();
    let mut response = request.call().expect("an answer");
    let value = response.headers().get(header).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.body_mut().read_to_string().expect("a text");
    (response.status().as_u16(), text, value)
}

/// Sends a request without proof, then the request with its proof, and then the request with its proof again.
fn is_proven(daemon: &Daemon, hook: &str, headers: &[(&str, &str)], body: &str, proof: &[(&str, &str)]) -> Value {
    let path = format!("/hooks/{hook}");
    let (status, problem) = send(daemon, &path, headers, body);
    assert_eq!((status, &problem["code"]), (401, &json!("TL401")), "{hook}: {problem}");
    let proven = [headers, proof].concat();
    let (status, accepted) = send(daemon, &path, &proven, body);
    assert_eq!(status, 200, "{hook}: {accepted}");
    let (status, repeated) = send(daemon, &path, &proven, body);
    assert_eq!(status, 200, "{hook}: {repeated}");
    assert!(repeated.is_string() || repeated["repeated"] == true, "{hook}: {repeated}");
    accepted
}

/// The number of requests to a hook with this result.
fn requests(daemon: &Daemon, hook: &str, result: &str) -> f64 {
    daemon.metric(&format!("trunkline_hook_requests_total{{hook=\"{hook}\",result=\"{result}\"}}"))
}

/// Signatures that do not depend on the time are from the senders' documentation, or were computed with another program.
async fn known_senders_are_accepted(bench: Bench) {
    let daemon = bench.start_with(&routes(), &VARIABLES).await;
    let body = "Hello, World!";
    let text = ("content-type", "text/plain");
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let github = [text, ("x-github-event", "push"), ("x-github-delivery", "72d3162e-cc78-11e3")];
    let accepted = is_proven(&daemon, "github", &github, body, &[("x-hub-signature-256", signature)]);
    assert_eq!((&accepted["routing_key"], &accepted["id"]), (&json!("push"), &json!("72d3162e-cc78-11e3")));
    is_proven(&daemon, "meta", &[text], body, &[("x-hub-signature-256", signature)]);
    let shopify = [text, ("x-shopify-topic", "orders/create"), ("x-shopify-event-id", "98880550")];
    let hmac = ("x-shopify-hmac-sha256", "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=");
    assert_eq!(is_proven(&daemon, "shopify", &shopify, body, &[hmac])["routing_key"], "orders.create");

    let upsert = json!({ "event": "messages.upsert", "data": { "messages": { "key": { "id": "3EB0" } } } }).to_string();
    let accepted = is_proven(&daemon, "wasender", &[JSON], &upsert, &[("x-webhook-signature", SECRET)]);
    assert_eq!(
        (&accepted["routing_key"], &accepted["id"]),
        (&json!("messages.upsert"), &json!("messages.upsert.3EB0"))
    );
    let push = json!({ "object_kind": "push" }).to_string();
    let gitlab = [JSON, ("idempotency-key", "f5e5f430")];
    assert_eq!(is_proven(&daemon, "gitlab", &gitlab, &push, &[("x-gitlab-token", SECRET)])["id"], "f5e5f430");
    let update = json!({ "update_id": 10000, "message": { "text": "hi" } }).to_string();
    let telegram = is_proven(&daemon, "telegram", &[JSON], &update, &[("x-telegram-bot-api-secret-token", SECRET)]);
    assert_eq!(telegram, json!(""), "Telegram would execute the body as a method call");
    assert!(daemon.terminate().await.success());

    let broker = bench.open_with(&routes(), &VARIABLES).await;
    let all = drain(&broker, &bench.queue("$P-all"), 6).await;
    let mut keys: Vec<&str> = all.iter().map(|message| message.routing_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["message", "messages.upsert", "meta", "orders.create", "push", "push"]);
    broker.close(patience()).await;
}

/// The seconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_requests_are_refused() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(&routes(), &VARIABLES).await;
    // The request is from the libraries of Standard Webhooks. The signature is valid, but the timestamp is from 2021.
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let standard = [
        JSON,
        ("webhook-id", id),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let (status, problem) = send(&daemon, "/hooks/standard", &standard, "{\"test\": 2432232314}");
    assert!(status == 401 && problem["detail"].to_string().contains("clock"), "{problem}");
    let forged = format!("t={},v1={}", now(), "0".repeat(64));
    let (status, problem) = send(&daemon, "/hooks/stripe", &[JSON, ("stripe-signature", forged.as_str())], "{}");
    assert!(status == 401 && problem["detail"].to_string().contains("signature"), "{problem}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_timestamps_are_accepted() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(&routes(), &VARIABLES).await;
    let time = now().to_string();
    let body = json!({ "id": "evt_1", "type": "invoice.paid" }).to_string();
    let mac = sign(SECRET.as_bytes(), &format!("{time}.{body}"));
    let stripe = format!("t={time},v1={}", hex::encode(mac));
    assert_eq!(
        is_proven(&daemon, "stripe", &[JSON], &body, &[("stripe-signature", &stripe)])["routing_key"],
        "invoice.paid"
    );
    let slack = |body: &str| {
        let signature = format!("v0={}", hex::encode(sign(SECRET.as_bytes(), &format!("v0:{time}:{body}"))));
        let signed = [JSON, ("x-slack-request-timestamp", time.as_str()), ("x-slack-signature", signature.as_str())];
        send(&daemon, "/hooks/slack", &signed, body)
    };
    let challenge = json!({ "type": "url_verification", "token": "t", "challenge": "3eZbrw1aB" }).to_string();
    assert_eq!(send(&daemon, "/hooks/slack", &[JSON], &challenge).0, 401);
    assert_eq!(slack(&challenge), (200, json!("3eZbrw1aB")));
    // Slack checks the certificate of the address without a signature.
    let form = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(send(&daemon, "/hooks/slack", &[form], "ssl_check=1&token=t"), (200, json!("")));
    assert_eq!(send(&daemon, "/hooks/slack", &[form], "command=%2Fdeploy&token=t").0, 401);
    assert_eq!(daemon.get("/hooks/slack?ssl_check=1&token=t"), (200, String::new()));
    assert_eq!(daemon.get("/hooks/slack").0, 405);
    let mention =
        json!({ "type": "event_callback", "event_id": "Ev1", "event": { "type": "app_mention" } }).to_string();
    assert_eq!(slack(&mention), (200, json!("")));
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &VARIABLES[3].1[6..]).expect("a key");
    // GitLab signs with its signing token in the same way.
    let push = json!({ "object_kind": "push" }).to_string();
    for (hook, id, body) in [("standard", "msg_1", &body), ("gitlab", "f5e5f430", &push)] {
        let mac = sign(&key, &format!("{id}.{time}.{body}"));
        let signature = format!("v1,{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac));
        let head = [JSON, ("webhook-id", id), ("webhook-timestamp", time.as_str())];
        assert_eq!(is_proven(&daemon, hook, &head, body, &[("webhook-signature", &signature)])["id"], id);
    }
    for (hook, result, count) in [("slack", "handshake", 3.0), ("slack", "accepted", 1.0), ("stripe", "refused", 1.0)] {
        assert_eq!(requests(&daemon, hook, result), count, "{hook} {result}");
    }
    assert!(daemon.terminate().await.success());
}

/// HMAC-SHA256 (RFC 2104), independent of the daemon's code.
pub fn sign(key: &[u8], text: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    assert!(key.len() <= 64, "a longer key would be hashed");
    let pad = |byte: u8| (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_confirmed() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(&routes(), &VARIABLES).await;
    let get = |query: &str| ask(ureq::get(daemon.url(&format!("/hooks/meta?{query}"))), "content-type");
    let good = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock";
    assert_eq!(get(good), (200, "1158201444".to_owned(), "text/plain; charset=utf-8".to_owned()));
    for (bad, status) in [
        ("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=other", 403),
        ("hub.challenge=1158201444&hub.verify_token=meatyhamhock", 403),
        ("hub.mode=subscribe&hub.verify_token=meatyhamhock", 400),
        ("", 403),
    ] {
        assert_eq!(get(bad).0, status, "{bad}");
    }
    for hook in ["github", "own", "event-grid", "none"] {
        let (status, _, allowed) = ask(ureq::get(daemon.url(&format!("/hooks/{hook}"))), "allow");
        assert_eq!((status, allowed.as_str()), (405, "POST"), "{hook}");
    }

    let options = |hook: &str, origin: &str| {
        let request = ureq::options(daemon.url(&format!("/hooks/{hook}"))).header("WebHook-Request-Origin", origin);
        ask(request, "webhook-allowed-origin")
    };
    let (status, _, allowed) = options("event-grid", "eventgrid.azure.net");
    assert_eq!((status, allowed.as_str()), (200, "eventgrid.azure.net"));
    assert_eq!(options("meta", "eventgrid.azure.net").0, 405);
    let validation = json!([{ "id": "v", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": { "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" } }]);
    let code = "/hooks/event-grid?code=It%27s%20a%20Secret%20to%20Everybody";
    assert_eq!(send(&daemon, "/hooks/event-grid", &[JSON], &validation.to_string()).0, 401);
    let answer = send(&daemon, code, &[JSON, ("aeg-event-type", "SubscriptionValidation")], &validation.to_string());
    assert_eq!(answer, (200, json!({ "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" })));
    let events = json!([{ "id": "a", "eventType": "Blob.Created" }, { "id": "b", "eventType": "Blob.Deleted" }]);
    let (status, accepted) = send(&daemon, code, &[JSON], &events.to_string());
    assert_eq!((status, &accepted[0]["id"], &accepted[1]["routing_key"]), (200, &json!("a"), &json!("Blob.Deleted")));

    // Two topics may use the same id for different events.
    for (topic, repeated) in [("/topics/one", false), ("/topics/other", false), ("/topics/other", true)] {
        let event = json!([{ "id": "1807", "topic": topic, "eventType": "Order.Placed" }]);
        let (status, accepted) = send(&daemon, code, &[JSON], &event.to_string());
        assert_eq!((status, &accepted["repeated"]), (200, &json!(repeated)), "{topic}: {accepted}");
        assert_eq!(accepted["id"], "1807");
    }

    // A refused event stops no other event of the list.
    let strict = code.replace("event-grid", "strict");
    let (bad, good) = (json!({ "id": "bad" }), json!({ "id": "good", "subject": "s" }));
    let (status, problem) = send(&daemon, &strict, &[JSON], &json!([bad, good]).to_string());
    assert!(status == 422 && problem["detail"].to_string().contains("data.subject"), "{problem}");
    let (status, repeated) = send(&daemon, &strict, &[JSON], &json!([good]).to_string());
    assert_eq!((status, &repeated["repeated"]), (200, &json!(true)), "{repeated}");
    assert!(daemon.terminate().await.success());
}

/// Each hook has a label of the metrics, and each refusal has a log line.
#[tokio::test(flavor = "multi_thread")]
async fn every_hook_is_reported() {
    let bench = Bench::embedded();
    let daemon = bench.start_with(&routes(), &VARIABLES).await;
    let own = [JSON, ("x-event", "orders.created"), ("x-delivery", "d-1")];
    let (status, accepted) = send(&daemon, "/hooks/own", &own, "{}");
    assert_eq!((status, &accepted["routing_key"], &accepted["id"]), (202, &json!("orders-created"), &json!("d-1")));
    assert_eq!(send(&daemon, "/hooks/own/below", &[JSON], "{}").0, 422);
    assert_eq!(send(&daemon, "/hooks/github", &[JSON], "{}").0, 401);
    for (hook, result) in [("own", "accepted"), ("own", "refused"), ("github", "refused")] {
        assert_eq!(requests(&daemon, hook, result), 1.0, "{hook} {result}");
    }
    let series = "trunkline_http_requests_total{method=\"POST\",path=\"/hooks/own\",status=\"422\"}";
    assert_eq!(daemon.metric(series), 1.0, "the label contains the path of the hook, not the path of the request");
    daemon.logged("the daemon refused a request to a hook").await;
    let log = daemon.log();
    for (hook, why) in [("own", "header.X-Event"), ("github", "signature")] {
        let is_line = |line: &&str| line.contains("the daemon refused a request to a hook") && line.contains(hook);
        assert!(log.lines().filter(is_line).any(|line| line.contains(why)), "{hook}: {log}");
    }
    assert!(!log.contains(SECRET), "no line contains a secret");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    known_senders_are_accepted,
}
