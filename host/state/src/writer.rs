//! The writer thread. It applies the waiting commands in one transaction, and syncs when a caller waits for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::change::{ChangeResult, StateChange};
use super::error::{Error, not_open, unavailable};
use super::shared::{KeySpaceName, StateShared, StorePoint};
use super::table;
use super::totals::PluginTotals;
use trunkline_config::Quota;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};
use trunkline_telemetry::{self as telemetry, RepeatLimit};

/// Most commands of one transaction.
const TRANSACTION_MAX: usize = 512;
/// Interval in which the writer looks for commands after a failure of the store.
const COMMAND_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// A store without a successful change counts as usable after this time without a failure. The time is needed because a
/// file on a full disk can be opened but takes no writes.
const TRIAL: Duration = Duration::from_secs(2);

/// A command to the writer.
pub(crate) enum StateCommand {
    Change {
        space: Arc<KeySpaceName>,
        quota: Quota,
        change: StateChange,
        reply: oneshot::Sender<Result<(ChangeResult, StorePoint), Error>>,
    },
    Flush(oneshot::Sender<Result<(), Error>>),
}

/// Counts the totals and starts the writer.
pub(super) fn start(shared: Arc<StateShared>, commands: mpsc::Receiver<StateCommand>) -> Result<(), Error> {
    let file = shared.file.clone();
    let totals = {
        let database = shared.database.read();
        count(database.as_ref()).map_err(|error| unavailable(&file, &error))?
    };
    let retry = RetryLoop::new(Loop::StateOpen, "");
    let (lines, now) = (RepeatLimit::default(), Instant::now());
    let writer = StateWriter { shared, commands, totals, retry, lines, failed_at: now, again_at: now };
    let thread = std::thread::Builder::new().name("trunkline-state".to_owned()).spawn(move || writer.run());
    thread.map(drop).map_err(|error| unavailable(&file, &error))
}

struct StateWriter {
    shared: Arc<StateShared>,
    commands: mpsc::Receiver<StateCommand>,
    totals: PluginTotals,
    /// Counts the tries since the store failed, and raises the condition `state-failed` meanwhile.
    retry: RetryLoop,
    /// Limits the log lines about failures, because each command to a failed store fails again. A single change that succeeds
    /// does not end the limit: on a full disk, changes succeed until the next sync.
    lines: RepeatLimit,
    failed_at: Instant,
    again_at: Instant,
}

type ChangeReply = oneshot::Sender<Result<(ChangeResult, StorePoint), Error>>;

impl StateWriter {
    fn run(mut self) {
        while let Some(first) = self.next() {
            let mut taken = vec![first];
            while taken.len() < TRANSACTION_MAX
                && let Ok(next) = self.commands.try_recv()
            {
                taken.push(next);
            }
            self.serve(taken);
        }
        // No caller is left, and a clean end costs only one sync.
        self.serve(Vec::new());
    }

    /// Waits for the next command. A store that failed is tried again meanwhile, even without a command.
    fn next(&mut self) -> Option<StateCommand> {
        while self.retry.tries() > 0 {
            match self.commands.try_recv() {
                Ok(command) => return Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() < self.again_at => {
                    wait::block(COMMAND_CHECK_INTERVAL)
                }
                Err(mpsc::error::TryRecvError::Empty) => self.probe(),
            }
        }
        self.commands.blocking_recv()
    }

    /// Commits an empty transaction with a sync, to test the disk.
    fn probe(&mut self) {
        match self.transaction(Vec::new(), true, &mut Vec::new(), &mut Vec::new()) {
            Ok(_) if self.failed_at.elapsed() >= TRIAL => {
                self.retry.succeeded();
                self.lines.clear();
            }
            Ok(_) => self.again_at = self.failed_at + TRIAL,
            Err(error) => self.recover(&error),
        }
    }

    fn serve(&mut self, taken: Vec<StateCommand>) {
        let is_end = taken.is_empty();
        let wants_disk = is_end || taken.iter().any(|command| matches!(command, StateCommand::Flush(_)));
        let is_dirty = self.shared.applied.load(Ordering::Acquire) > self.shared.durable.load(Ordering::Acquire);
        let has_changes = taken.iter().any(|command| matches!(command, StateCommand::Change { .. }));
        let (mut answers, mut flushes) = (Vec::new(), Vec::new());
        let result = match has_changes || (wants_disk && is_dirty) {
            true => self.transaction(taken, wants_disk, &mut answers, &mut flushes),
            false => {
                flushes.extend(taken.into_iter().filter_map(|command| match command {
                    StateCommand::Flush(reply) => Some(reply),
                    StateCommand::Change { .. } => None,
                }));
                Ok(self.point())
            }
        };
        if let Err(error) = &result {
            self.recover(error);
        }
        for (reply, answer) in answers {
            let answer = match &result {
                Ok(point) => answer.map(|answer| (answer, *point)),
                Err(error) => Err(error.clone()),
            };
            let _gone = reply.send(answer);
        }
        for reply in flushes {
            let _gone = reply.send(result.clone().map(drop));
        }
    }

    fn point(&self) -> StorePoint {
        StorePoint {
            epoch: self.shared.epoch.load(Ordering::Acquire),
            number: self.shared.applied.load(Ordering::Acquire),
        }
    }

    /// Applies all commands in one transaction or none of them. A change that is refused by its quota or bounds leaves no
    /// trace and does not affect the other changes.
    fn transaction(
        &mut self,
        taken: Vec<StateCommand>,
        wants_disk: bool,
        answers: &mut Vec<(ChangeReply, Result<ChangeResult, Error>)>,
        flushes: &mut Vec<oneshot::Sender<Result<(), Error>>>,
    ) -> Result<StorePoint, Error> {
        let failed = |error: redb::Error| unavailable(&self.shared.file, &error);
        let started = Instant::now();
        let shared = self.shared.clone();
        let database = shared.database.read();
        let begun = match database.as_ref() {
            Some(database) => begin(database, wants_disk).map_err(failed),
            None => Err(not_open()),
        };
        let mut broken = None;
        for command in taken {
            match command {
                StateCommand::Flush(reply) => flushes.push(reply),
                StateCommand::Change { space, quota, change, reply } => {
                    let answer = match &begun {
                        Ok(write) if broken.is_none() => table::apply(write, &mut self.totals, &space, quota, &change),
                        Ok(_) | Err(_) => Err(not_open()),
                    };
                    if let Err(error @ Error::Unavailable(_)) = &answer {
                        broken.get_or_insert_with(|| error.clone());
                    }
                    answers.push((reply, answer));
                }
            }
        }
        let write = begun?;
        if let Some(broken) = broken {
            return Err(broken);
        }
        write.commit().map_err(|error| failed(error.into()))?;
        drop(database);
        if !answers.is_empty() {
            self.retry.succeeded();
        }
        let number = self.shared.applied.fetch_add(1, Ordering::AcqRel) + 1;
        if wants_disk {
            self.shared.durable.store(number, Ordering::Release);
            telemetry::state_committed(started.elapsed());
        }
        Ok(self.point())
    }

    /// Opens the store again from the disk, because redb refuses everything after an error of the disk.
    fn recover(&mut self, error: &Error) {
        telemetry::state_failed(&error.to_string(), &mut self.lines);
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        let mut database = self.shared.database.write();
        *database = None;
        let opened = table::open(&self.shared.file).and_then(|opened| {
            let totals = count(Some(&opened)).map_err(|error| unavailable(&self.shared.file, &error))?;
            Ok((opened, totals))
        });
        // The error of a store that is not open does not name the cause.
        let why = match opened {
            Ok((opened, totals)) => {
                (self.totals, *database) = (totals, Some(opened));
                error.to_string()
            }
            Err(error) => {
                telemetry::state_failed(&error.to_string(), &mut self.lines);
                error.to_string()
            }
        };
        drop(database);
        let detail = format!("the state of plugins cannot be written: {}: {why}", self.shared.file.display());
        // The loop has no bound.
        self.failed_at = Instant::now();
        self.again_at = self.failed_at + self.retry.failed(&detail).unwrap_or_default();
        self.shared.durable.store(self.shared.applied.load(Ordering::Acquire), Ordering::Release);
    }
}

fn count(database: Option<&Database>) -> Result<PluginTotals, redb::Error> {
    database.map_or_else(|| Ok(PluginTotals::default()), table::count)
}

fn begin(database: &Database, wants_disk: bool) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(if wants_disk { Durability::Immediate } else { Durability::None })?;
    Ok(write)
}
