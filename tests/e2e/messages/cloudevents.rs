//! W8: CloudEvents of other programs. The tests send messages of every mode, and use the SDKs for Python and JavaScript over
//! RabbitMQ and over HTTP.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use trunkline_broker::Publication;
use trunkline_event::{HeaderValue, Message};
use trunkline_support::patience;

use super::{attributes, put, seen};
use crate::bench::{Bench, drain, message, metric, on_both_brokers, settled};
use crate::foreign::{modules_with, python_with, run};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[exchanges.$P-clouds]
type = "topic"
codec = "cloudevents"
[queues.$P-out]
bind = "echoed"
[queues.$P-seen]
bind = "seen"
[queues.$P-echo]
bind = { exchange = "$P-clouds", keys = "in" }
[queues.$P-witness]
bind = { exchange = "$P-clouds", keys = "in" }
[routes.$P-echo]
queue = "$P-echo"
plugin = "echo"
emit = { exchange = "$P-events" }
[routes.$P-witness]
queue = "$P-witness"
plugin = "witness"
emit = { exchange = "$P-events" }
[hooks.clouds]
codec = "cloudevents"
exchange = "$P-clouds"
key = "in"
"#;

/// The content type of an emission without data. An empty body is not JSON.
const BYTES: &str = "application/octet-stream";

/// A message with the expected result: content type and data, or a part of the dead letter's error.
struct CloudCase {
    name: &'static str,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, HeaderValue)>,
    body: String,
    result: Result<(&'static str, &'static str), &'static str>,
}

fn structured(name: &'static str, content_type: Option<&'static str>, members: &str) -> CloudCase {
    let body = format!(r#"{{"specversion":"1.0","id":"{name}","source":"/shop","type":"order.placed"{members}}}"#);
    CloudCase { name, content_type, headers: Vec::new(), body, result: Err("") }
}

fn binary(name: &'static str, prefix: [&'static str; 5]) -> CloudCase {
    let [id, source, kind, version, sequence] = prefix;
    let headers = vec![
        (id, HeaderValue::from(name)),
        (source, HeaderValue::from("/shop")),
        (kind, HeaderValue::from("order.placed")),
        (version, HeaderValue::from("1.0")),
        (sequence, HeaderValue::Int(42)),
    ];
    let (content_type, body) = (Some("application/json"), "{\"n\":1}".to_owned());
    CloudCase { name, content_type, headers, body, result: Ok(("application/json", "{\"n\":1}")) }
}

fn cases() -> Vec<CloudCase> {
    const STRUCTURED: Option<&str> = Some("application/cloudevents+json");
    let underscore =
        ["cloudEvents_id", "cloudEvents_source", "cloudEvents_type", "cloudEvents_specversion", "cloudEvents_sequence"];
    let colon =
        ["cloudEvents:id", "cloudEvents:source", "cloudEvents:type", "cloudEvents:specversion", "cloudEvents:sequence"];
    let knative = ["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-sequence"];
    let good = |case: CloudCase, content_type, data| CloudCase { result: Ok((content_type, data)), ..case };
    let bad = |case: CloudCase, told| CloudCase { result: Err(told), ..case };
    let json = r#","sequence":42,"data":{"n":1}"#;
    let mut mixed = binary("mixed", underscore);
    mixed.headers.push(("cloudEvents:type", HeaderValue::from("order.paid")));
    let empty = CloudCase { body: String::new(), ..binary("empty", underscore) };
    let mut partial = binary("partial", underscore);
    partial.headers.remove(1);
    vec![
        good(structured("structured", STRUCTURED, json), "application/json", "{\"n\":1}"),
        good(structured("dapr", Some("text/plain"), json), "application/json", "{\"n\":1}"),
        good(structured("untyped", None, json), "application/json", "{\"n\":1}"),
        good(
            structured("text", STRUCTURED, r#","sequence":42,"datacontenttype":"text/plain","data":"say \"hi\"""#),
            "text/plain",
            "say \"hi\"",
        ),
        good(
            structured(
                "xml",
                Some("text/plain"),
                r#","sequence":42,"datacontenttype":"text/xml","data":"<a b=\"c\"/>""#,
            ),
            "text/xml",
            "<a b=\"c\"/>",
        ),
        good(
            structured("base64", STRUCTURED, r#","sequence":42,"datacontenttype":"text/plain","data_base64":"aGk=""#),
            "text/plain",
            "hi",
        ),
        good(structured("no-data", STRUCTURED, r#","sequence":42"#), BYTES, ""),
        good(empty, BYTES, ""),
        binary("underscore", underscore),
        binary("colon", colon),
        binary("knative", knative),
        bad(structured("version", Some("text/plain"), "").version("0.3"), "0.3"),
        bad(
            structured("no-text", STRUCTURED, r#","datacontenttype":"text/plain","data":{}"#),
            "`data` is not a string",
        ),
        bad(structured("batch", Some("application/cloudevents-batch+json"), ""), "a batch is not one event"),
        bad(structured("avro", Some("application/cloudevents+avro"), ""), "application/cloudevents+json"),
        bad(mixed, "`type` has different values"),
        bad(partial, "`source` is missing or empty"),
    ]
}

impl CloudCase {
    fn version(self, version: &str) -> Self {
        Self { body: self.body.replace("\"1.0\"", &format!("\"{version}\"")), ..self }
    }

    fn publication(&self, bench: &Bench) -> Publication {
        let mut publication = message(&format!("{}-clouds", bench.prefix), "in", self.name, self.body.clone());
        let properties = &mut publication.message_mut().properties;
        properties.content_type = self.content_type.map(str::to_owned);
        for (name, value) in &self.headers {
            properties.headers.set(*name, value.clone());
        }
        publication
    }
}

/// Content type and data in the emissions of the guest `echo`, by the id of the event.
fn echoed(messages: Vec<Message>) -> BTreeMap<String, (String, Vec<u8>)> {
    let entry = |message: Message| {
        let cause = message.properties.headers.text("trunkline-cause").unwrap_or_default().to_owned();
        (cause, (message.properties.content_type.unwrap_or_default(), message.body.to_vec()))
    };
    messages.into_iter().map(entry).collect()
}

async fn every_form_is_read_or_refused(bench: Bench) {
    let cases = cases();
    let broker = bench.open(ROUTES).await;
    for case in &cases {
        put(&broker, case.publication(&bench)).await;
    }
    broker.close(patience()).await;
    drop(broker);
    let daemon = bench.start(ROUTES).await;
    let dead = cases.iter().filter(|case| case.result.is_err()).count();
    let good = cases.len() - dead;
    for route in ["echo", "witness"] {
        metric(&daemon, &settled(&bench, route, "dead_letter"), |count| count == dead as f64).await;
        metric(&daemon, &settled(&bench, route, "ack"), |count| count == good as f64).await;
    }
    assert!(daemon.terminate().await.success());

    let broker = bench.open(ROUTES).await;
    let echoed = echoed(drain(&broker, &bench.queue("$P-out"), good).await);
    let seen = seen(&drain(&broker, &bench.queue("$P-seen"), good).await);
    let letters = drain(&broker, &bench.queue("$P-echo.dlq"), dead).await;
    for case in &cases {
        let name = case.name;
        match case.result {
            Ok((content_type, data)) => {
                assert_eq!(echoed[name], (content_type.to_owned(), data.as_bytes().to_vec()), "{name}");
                let seen = &seen[name];
                assert_eq!((&seen["type"], &seen["source"]), (&json!("order.placed"), &json!("/shop")), "{name}");
                assert_eq!(attributes(seen)["sequence"], "42", "{name}");
            }
            Err(told) => {
                let is_case = |letter: &&Message| letter.properties.message_id.as_deref() == Some(name);
                let letter = letters.iter().find(is_case).unwrap_or_else(|| panic!("{name} is nowhere"));
                let headers = &letter.properties.headers;
                assert_eq!(headers.text("trunkline-reason"), Some("invalid"), "{name}");
                let error = headers.text("trunkline-error").unwrap_or_default();
                assert!(error.contains(told), "{name}: {error}");
                assert_eq!(letter.body, case.body.as_bytes(), "{name}: the body is unchanged");
            }
        }
    }
    broker.close(patience()).await;
}

on_both_brokers!(every_form_is_read_or_refused);

/// The script sends events with each binding of the SDK for Python and each kind of data. The ids are `binding-data`.
const PYTHON: &str = r#"
import asyncio, sys, urllib.request
from datetime import datetime, timezone
import aio_pika
from cloudevents.core.v1.event import CloudEvent
from cloudevents.core.bindings import amqp, http, rabbitmq

def event(name, content_type, data):
    return CloudEvent({"specversion": "1.0", "id": name, "source": "/shop", "type": "order.placed", "subject": "order 7",
                       "time": datetime(2026, 11, 21, 10, tzinfo=timezone.utc), "datacontenttype": content_type,
                       "sequence": "42"}, data)

DATA = {"json": ("application/json", {"n": 1}), "text": ("text/plain", "hello"), "bytes": ("image/png", b"\x89PNG"),
        "none": ("application/json", None)}

async def main(url, exchange_name, hook):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
        async def publish(headers, content_type, body):
            await exchange.publish(aio_pika.Message(body, headers=headers, content_type=content_type), routing_key="in")
        for name, (content_type, data) in DATA.items():
            sent = amqp.to_binary_event(event("amqp_binary-" + name, content_type, data))
            await publish(sent.application_properties, sent.properties.get("content-type"), sent.application_data)
            sent = amqp.to_structured_event(event("amqp_structured-" + name, content_type, data))
            await publish({}, sent.properties.get("content-type"), sent.application_data)
            sent = rabbitmq.to_binary_event(event("rabbitmq_binary-" + name, content_type, data))
            await publish(sent.headers, sent.content_type, sent.body)
            sent = rabbitmq.to_structured_event(event("rabbitmq_structured-" + name, content_type, data))
            await publish(sent.headers, sent.content_type, sent.body)
            for sent in [http.to_binary_event(event("http_binary-" + name, content_type, data)),
                         http.to_structured_event(event("http_structured-" + name, content_type, data))]:
                with urllib.request.urlopen(urllib.request.Request(hook, sent.body, sent.headers)) as answer:
                    assert answer.status == 202, answer.status

asyncio.run(main(*sys.argv[1:]))
"#;

/// The script sends events in both modes of the SDK for JavaScript. Over RabbitMQ, the binary headers have the prefix of the AMQP
/// binding.
const JAVASCRIPT: &str = r#"
const { CloudEvent, HTTP } = require(process.env.CLOUDEVENTS);
const amqp = require(process.env.AMQPLIB);
const [url, exchange, hook] = process.argv.slice(1);
const data = { json: ["application/json", { n: 1 }], text: ["text/plain", "hello"], none: [] };
const event = (id, [datacontenttype, data]) => new CloudEvent({
  id, source: "/shop", type: "order.placed", subject: "order 7", time: "2026-11-21T10:00:00Z", sequence: "42",
  datacontenttype, data,
});
(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(exchange, "topic", { durable: true });
  for (const [name, content] of Object.entries(data)) {
    for (const mode of ["binary", "structured"]) {
      const amqpMessage = HTTP[mode](event(`amqp_${mode}-${name}`, content));
      const headers = Object.fromEntries(Object.entries(amqpMessage.headers)
        .filter(([header]) => header.startsWith("ce-")).map(([header, value]) => ["cloudEvents_" + header.slice(3), value]));
      const contentType = amqpMessage.headers["content-type"];
      channel.publish(exchange, "in", Buffer.from(amqpMessage.body ?? ""), { headers, contentType, persistent: true });
      const { headers: given, body } = HTTP[mode](event(`http_${mode}-${name}`, content));
      const answer = await fetch(hook, { method: "POST", headers: given, body });
      if (answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`);
    }
  }
  await channel.waitForConfirms();
  await connection.close();
})().catch((error) => { console.error(error); process.exit(1); });
"#;

/// Checks the events of a sender. The part of an id after the hyphen names the kind of data.
async fn arrives(bench: &Bench, send: impl FnOnce(&str, &str), bindings: &[&str], kinds: &[&str]) {
    let daemon = bench.start(ROUTES).await;
    daemon.runs().await;
    send(&format!("{}-clouds", bench.prefix), &daemon.url("/hooks/clouds"));
    let count = bindings.len() * kinds.len();
    for route in ["echo", "witness"] {
        metric(&daemon, &settled(bench, route, "ack"), |acked| acked >= count as f64).await;
        assert_eq!(daemon.metric(&settled(bench, route, "dead_letter")), 0.0, "{route}");
    }
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let echoed = echoed(drain(&broker, &bench.queue("$P-out"), count).await);
    let seen = seen(&drain(&broker, &bench.queue("$P-seen"), count).await);
    for binding in bindings {
        for kind in kinds {
            let id = format!("{binding}-{kind}");
            let (content_type, data) = &echoed[&id];
            let seen: &Value = &seen[&id];
            let fields = ["type", "source", "subject"].map(|field| seen[field].as_str().unwrap_or_default());
            assert_eq!(fields, ["order.placed", "/shop", "order 7"], "{id}");
            assert_eq!(attributes(seen)["sequence"], "42", "{id}");
            match *kind {
                "json" => {
                    assert_eq!(content_type, "application/json", "{id}");
                    assert_eq!(serde_json::from_slice::<Value>(data).ok(), Some(json!({ "n": 1 })), "{id}");
                }
                "text" => assert_eq!((content_type.as_str(), &data[..]), ("text/plain", &b"hello"[..]), "{id}"),
                "none" => assert_eq!((content_type.as_str(), &data[..]), (BYTES, &b""[..]), "{id}"),
                _ => assert_eq!((content_type.as_str(), &data[..]), ("image/png", &b"\x89PNG"[..]), "{id}"),
            }
        }
    }
    broker.close(patience()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_python_sdk_arrive() {
    let _pika = python_with("aio-pika==10.2.1");
    let python = python_with("cloudevents==2.2.0");
    let bench = Bench::amqp();
    let url = bench.broker.clone();
    let send = |exchange: &str, hook: &str| {
        run(Command::new(python).args(["-c", PYTHON, &url, exchange, hook]));
    };
    let bindings =
        ["amqp", "rabbitmq", "http"].map(|name| ["binary", "structured"].map(|mode| format!("{name}_{mode}")));
    let bindings = bindings.as_flattened().iter().map(String::as_str).collect::<Vec<_>>();
    arrives(&bench, send, &bindings, &["json", "text", "bytes", "none"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_javascript_sdk_arrive() {
    let cloudevents = modules_with("cloudevents", "10.0.0").join("cloudevents");
    let amqplib = modules_with("amqplib", "2.3.1").join("amqplib");
    let bench = Bench::amqp();
    let url = bench.broker.clone();
    let send = |exchange: &str, hook: &str| {
        let mut node = Command::new("node");
        node.env("CLOUDEVENTS", cloudevents).env("AMQPLIB", amqplib);
        run(node.args(["-e", JAVASCRIPT, "--", &url, exchange, hook]));
    };
    let bindings = ["amqp_binary", "amqp_structured", "http_binary", "http_structured"];
    arrives(&bench, send, &bindings, &["json", "text", "none"]).await;
}
