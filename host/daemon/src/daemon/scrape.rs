//! Figures for `/metrics` that are read with each scrape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::queue_views;
use super::state::DaemonState;
use crate::reload::Generation;
use trunkline_broker::{Broker, BrokerStatus, QueueStatistics, Statistics, StatisticsSource};
use trunkline_config::{Limits, Route};
use trunkline_event::RouteName;
use trunkline_telemetry::{self as telemetry, QueueFigures, ScrapeFigures, wait};

impl DaemonState {
    /// The figures of a scrape.
    pub(super) fn scrape_figures(&self) -> ScrapeFigures {
        let generation = self.generation();
        let mut figures = ScrapeFigures::default();
        if generation.number > 0 {
            figures.configuration(&generation.config.digest);
        }
        add_plugins(&mut figures, &generation);
        for queue in self.broker.refused_queues(&generation.config.topology) {
            figures.refused_queue(&queue);
        }
        if let Some(delayed) = self.queue_poll.delayed() {
            figures.delayed(delayed);
        }
        let queues = self.queue_statistics();
        for (name, route) in &generation.config.routes {
            let queue = queues.iter().find(|queue| queue.queue == route.queue);
            if let Some(lag) = queue.and_then(|queue| self.lag(name, route, queue)) {
                figures.route_lag(name, lag);
            }
        }
        let known = Statistics { source: StatisticsSource::Embedded, queues, delayed: None, problems: Vec::new() };
        for queue in queue_views::queues(&generation.config, known).queues {
            figures.queue(&QueueFigures {
                queue: &queue.name,
                role: queue.role.as_str(),
                ready: queue.ready,
                unacknowledged: queue.unacknowledged,
                retrying: queue.retrying,
                consumers: queue.consumers,
                oldest_age: queue.oldest_age_seconds.map(Duration::from_secs_f64),
            });
        }
        figures
    }

    /// The figures of the broker's queues, as far as they are known without a question to the broker.
    fn queue_statistics(&self) -> Vec<QueueStatistics> {
        match &self.broker {
            Broker::Amqp(_) => self.queue_poll.queues(),
            Broker::Embedded(broker) => {
                let depths = broker.queue_depths().into_iter();
                let of = depths.map(|(queue, depth)| QueueStatistics {
                    queue,
                    ready: depth.ready,
                    unacknowledged: Some(depth.unacknowledged),
                    retrying: Some(depth.retrying),
                    consumers: depth.consumers,
                    oldest_age: Some(depth.oldest_age.unwrap_or_default()),
                    rates: None,
                });
                of.collect()
            }
        }
    }

    /// The lag of a route with the figures of its queue.
    fn lag(&self, name: &RouteName, route: &Route, queue: &QueueStatistics) -> Option<Duration> {
        if let Some(age) = queue.oldest_age {
            return Some(if queue.ready > 0 { age } else { Duration::ZERO });
        }
        let backlog = self.queue_poll.backlog(&route.queue)?;
        Some(backlog.lag(queue.ready, telemetry::last_message_sent(name), Instant::now()))
    }

    /// Asks RabbitMQ for the figures of the queues, and keeps the answers.
    async fn poll_queues(&self) {
        let generation = self.generation();
        let answers = self.broker.statistics(&generation.config.topology).await;
        if let Err(error) = &answers {
            tracing::debug!(%error, "the broker did not report the figures of its queues; the metrics of queues are missing until the next poll");
        }
        self.queue_poll.note(answers.ok(), Instant::now());
    }
}

/// Polls RabbitMQ while the daemon has a session.
pub(super) async fn poll_queues(state: Arc<DaemonState>, every: Duration) {
    let mut status = state.status.clone();
    while changed_to(&mut status, true).await {
        state.poll_queues().await;
        tokio::select! {
            () = wait::after(every) => {}
            _changed = changed_to(&mut status, false) => state.queue_poll.note(None, Instant::now()),
        }
    }
}

/// Waits until there is a session, or until there is none. False when the broker is closed.
async fn changed_to(status: &mut watch::Receiver<BrokerStatus>, connected: bool) -> bool {
    status.wait_for(|status| status.connected == connected).await.is_ok()
}

/// The plugins that can run, with their limits.
fn add_plugins(figures: &mut ScrapeFigures, generation: &Generation) {
    for (name, installed) in &generation.plugins {
        let Ok(ready) = &installed.state else { continue };
        let version = ready.descriptor.as_ref().map_or("", |descriptor| descriptor.version.as_str());
        let file = [("digest", &*ready.digest), ("version", version), ("abi", ready.interface())];
        let limits = generation.config.plugins.get(name).map_or(Limits::DEFAULT, |plugin| plugin.limits);
        let bytes = [
            ("memory", limits.memory_max_bytes),
            ("output", limits.output_max_bytes),
            ("log", limits.log_max_bytes),
            ("http-body", limits.http_body_max_bytes),
        ];
        figures.plugin(name, file, &bytes);
    }
}
