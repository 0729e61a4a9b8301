//! The keys of one plugin and one tenant, as one call sees them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::change::{ChangeResult, KeyPage, StateChange, check};
use super::error::{Error, changes_lost, not_open};
use super::shared::{KeySpaceName, StateShared, StorePoint};
use super::table;
use super::writer::StateCommand;
use trunkline_config::Quota;

/// The keys of one plugin and one tenant, as one call sees them.
pub struct KeySpace {
    shared: Arc<StateShared>,
    commands: mpsc::Sender<StateCommand>,
    name: Arc<KeySpaceName>,
    quota: Quota,
    /// The last transaction that this call wrote or may have seen.
    last: Option<StorePoint>,
}

impl KeySpace {
    pub(crate) fn new(
        shared: Arc<StateShared>,
        commands: mpsc::Sender<StateCommand>,
        name: Arc<KeySpaceName>,
        quota: Quota,
    ) -> Self {
        Self { shared, commands, name, quota, last: None }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store cannot be read.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let name = self.name.clone();
        self.read(|database| table::get(database, &name, key))
    }

    /// Whether a key exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store cannot be read.
    pub fn exists(&mut self, key: &str) -> Result<bool, Error> {
        let name = self.name.clone();
        self.read(|database| table::exists(database, &name, key))
    }

    /// A page of the keys after `cursor`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store cannot be read.
    pub fn keys(&mut self, cursor: Option<&str>) -> Result<KeyPage, Error> {
        let name = self.name.clone();
        self.read(|database| table::keys(database, &name, cursor))
    }

    /// Makes a change. Every reader sees the change when this returns, and it is on disk after [`KeySpace::flush`].
    ///
    /// # Errors
    /// An [`Error`] when the change was not made.
    pub async fn change(&mut self, change: StateChange) -> Result<ChangeResult, Error> {
        check(&change)?;
        let (reply, answer) = oneshot::channel();
        let command = StateCommand::Change { space: self.name.clone(), quota: self.quota, change, reply };
        self.commands.send(command).await.map_err(|_| not_open())?;
        let (answer, point) = answer.await.map_err(|_| not_open())??;
        self.note(point);
        Ok(answer)
    }

    /// Waits until every change that was written or read here is on disk. Returns at once if there was none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when changes of this call, or changes that it saw, are lost.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let Some(last) = self.last.take() else { return Ok(()) };
        if self.shared.epoch.load(Ordering::Acquire) != last.epoch {
            return Err(changes_lost());
        }
        if self.shared.durable.load(Ordering::Acquire) >= last.number {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(StateCommand::Flush(reply)).await.map_err(|_| not_open())?;
        answer.await.map_err(|_| not_open())??;
        match self.shared.epoch.load(Ordering::Acquire) == last.epoch {
            true => Ok(()),
            false => Err(changes_lost()),
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        let shared = self.shared.clone();
        let epoch = shared.epoch.load(Ordering::Acquire);
        let database = shared.database.read();
        let found = read(database.as_ref().ok_or_else(not_open)?)?;
        // Every change that was read is applied by now.
        self.note(StorePoint { epoch, number: shared.applied.load(Ordering::Acquire) });
        Ok(found)
    }

    /// Notes a point of the store. The first epoch stays, so that a call that began before a loss gets an error.
    fn note(&mut self, point: StorePoint) {
        let epoch = self.last.map_or(point.epoch, |last| last.epoch);
        self.last = Some(StorePoint { epoch, number: point.number });
    }
}
