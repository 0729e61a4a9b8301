//! Metrics whose values are read when a client asks for `/metrics`. A series of such a metric exists only while its subject
//! exists.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use trunkline_event::{PluginName, QueueName, RouteName};

use crate::metric_table::METRICS;
use crate::series_owner::escaped;

/// The figures of one queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueFigures<'a> {
    /// The name of the queue.
    pub queue: &'a str,
    /// The role of the queue, the word of the HTTP API.
    pub role: &'static str,
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages that are delivered and not acknowledged, if the broker reports the number.
    pub unacknowledged: Option<u64>,
    /// Messages that wait for their retry, if they do not wait in queues.
    pub retrying: Option<u64>,
    /// Consumers, including those of other programs.
    pub consumers: u64,
    /// Age of the first ready message, zero for a queue without one. `None` for a broker that does not report ages.
    pub oldest_age: Option<Duration>,
}

/// The labels of one sample, each with its value, and the sample's value.
type ScrapeSample = (Vec<(&'static str, String)>, f64);

/// The samples of one scrape, by metric.
#[derive(Debug, Default)]
pub struct ScrapeFigures(BTreeMap<&'static str, Vec<ScrapeSample>>);

impl ScrapeFigures {
    /// Adds the figures of a queue.
    pub fn queue(&mut self, figures: &QueueFigures<'_>) {
        let (queue, role) = (figures.queue, figures.role);
        let states = [
            ("ready", Some(figures.ready)),
            ("unacknowledged", figures.unacknowledged),
            ("retrying", figures.retrying),
        ];
        for (state, count) in states {
            let Some(count) = count else { continue };
            let labels = vec![("queue", queue.to_string()), ("state", state.to_owned()), ("role", role.to_owned())];
            self.add("trunkline_queue_messages", labels, float(count));
        }
        let labels = vec![("queue", queue.to_string()), ("role", role.to_owned())];
        self.add("trunkline_queue_consumers", labels, float(figures.consumers));
        if let Some(age) = figures.oldest_age {
            let labels = vec![("queue", queue.to_string())];
            self.add("trunkline_queue_oldest_message_age_seconds", labels, age.as_secs_f64());
        }
    }

    /// Adds the number of messages in the delay queues.
    pub fn delayed(&mut self, messages: u64) {
        self.add("trunkline_delayed_messages", Vec::new(), float(messages));
    }

    /// Adds the lag of a route.
    pub fn route_lag(&mut self, route: &RouteName, lag: Duration) {
        self.add("trunkline_route_lag_seconds", vec![("route", route.to_string())], lag.as_secs_f64());
    }

    /// Adds a queue that the broker refuses to declare or to bind.
    pub fn refused_queue(&mut self, queue: &QueueName) {
        self.add("trunkline_topology_refused", vec![("queue", queue.to_string())], 1.0);
    }

    /// Adds a loaded plugin. `limits` are the plugin's limits in bytes, each with its name.
    pub fn plugin(&mut self, plugin: &PluginName, file: [(&'static str, &str); 3], limits: &[(&'static str, u64)]) {
        let name = || ("plugin", plugin.to_string());
        let described = file.map(|(label, value)| (label, value.to_owned()));
        self.add("trunkline_plugin_info", std::iter::once(name()).chain(described).collect(), 1.0);
        for (limit, bytes) in limits {
            let labels = vec![name(), ("limit", (*limit).to_owned())];
            self.add("trunkline_plugin_limit_bytes", labels, float(*bytes));
        }
    }

    /// Adds the processor time of a plugin's calls.
    pub(crate) fn plugin_cpu(&mut self, plugin: &PluginName, variant: &'static str, cpu: Duration) {
        let labels = vec![("plugin", plugin.to_string()), ("variant", variant.to_owned())];
        self.add("trunkline_plugin_cpu_seconds_total", labels, cpu.as_secs_f64());
    }

    /// Adds the running configuration.
    pub fn configuration(&mut self, hash: &str) {
        self.add("trunkline_config_info", vec![("hash", hash.to_owned())], 1.0);
    }

    fn add(&mut self, metric: &'static str, labels: Vec<(&'static str, String)>, value: f64) {
        self.0.entry(metric).or_default().push((labels, value));
    }

    /// Appends the samples to an exposition.
    pub(crate) fn write(&self, text: &mut String) {
        for metric in METRICS {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let (name, meaning, kind) = (metric.name, metric.meaning, metric.kind.as_str());
            let _infallible = write!(text, "# HELP {name} {meaning}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _infallible = writeln!(text, "{name}{labels} {value}");
            }
            text.push('\n');
        }
    }
}

/// A count as the value of a gauge. Counts below 2^52 are exact.
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_help_and_labels() {
        let mut figures = ScrapeFigures::default();
        figures.queue(&QueueFigures {
            queue: "say \"hi\"",
            role: "dead-letter",
            ready: 3,
            unacknowledged: None,
            retrying: Some(1),
            consumers: 2,
            oldest_age: None,
        });
        figures.delayed(5);
        let mut text = String::new();
        figures.write(&mut text);
        for line in [
            r#"trunkline_queue_messages{queue="say \"hi\"",state="ready",role="dead-letter"} 3"#,
            r#"trunkline_queue_messages{queue="say \"hi\"",state="retrying",role="dead-letter"} 1"#,
            r#"trunkline_queue_consumers{queue="say \"hi\"",role="dead-letter"} 2"#,
            "# TYPE trunkline_queue_consumers gauge",
            "trunkline_delayed_messages 5",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} not in {text}");
        }
        assert!(
            !text.contains("unacknowledged\""),
            "a figure that the broker does not report is missing, not 0: {text}"
        );
        assert!(!text.contains("oldest_message_age"), "{text}");
    }
}
