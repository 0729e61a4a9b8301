//! Delayed messages on disk.

use std::collections::HashMap;

use redb::ReadableTable;

use super::database::MessageStore;
use super::fault::Fault;
use super::record::{DelayedKey, DelayedRecord};
use super::seal::unseal;
use trunkline_telemetry::Condition;

/// Delayed messages that one transaction publishes, and bytes of their records. The rest follows in the next transaction.
const DUE_MAX: usize = 1024;
const DUE_MAX_BYTES: usize = 4 << 20;

/// Number of delayed retries by the name of their queue.
pub(crate) type RetryCounts = HashMap<String, u64>;

/// The delayed messages as they are found when the store is opened.
#[derive(Debug, Default)]
pub(crate) struct StoredDelays {
    pub(crate) retrying: RetryCounts,
    pub(crate) next_due: Option<u64>,
    /// The number after the highest number of a delayed message.
    pub(crate) next_number: u64,
    /// Bytes of all records.
    pub(crate) bytes: u64,
}

impl MessageStore {
    /// The time at which the next readable delayed message is due.
    pub(crate) fn first_due(&self) -> Result<Option<u64>, Fault> {
        let first = || {
            let unreadable = self.unreadable();
            for entry in self.delayed()?.iter()? {
                let due = entry?.0.value();
                if !unreadable.contains(&due) {
                    return Ok(Some(due.0));
                }
            }
            Ok(None)
        };
        first().map_err(|error| self.fault(&error))
    }

    /// Counts the delayed messages.
    pub(crate) fn stored_delays(&self) -> Result<StoredDelays, Fault> {
        let count = || {
            let mut delays = StoredDelays::default();
            for entry in self.delayed()?.iter()? {
                let (key, value) = entry?;
                let (due, number) = key.value();
                delays.next_due.get_or_insert(due);
                delays.next_number = delays.next_number.max(number.saturating_add(1));
                delays.bytes += value.value().len() as u64;
                // An unreadable message is reported when it is due.
                let delayed = unseal(key.value(), value.value()).and_then(DelayedRecord::decode);
                if let Some(queue) = delayed.as_ref().ok().and_then(DelayedRecord::retries) {
                    *delays.retrying.entry(queue.to_owned()).or_default() += 1;
                }
            }
            Ok(delays)
        };
        count().map_err(|error| self.fault(&error))
    }

    /// The delayed messages that are due, at most as many as one transaction takes. An unreadable message is reported and
    /// stays in the table.
    pub(crate) fn due(&self, now_ms: u64) -> Result<Vec<(DelayedKey, DelayedRecord)>, Fault> {
        self.due_within(now_ms, DUE_MAX, DUE_MAX_BYTES)
    }

    fn due_within(
        &self,
        now_ms: u64,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<(DelayedKey, DelayedRecord)>, Fault> {
        let read = || {
            let (mut found, mut bytes) = (Vec::new(), 0);
            for entry in self.delayed()?.range((0, 0)..=(now_ms, u64::MAX))? {
                if found.len() >= most || bytes >= most_bytes {
                    break;
                }
                let (key, value) = entry?;
                if self.unreadable().contains(&key.value()) {
                    continue;
                }
                match unseal(key.value(), value.value()).and_then(DelayedRecord::decode) {
                    Ok(delayed) => found.push((key.value(), delayed)),
                    Err(error) => {
                        self.unreadable().insert(key.value());
                        report_damage("a delayed message", &error);
                    }
                }
                bytes += value.value().len();
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(&error))
    }
}

/// Reports a record that cannot be read while the store around it can.
pub(crate) fn report_damage(what: &str, error: &str) {
    let detail =
        format!("{what}: {error}; stop the daemon and run `trunkline repair`, which keeps the readable records");
    if !Condition::StoreFailed.is_raised(what) {
        tracing::error!(
            detail,
            "a record of the embedded store cannot be read; its queue or its delayed message waits for a repair"
        );
    }
    Condition::StoreFailed.raise(what, detail);
}
