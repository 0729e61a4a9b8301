//! RabbitMQ's management API, over HTTP without TLS. Only asked, never told anything.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Rates;
use trunkline_config as config;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// All queues of a virtual host, of which there may be thousands of others.
const ANSWER_MAX_BYTES: u64 = 16 << 20;
/// What is asked of each queue; all of it would be twenty times as much.
const COLUMNS: &str = "name,messages_unacknowledged,message_stats.publish_details.rate,\
    message_stats.deliver_get_details.rate,message_stats.ack_details.rate";

/// Where it is, and what to say there. Not `Debug`, because of the password.
pub(super) struct Management {
    url: String,
    authorization: String,
}

/// What it knows of a queue that AMQP does not tell.
pub(super) struct Known {
    pub(super) unacknowledged: Option<u64>,
    pub(super) rates: Option<Rates>,
}

/// One of the answer's rows. A queue that nothing ever happened to has no figures.
#[derive(Deserialize)]
struct Row {
    name: String,
    messages_unacknowledged: Option<u64>,
    message_stats: Option<MessageStats>,
}

#[derive(Deserialize)]
struct MessageStats {
    publish_details: Option<Details>,
    deliver_get_details: Option<Details>,
    ack_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    rate: f64,
}

impl Management {
    pub(super) fn new(settings: config::Management, vhost: &str) -> Self {
        let config::Management { url, user, password } = settings;
        let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
        let vhost = vhost.bytes().fold(String::new(), |mut path, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
                _ => path.push_str(&format!("%{byte:02X}")),
            }
            path
        });
        Self {
            url: format!("{url}/api/queues/{vhost}?columns={COLUMNS}"),
            authorization: format!("Basic {credentials}"),
        }
    }

    /// What it knows of each queue of the virtual host, by name; or why nothing, without any secret.
    pub(super) async fn queues(&self) -> Result<HashMap<String, Known>, String> {
        let (url, authorization) = (self.url.clone(), self.authorization.clone());
        let asked = tokio::task::spawn_blocking(move || ask(&url, &authorization)).await;
        let rows = asked.map_err(|error| error.to_string())??;
        Ok(rows.into_iter().map(|row| (row.name.clone(), row.into())).collect())
    }
}

fn ask(url: &str, authorization: &str) -> Result<Vec<Row>, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let answer = agent.get(url).header("authorization", authorization).call();
    let mut answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(match status {
            401 => "it does not know the user, or not with this password (401)".to_owned(),
            404 => "it does not know the virtual host, or the user may not see it (404)".to_owned(),
            other => format!("it answered {other}"),
        });
    }
    let text = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_vec();
    let text = text.map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| format!("its answer is not as expected: {error}"))
}

impl From<Row> for Known {
    fn from(row: Row) -> Self {
        let rate = |details: Option<Details>| details.map_or(0.0, |details| details.rate);
        let rates = row.message_stats.map(|stats| Rates {
            published: rate(stats.publish_details),
            delivered: rate(stats.deliver_get_details),
            acknowledged: rate(stats.ack_details),
        });
        // Nothing happened: that is a rate of nothing, once the API knows the queue at all.
        let rates = rates.or_else(|| row.messages_unacknowledged.map(|_| Rates::default()));
        Self { unacknowledged: row.messages_unacknowledged, rates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_kind() {
        let rows: Vec<Row> = serde_json::from_str(
            r#"[{"name": "busy", "messages_unacknowledged": 3,
                 "message_stats": {"publish_details": {"rate": 1.5}, "ack_details": {"rate": 2.0}}},
                {"name": "quiet", "messages_unacknowledged": 0}, {"name": "new"}]"#,
        )
        .expect("rows");
        let known: Vec<Known> = rows.into_iter().map(Known::from).collect();
        assert_eq!(known[0].rates, Some(Rates { published: 1.5, delivered: 0.0, acknowledged: 2.0 }));
        assert_eq!((known[1].unacknowledged, known[1].rates), (Some(0), Some(Rates::default())));
        assert_eq!((known[2].unacknowledged, known[2].rates), (None, None));
    }

    #[test]
    fn the_virtual_host_is_a_part_of_the_path() {
        let settings = config::Management {
            url: "http://rabbit:15672/rmq".to_owned(),
            user: "u".to_owned(),
            password: config::Secret::new("p"),
        };
        let management = Management::new(settings, "/");
        assert!(
            management.url.starts_with("http://rabbit:15672/rmq/api/queues/%2F?columns=name,"),
            "{}",
            management.url
        );
        assert_eq!(management.authorization, "Basic dTpw");
    }
}
