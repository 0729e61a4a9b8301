//! Statistics of RabbitMQ's queues: ready messages and consumers over AMQP, exact and present; the rest from the management
//! API, if one is configured.

use std::collections::HashMap;
use std::time::Duration;

use super::broker::AmqpClient;
use super::management::ManagementFigures;
use crate::amqp::connection::Session;
use crate::amqp::delay::count_waiting;
use crate::amqp::topology::{Declarer, is_about_queue, look};
use crate::{Error, QueueStatistics, Statistics, StatisticsSource};
use trunkline_config::Topology;
use trunkline_event::QueueName;

/// The longest time for all queues together.
const ASK_WITHIN: Duration = Duration::from_secs(5);

impl AmqpClient {
    /// Statistics of the queues of a topology; see [`Broker::statistics`](crate::Broker::statistics).
    ///
    /// # Errors
    /// [`Error::Lost`] when the broker is away.
    pub async fn statistics(&self, topology: &Topology) -> Result<Statistics, Error> {
        let _one_at_a_time = self.asking.lock().await;
        let active = self.session_soon().await?;
        let asked = tokio::time::timeout(ASK_WITHIN, ask(&active.session, topology)).await;
        let lost = |reason: String| Error::Lost(reason);
        let mut found = asked
            .map_err(|_elapsed| lost(format!("the broker did not answer within {} s", ASK_WITHIN.as_secs())))?
            .map_err(|error| lost(error.to_string()))?;
        match &self.management {
            None => found.problems.push(
                "AMQP does not report unacknowledged messages and rates; set `management-url` in [broker] to get these figures"
                    .to_owned(),
            ),
            Some(management) => match management.queues().await {
                Ok(known) => add_figures(&mut found, &known),
                Err(problem) => found.problems.push(format!("the management API cannot be used: {problem}")),
            },
        }
        Ok(found)
    }

    /// The queues of a topology that the broker refused to declare or to bind.
    #[must_use]
    pub fn refused_queues(&self, topology: &Topology) -> Vec<QueueName> {
        let status = self.status.borrow();
        let is_refused = |queue: &&QueueName| status.refused.iter().any(|refusal| is_about_queue(refusal, queue));
        topology.queues.keys().filter(is_refused).cloned().collect()
    }
}

/// Adds the figures of the management API. A broker that collects no metrics names its queues without figures, which
/// `deprecated_features.permit.management_metrics_collection = false` causes from RabbitMQ 4.3 on.
fn add_figures(found: &mut Statistics, known: &HashMap<String, ManagementFigures>) {
    found.source = StatisticsSource::Management;
    for queue in &mut found.queues {
        if let Some(known) = known.get(queue.queue.as_str()) {
            (queue.unacknowledged, queue.rates) = (known.unacknowledged, known.rates);
        }
    }
    if !found.queues.is_empty() && found.queues.iter().all(|queue| queue.unacknowledged.is_none()) {
        found.problems.push(
            "the management API reports no figures: the queues are new, or RabbitMQ does not collect metrics"
                .to_owned(),
        );
    }
}

/// Asks for every queue over AMQP.
async fn ask(session: &Session, topology: &Topology) -> Result<Statistics, lapin::Error> {
    let names: Vec<QueueName> = topology.queues.keys().cloned().collect();
    let (mut queues, mut problems) = (Vec::with_capacity(names.len()), Vec::new());
    let mut declarer = Declarer::new(session, &session.consume).await?;
    let answers = look(&mut declarer, &names).await?;
    let waiting = count_waiting(&mut declarer).await?;
    declarer.close().await;
    for (queue, answer) in names.into_iter().zip(answers) {
        match answer {
            Ok(found) => queues.push(QueueStatistics {
                queue,
                ready: u64::from(found.message_count()),
                unacknowledged: None,
                retrying: None,
                consumers: u64::from(found.consumer_count()),
                oldest_age: None,
                rates: None,
            }),
            Err(error) => problems.push(format!("queue {queue}: {error}")),
        }
    }
    problems.extend(waiting.problems);
    Ok(Statistics { source: StatisticsSource::Amqp, queues, delayed: Some(waiting.count), problems })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rates;
    use trunkline_event::QueueName;

    fn queue(name: &str) -> QueueStatistics {
        QueueStatistics {
            queue: QueueName::new(name).expect("a name"),
            ready: 1,
            unacknowledged: None,
            retrying: None,
            consumers: 0,
            oldest_age: None,
            rates: None,
        }
    }

    fn with_figures(known: Vec<(&str, ManagementFigures)>) -> Statistics {
        let queues = vec![queue("one"), queue("two")];
        let mut found = Statistics { source: StatisticsSource::Amqp, queues, delayed: None, problems: Vec::new() };
        add_figures(&mut found, &known.into_iter().map(|(name, known)| (name.to_owned(), known)).collect());
        found
    }

    #[test]
    fn figures_that_the_broker_leaves_out_stay_unknown() {
        let rates = Rates { published: Some(1.0), ..Rates::default() };
        let busy = ManagementFigures { unacknowledged: Some(3), rates: Some(rates) };
        let found = with_figures(vec![("one", busy)]);
        assert_eq!((found.source, found.problems.len()), (StatisticsSource::Management, 0));
        assert_eq!((found.queues[0].unacknowledged, found.queues[0].rates), (Some(3), Some(rates)));
        assert_eq!((found.queues[1].unacknowledged, found.queues[1].rates), (None, None));
    }

    #[test]
    fn a_broker_without_metrics_is_reported() {
        let none = || ManagementFigures { unacknowledged: None, rates: None };
        let found = with_figures(vec![("one", none()), ("two", none())]);
        assert!(found.problems[0].contains("does not collect metrics"), "{:?}", found.problems);
        assert!(found.queues.iter().all(|queue| queue.unacknowledged.is_none() && queue.rates.is_none()));
    }
}
