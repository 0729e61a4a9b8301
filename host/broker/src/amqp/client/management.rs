//! RabbitMQ's management API, over HTTP without TLS. Trunkline reads from it and changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::Rates;
use trunkline_config as config;

/// The longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The largest answer. It has every queue of the virtual host, other programs' queues as well.
const ANSWER_MAX_BYTES: u64 = 16 << 20;
/// The requested fields of each queue. All fields would be twenty times as much.
const COLUMNS: &str = "name,messages_unacknowledged,message_stats.publish_details.rate,\
    message_stats.deliver_get_details.rate,message_stats.ack_details.rate";

/// Bytes of a path segment that stand for themselves (RFC 3986, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The management API of one virtual host. Not `Debug`, because of the password.
pub(crate) struct ManagementApi {
    url: String,
    authorization: String,
}

/// The figures of a queue that AMQP does not have.
pub(crate) struct ManagementFigures {
    pub(crate) unacknowledged: Option<u64>,
    pub(crate) rates: Option<Rates>,
}

/// A queue in the answer. Figures are missing for a new queue, for traffic that never occurred, and on a broker that does not
/// collect metrics.
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

impl ManagementApi {
    pub(crate) fn new(settings: config::Management, vhost: &str) -> Self {
        let config::Management { url, user, password } = settings;
        let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
        let vhost = utf8_percent_encode(vhost, UNRESERVED);
        Self {
            url: format!("{url}/api/queues/{vhost}?columns={COLUMNS}"),
            authorization: format!("Basic {credentials}"),
        }
    }

    /// The figures of each queue of the virtual host, by name.
    ///
    /// # Errors
    /// Why there are none, without any secret.
    pub(crate) async fn queues(&self) -> Result<HashMap<String, ManagementFigures>, String> {
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
            401 => "the user or the password is wrong (401); correct the credentials in `management-url`".to_owned(),
            404 => "the virtual host does not exist, or the user may not see the virtual host (404)".to_owned(),
            other => format!("the response has the status {other}"),
        });
    }
    let text = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_vec();
    let text = text.map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| format!("the response is not the expected JSON: {error}"))
}

impl From<Row> for ManagementFigures {
    fn from(row: Row) -> Self {
        let rate = |details: Option<Details>| details.map(|details| details.rate);
        let rates = row.message_stats.map(|stats| Rates {
            published: rate(stats.publish_details),
            delivered: rate(stats.deliver_get_details),
            acknowledged: rate(stats.ack_details),
        });
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
        let known: Vec<ManagementFigures> = rows.into_iter().map(ManagementFigures::from).collect();
        let busy = Rates { published: Some(1.5), delivered: None, acknowledged: Some(2.0) };
        assert_eq!((known[0].unacknowledged, known[0].rates), (Some(3), Some(busy)), "a missing figure is not 0");
        assert_eq!((known[1].unacknowledged, known[1].rates), (Some(0), None));
        assert_eq!((known[2].unacknowledged, known[2].rates), (None, None));
    }

    #[test]
    fn the_virtual_host_is_a_part_of_the_path() {
        let settings = config::Management {
            url: "http://rabbit:15672/rmq".to_owned(),
            user: "u".to_owned(),
            password: config::Secret::new("p"),
        };
        let management = ManagementApi::new(settings, "/");
        assert!(
            management.url.starts_with("http://rabbit:15672/rmq/api/queues/%2F?columns=name,"),
            "{}",
            management.url
        );
        assert_eq!(management.authorization, "Basic dTpw");
    }
}
