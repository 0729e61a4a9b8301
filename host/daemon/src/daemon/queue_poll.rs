//! The poll of RabbitMQ's queues: the last answers, and how long each queue has had ready messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use trunkline_broker::{QueueStatistics, Statistics};
use trunkline_event::QueueName;

/// The answers of RabbitMQ to the last poll, and how long each queue has had ready messages.
#[derive(Default)]
pub(super) struct QueuePoll(Mutex<PolledQueues>);

#[derive(Default)]
struct PolledQueues {
    queues: Vec<QueueStatistics>,
    /// Messages in the delay queues.
    delayed: Option<u64>,
    backlogs: BTreeMap<QueueName, Backlog>,
}

/// The results of the polls of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Backlog {
    /// The last poll that found no ready message.
    empty: Option<Instant>,
    /// The first poll after [`Backlog::empty`], if that poll found ready messages.
    since: Option<Instant>,
}

impl QueuePoll {
    /// Keeps the answers of a poll. Without answers no figures are known.
    pub(super) fn note(&self, answers: Option<Statistics>, now: Instant) {
        let (queues, delayed) = answers.map(|answers| (answers.queues, answers.delayed)).unwrap_or_default();
        let mut polled = self.0.lock();
        let backlogs = queues.iter().map(|queue| {
            let known = polled.backlogs.get(&queue.queue).copied().unwrap_or_default();
            (queue.queue.clone(), known.after(queue.ready, now))
        });
        let backlogs = backlogs.collect();
        *polled = PolledQueues { queues, delayed, backlogs };
    }

    /// The last answers.
    pub(super) fn queues(&self) -> Vec<QueueStatistics> {
        self.0.lock().queues.clone()
    }

    /// The number of messages in the delay queues, if the last poll has the number.
    pub(super) fn delayed(&self) -> Option<u64> {
        self.0.lock().delayed
    }

    /// The results of the polls of a queue.
    pub(super) fn backlog(&self, queue: &QueueName) -> Option<Backlog> {
        self.0.lock().backlogs.get(queue).copied()
    }
}

impl Backlog {
    fn after(self, ready: u64, now: Instant) -> Self {
        if ready == 0 {
            return Self { empty: Some(now), since: None };
        }
        Self { since: self.since.or(Some(now)), ..self }
    }

    /// The longest time that the first ready message may have waited. `sent` is the time since the timestamp of the message that the
    /// route received last, because the messages behind it are younger. Without any bound: the time since the first poll.
    pub(super) fn lag(self, ready: u64, sent: Option<Duration>, now: Instant) -> Duration {
        if ready == 0 {
            return Duration::ZERO;
        }
        let since = |time: Instant| now.saturating_duration_since(time);
        let bound = self.empty.map(since).into_iter().chain(sent).min();
        bound.or(self.since.map(since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_broker::StatisticsSource;

    const SECOND: Duration = Duration::from_secs(1);

    /// The answers about one queue.
    fn answers(ready: u64) -> Statistics {
        let queue = QueueStatistics {
            queue: QueueName::new("q").expect("a name"),
            ready,
            unacknowledged: None,
            retrying: None,
            consumers: 1,
            oldest_age: None,
            rates: None,
        };
        Statistics { source: StatisticsSource::Amqp, queues: vec![queue], delayed: Some(4), problems: Vec::new() }
    }

    /// The lag at the time of the last poll, after polls with so many ready messages, one a second.
    fn lag(polls: &[u64], sent: Option<u64>) -> Duration {
        let (poll, mut now) = (QueuePoll::default(), Instant::now());
        for ready in polls {
            now += SECOND;
            poll.note(Some(answers(*ready)), now);
        }
        let name = QueueName::new("q").expect("a name");
        let backlog = poll.backlog(&name).expect("polled");
        backlog.lag(polls.last().copied().expect("a poll"), sent.map(Duration::from_secs), now)
    }

    #[test]
    fn the_lag_is_the_closest_bound_of_the_first_messages_age() {
        let table: [(&[u64], Option<u64>, u32); 9] = [
            (&[0], Some(100), 0),
            (&[5, 0], Some(100), 0),
            (&[0, 5], None, 1),
            (&[0, 5, 5, 5], None, 3),
            (&[0, 5, 5, 5], Some(2), 2),
            (&[0, 5, 5, 5], Some(7), 3),
            (&[0, 5, 0, 5, 5], None, 2),
            (&[5, 5, 5], Some(9), 9),
            (&[5, 5, 5], None, 2),
        ];
        for (polls, sent, expected) in table {
            assert_eq!(lag(polls, sent), SECOND * expected, "{polls:?}, last message sent {sent:?} s ago");
        }
    }

    #[test]
    fn nothing_is_known_without_a_session() {
        let (poll, name) = (QueuePoll::default(), QueueName::new("q").expect("a name"));
        poll.note(Some(answers(3)), Instant::now());
        assert_eq!((poll.queues().len(), poll.backlog(&name).is_some(), poll.delayed()), (1, true, Some(4)));
        poll.note(None, Instant::now());
        assert_eq!((poll.queues().len(), poll.backlog(&name), poll.delayed()), (0, None, None));
    }
}
