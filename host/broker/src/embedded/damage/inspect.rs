//! Counting the messages of a store without opening it for writing.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::check::{guarded, open_overlay};
use super::overlay::ReadFailure;
use crate::embedded::store::{DELAYED, FILE, MESSAGES, QUEUES, directory};

/// Name under which delayed messages are counted, which are in no queue.
const DELAYED_NAME: &str = "(delayed)";

/// Number of messages by queue in the store of a state directory, without empty queues. Empty if there is no store. The
/// files are not changed.
///
/// # Errors
/// Why the store cannot be read.
pub fn messages_in(state_dir: &Path) -> Result<BTreeMap<String, u64>, String> {
    let file = directory(state_dir).join(FILE);
    if std::fs::metadata(&file).map_or(0, |facts| facts.len()) == 0 {
        return Ok(BTreeMap::new());
    }
    let database = open_overlay(&file, &ReadFailure::default()).map_err(|problem| problem.to_string())?;
    let counted = guarded(|| {
        let read = database.begin_read()?;
        let (queues, messages) = (read.open_table(QUEUES)?, read.open_table(MESSAGES)?);
        let mut found = BTreeMap::from([(DELAYED_NAME.to_owned(), read.open_table(DELAYED)?.len()?)]);
        for entry in queues.iter()? {
            let (name, id) = entry?;
            let (name, id) = (name.value().to_owned(), id.value());
            found.insert(name, messages.range((id, 0)..=(id, u64::MAX))?.count() as u64);
        }
        found.retain(|_, count| *count > 0);
        Ok::<_, redb::Error>(found)
    });
    // A damaged database may panic once more when it is closed.
    let _closed = guarded(|| {
        drop(database);
        Ok::<_, redb::Error>(())
    });
    counted
}
