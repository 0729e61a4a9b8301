//! The one writer: takes what came, applies it in one transaction, and syncs when somebody waits for the disk.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::totals::Totals;
use super::{Answer, Command, Error, Mark, Shared, gone, table, unavailable};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, Retry};

/// Commands of one transaction.
const TRANSACTION_MAX: usize = 512;
/// How often the writer looks for commands while the store is to be tried again by itself.
const LOOK: Duration = Duration::from_millis(20);
/// A store that was opened again without anything to write counts as usable when nothing failed for so long: a full disk lets a
/// file be opened that takes no more.
const TRIAL: Duration = Duration::from_secs(2);

pub(super) fn start(shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Result<(), Error> {
    let file = shared.file.clone();
    let totals = {
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        count(database.as_ref()).map_err(|error| unavailable(&file, &error))?
    };
    let retry = Retry::new(Loop::StateOpen, "");
    let writer = Writer { shared, commands, totals, retry, failed_at: Instant::now(), again_at: Instant::now() };
    let thread = std::thread::Builder::new().name("trunkline-state".to_owned()).spawn(move || writer.run());
    thread.map(drop).map_err(|error| unavailable(&file, &error))
}

struct Writer {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    totals: Totals,
    /// Tries since the store failed; shows that in `/health` until something was written.
    retry: Retry,
    failed_at: Instant,
    again_at: Instant,
}

type Reply = oneshot::Sender<Result<(Answer, Mark), Error>>;

impl Writer {
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
        // Nobody is left who could wait, but a clean end costs no more than this.
        self.serve(Vec::new());
    }

    /// The next command. While the store is not known to work it is tried meanwhile, whether anybody wants it or not.
    fn next(&mut self) -> Option<Command> {
        while self.retry.tries() > 0 {
            match self.commands.try_recv() {
                Ok(command) => return Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() < self.again_at => wait::block(LOOK),
                Err(mpsc::error::TryRecvError::Empty) => self.probe(),
            }
        }
        self.commands.blocking_recv()
    }

    /// Writes nothing, as far as the disk.
    fn probe(&mut self) {
        match self.transaction(Vec::new(), true, &mut Vec::new(), &mut Vec::new()) {
            Ok(_) if self.failed_at.elapsed() >= TRIAL => self.retry.succeeded(),
            Ok(_) => self.again_at = self.failed_at + TRIAL,
            Err(error) => self.recover(&error),
        }
    }

    fn serve(&mut self, taken: Vec<Command>) {
        let is_end = taken.is_empty();
        let wants_disk = is_end || taken.iter().any(|command| matches!(command, Command::Flush(_)));
        let is_dirty = self.shared.applied.load(Ordering::Acquire) > self.shared.durable.load(Ordering::Acquire);
        let has_changes = taken.iter().any(|command| matches!(command, Command::Change { .. }));
        let (mut answers, mut flushes) = (Vec::new(), Vec::new());
        let result = match has_changes || (wants_disk && is_dirty) {
            true => self.transaction(taken, wants_disk, &mut answers, &mut flushes),
            false => {
                flushes.extend(taken.into_iter().filter_map(|command| match command {
                    Command::Flush(reply) => Some(reply),
                    Command::Change { .. } => None,
                }));
                Ok(self.mark())
            }
        };
        if let Err(error) = &result {
            self.recover(error);
        }
        for (reply, answer) in answers {
            let answer = match &result {
                Ok(mark) => answer.map(|answer| (answer, *mark)),
                Err(error) => Err(error.clone()),
            };
            let _gone = reply.send(answer);
        }
        for reply in flushes {
            let _gone = reply.send(result.clone().map(drop));
        }
    }

    fn mark(&self) -> Mark {
        Mark { epoch: self.shared.epoch.load(Ordering::Acquire), number: self.shared.applied.load(Ordering::Acquire) }
    }

    /// Applies everything, or nothing of it. A change that its own rules refuse leaves no trace and stops nobody.
    fn transaction(
        &mut self,
        taken: Vec<Command>,
        wants_disk: bool,
        answers: &mut Vec<(Reply, Result<Answer, Error>)>,
        flushes: &mut Vec<oneshot::Sender<Result<(), Error>>>,
    ) -> Result<Mark, Error> {
        let failed = |error: redb::Error| unavailable(&self.shared.file, &error);
        let started = Instant::now();
        let shared = self.shared.clone();
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let begun = match database.as_ref() {
            Some(database) => begin(database, wants_disk).map_err(failed),
            None => Err(gone()),
        };
        let mut broken = None;
        for command in taken {
            match command {
                Command::Flush(reply) => flushes.push(reply),
                Command::Change { space, quota, change, reply } => {
                    let answer = match &begun {
                        Ok(write) if broken.is_none() => table::apply(write, &mut self.totals, &space, quota, &change),
                        Ok(_) | Err(_) => Err(gone()),
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
        Ok(self.mark())
    }

    /// After an error of the disk redb refuses everything: what is on disk is opened anew.
    fn recover(&mut self, error: &Error) {
        telemetry::state_failed(&error.to_string());
        let detail = format!("what plugins keep cannot be written: {}: {error}", self.shared.file.display());
        // The loop has no bound.
        self.failed_at = Instant::now();
        self.again_at = self.failed_at + self.retry.failed(&detail).unwrap_or_default();
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        match table::open(&self.shared.file) {
            Ok(opened) => match count(Some(&opened)) {
                Ok(totals) => (self.totals, *database) = (totals, Some(opened)),
                Err(error) => telemetry::state_failed(&error.to_string()),
            },
            Err(error) => telemetry::state_failed(&error.to_string()),
        }
        self.shared.durable.store(self.shared.applied.load(Ordering::Acquire), Ordering::Release);
    }
}

fn count(database: Option<&Database>) -> Result<Totals, redb::Error> {
    database.map_or_else(|| Ok(Totals::default()), Totals::count)
}

fn begin(database: &Database, wants_disk: bool) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(if wants_disk { Durability::Immediate } else { Durability::None })?;
    Ok(write)
}
