//! Commands that make exchanges, queues and bindings with RabbitMQ's management API. The API is the same from 3.10 to 4.3, while
//! the command-line tools of these versions differ.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::BrokerServer;
use crate::amqp::queue::{Arguments, WantedArguments, shell_word};
use trunkline_config::{Binding, Exchange, Match, Queue, Topology};
use trunkline_event::{ExchangeName, HeaderValue, QueueName};

/// Bytes of a path segment that stand for themselves (RFC 3986, unreserved).
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes the commands for one virtual host. The operator replaces `USER:PASSWORD` and `HOST`.
pub(crate) struct CommandWriter<'a> {
    pub(crate) vhost: &'a str,
    /// The broker, which decides on some arguments.
    pub(crate) server: Option<&'a BrokerServer>,
}

impl CommandWriter<'_> {
    /// Makes an exchange of the topology.
    pub(crate) fn exchange(&self, name: &ExchangeName, settings: &Exchange) -> String {
        let alternate =
            settings.alternate.as_ref().map(|name| ("alternate-exchange".to_owned(), HeaderValue::from(name.as_str())));
        self.any_exchange(name.as_str(), settings.kind.as_str(), &alternate.into_iter().collect())
    }

    /// Makes an exchange.
    pub(crate) fn any_exchange(&self, name: &str, kind: &str, arguments: &Arguments) -> String {
        let body = json!({ "type": kind, "durable": true, "arguments": to_json(arguments) });
        self.request("PUT", "exchanges", &[name], &body)
    }

    /// Makes a queue of the topology and its bindings.
    pub(crate) fn queue(&self, topology: &Topology, name: &QueueName, settings: &Queue) -> Vec<String> {
        let wanted = WantedArguments::of(settings, self.server);
        let bindings = topology.bindings.iter().filter(|binding| binding.queue == *name);
        let bindings = bindings.map(|binding| self.binding(binding));
        std::iter::once(self.any_queue(name.as_str(), &wanted.arguments)).chain(bindings).collect()
    }

    /// Makes a queue.
    pub(crate) fn any_queue(&self, name: &str, arguments: &Arguments) -> String {
        let body = json!({ "durable": true, "auto_delete": false, "arguments": to_json(arguments) });
        self.request("PUT", "queues", &[name], &body)
    }

    fn binding(&self, binding: &Binding) -> String {
        let (key, arguments) = match &binding.matches {
            Match::Key(key) => (key.as_str(), Arguments::new()),
            Match::Headers { all, values } => {
                let how = ("x-match".to_owned(), HeaderValue::from(if *all { "all" } else { "any" }));
                ("", values.iter().cloned().chain([how]).collect())
            }
        };
        self.any_binding(binding.exchange.as_str(), ["q", binding.queue.as_str()], key, &arguments)
    }

    /// Binds a destination to an exchange: `["q", QUEUE]` or `["e", EXCHANGE]`.
    pub(crate) fn any_binding(&self, source: &str, to: [&str; 2], key: &str, arguments: &Arguments) -> String {
        let body = json!({ "routing_key": key, "arguments": to_json(arguments) });
        self.request("POST", "bindings", &["e", source, to[0], to[1]], &body)
    }

    fn request(&self, method: &str, kind: &str, path: &[&str], body: &Value) -> String {
        let segments =
            std::iter::once(&self.vhost).chain(path).map(|part| utf8_percent_encode(part, PATH_SEGMENT).to_string());
        let path = segments.collect::<Vec<_>>().join("/");
        let url = shell_word(&format!("http://HOST:15672/api/{kind}/{path}"));
        let body = shell_word(&body.to_string());
        format!("curl -f -u USER:PASSWORD -H content-type:application/json -X {method} {url} -d {body}")
    }
}

fn to_json(arguments: &Arguments) -> Value {
    let arguments = arguments.iter().map(|(name, value)| {
        let value = match value {
            HeaderValue::Bool(flag) => (*flag).into(),
            HeaderValue::Int(number) => (*number).into(),
            HeaderValue::Float(number) => (*number).into(),
            HeaderValue::Timestamp(seconds) => (*seconds).into(),
            HeaderValue::Text(_) | HeaderValue::Bytes(_) => value.as_str().unwrap_or_default().into(),
            HeaderValue::Null | HeaderValue::List(_) | HeaderValue::Table(_) | HeaderValue::Decimal { .. } => {
                Value::Null
            }
        };
        (name.clone(), value)
    });
    Value::Object(arguments.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::{Codec, ExchangeKind, QueueKind, QueuePurpose};
    use trunkline_event::RoutingKey;

    #[test]
    fn a_queue_is_made_with_its_bindings() {
        let name = QueueName::new("orders/eu").expect("a name");
        let exchange = ExchangeName::new("events").expect("a name");
        let binding = |matches| Binding { exchange: exchange.clone(), queue: name.clone(), matches };
        let values = vec![("format".to_owned(), HeaderValue::Text("pdf".to_owned()))];
        let bindings = vec![
            binding(Match::Key(RoutingKey::new("a.#").expect("a key"))),
            binding(Match::Headers { all: true, values }),
        ];
        let topology = Topology { bindings, ..Topology::default() };
        let writer = CommandWriter { vhost: "/", server: None };
        let settings = Queue { max_length: Some(3), ..Queue::unlimited(QueuePurpose::Kept, QueueKind::Quorum) };
        let request = "curl -f -u USER:PASSWORD -H content-type:application/json -X";
        let expected = [
            format!(
                "{request} PUT http://HOST:15672/api/queues/%2F/orders%2Feu -d '{}'",
                r#"{"arguments":{"x-max-length":3,"x-queue-type":"quorum"},"auto_delete":false,"durable":true}"#
            ),
            format!(
                "{request} POST http://HOST:15672/api/bindings/%2F/e/events/q/orders%2Feu -d '{}'",
                r##"{"arguments":{},"routing_key":"a.#"}"##
            ),
            format!(
                "{request} POST http://HOST:15672/api/bindings/%2F/e/events/q/orders%2Feu -d '{}'",
                r#"{"arguments":{"format":"pdf","x-match":"all"},"routing_key":""}"#
            ),
        ];
        assert_eq!(writer.queue(&topology, &name, &settings), expected);
        let settings =
            Exchange { kind: ExchangeKind::Topic, owned: true, codec: Codec::Raw, alternate: Some(exchange) };
        let made = writer.exchange(&ExchangeName::new("bus").expect("a name"), &settings);
        assert!(made.ends_with(r#"/api/exchanges/%2F/bus -d '{"arguments":{"alternate-exchange":"events"},"durable":true,"type":"topic"}'"#), "{made}");
    }
}
