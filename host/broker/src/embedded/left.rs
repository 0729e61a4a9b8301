//! What the embedded broker of another state directory still holds. Its files are not touched.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::damage::{Unreadable, guarded, look_at};
use super::store::{DELAYED, MESSAGES, QUEUES};
use super::{FILE, directory};

/// Under this name delayed messages are counted, which are in no queue yet.
const DELAYED_NAME: &str = "(delayed)";

/// Messages in the store of a state directory by queue, without queues that are empty. Nothing where there is no store.
///
/// # Errors
/// Why the store cannot be read.
pub fn messages_in(state_dir: &Path) -> Result<BTreeMap<String, u64>, String> {
    let file = directory(state_dir).join(FILE);
    if std::fs::metadata(&file).map_or(0, |facts| facts.len()) == 0 {
        return Ok(BTreeMap::new());
    }
    let database = look_at(&file, &Unreadable::default()).map_err(|problem| problem.to_string())?;
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
