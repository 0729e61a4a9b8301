//! The trials of all canaries, kept over restarts. Nothing here waits for a disk while a message does: a verdict wakes the
//! one task that writes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::rollout::{Phase, Seen, Trial};
use trunkline_event::RouteName;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{Loop, Retry};

/// One a daemon. Verdicts and counts are written by [`Rollouts::save`], which is due when [`Rollouts::verdict`] returns
/// and now and then.
pub struct Rollouts {
    file: PathBuf,
    trials: Mutex<Trials>,
    verdict: Notify,
    /// Held while the file is written, so that no write overtakes a later one.
    writing: tokio::sync::Mutex<Retry>,
}

#[derive(Default)]
struct Trials {
    by_route: BTreeMap<RouteName, Trial>,
    is_dirty: bool,
}

impl Rollouts {
    /// Reads what an earlier run left in the directory. What cannot be read is told, and every trial begins anew.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let file = state_dir.join("rollouts.json");
        let by_route = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<BTreeMap<String, Trial>>(&bytes)
                .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "trials of canaries begin anew"))
                .unwrap_or_default(),
            Err(_not_there) => BTreeMap::new(),
        };
        let known = by_route.into_iter().filter_map(|(name, trial)| Some((RouteName::new(&name).ok()?, trial)));
        let trials = Trials { by_route: known.collect(), is_dirty: false };
        let writing = tokio::sync::Mutex::new(Retry::new(Loop::RolloutWrite, ""));
        Self { file, trials: Mutex::new(trials), verdict: Notify::new(), writing }
    }

    /// Where the trial of these two stands; another pair than before begins a new one.
    pub(super) fn phase(&self, route: &RouteName, stable: &str, canary: &str) -> Phase {
        let mut trials = self.lock();
        match trials.by_route.get(route) {
            Some(trial) if trial.is_of(stable, canary) => trial.phase.clone(),
            Some(_) | None => {
                telemetry::rollout_begun(route, stable, canary);
                trials.by_route.insert(route.clone(), Trial::new(stable, canary));
                trials.is_dirty = true;
                Phase::Trial
            }
        }
    }

    /// A call of the stable plugin took so long.
    pub(super) fn stable_took(&self, route: &RouteName, took: Duration) {
        if let Some(trial) = self.lock().by_route.get_mut(route) {
            trial.stable_took(took);
        }
    }

    /// Counts a message of the canary with this digest; decides the trial where that is wanted.
    pub(super) fn note(&self, route: &RouteName, canary: &str, seen: Seen, auto: bool) {
        let mut trials = self.lock();
        // What was begun on another digest says nothing of this one.
        let Some(trial) = trials.by_route.get_mut(route).filter(|trial| trial.canary == canary) else { return };
        let slow_before = trial.slow;
        let is_decided = trial.note(seen, auto);
        let result = match seen {
            Seen::Good(_) if trial.slow > slow_before => "slow",
            Seen::Good(_) => "good",
            Seen::Bad => "bad",
            Seen::Both => "both",
        };
        let (promoted, reason) = (trial.phase == Phase::Promoted, trial.reason.clone());
        trials.is_dirty = true;
        telemetry::canary_seen(route, result);
        if is_decided {
            telemetry::rollout_ended(route, promoted, &reason);
            self.verdict.notify_one();
        }
    }

    /// Ends a trial by order; none when the route has no canary on trial or promoted. To be saved.
    #[must_use]
    pub fn order(&self, route: &RouteName, phase: Phase, reason: &str) -> Option<Trial> {
        let mut trials = self.lock();
        let trial = trials.by_route.get_mut(route)?;
        trial.end(phase, reason.to_owned());
        let ended = trial.clone();
        trials.is_dirty = true;
        telemetry::rollout_ended(route, ended.phase == Phase::Promoted, reason);
        Some(ended)
    }

    /// Waits until a verdict fell that is not written. Safe to drop while waiting.
    pub async fn verdict(&self) {
        self.verdict.notified().await;
    }

    /// Every trial, by route; those of routes without a canary are forgotten.
    #[must_use]
    pub fn all(&self, has_canary: impl Fn(&RouteName) -> bool) -> Vec<(RouteName, Trial)> {
        let trials = self.lock();
        trials
            .by_route
            .iter()
            .filter(|(name, _)| has_canary(name))
            .map(|(name, trial)| (name.clone(), trial.clone()))
            .collect()
    }

    /// Writes what is new; on disk when it returns, or told that it is not.
    pub async fn save(&self) {
        let mut retry = self.writing.lock().await;
        let by_name: BTreeMap<String, Trial> = {
            let mut trials = self.lock();
            if !std::mem::take(&mut trials.is_dirty) {
                return;
            }
            trials.by_route.iter().map(|(name, trial)| (name.to_string(), trial.clone())).collect()
        };
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || write(&file, &by_name)).await;
        match written.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))) {
            Ok(()) => retry.succeeded(),
            Err(error) => {
                self.lock().is_dirty = true;
                if retry.tries() == 0 {
                    tracing::error!(file = %self.file.display(), %error, "verdicts on canaries are not kept: a restart begins their trials anew");
                }
                // Tried again when the next save is due.
                let _pause = retry.failed(&format!("{}: {error}", self.file.display()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(file: &Path, by_name: &BTreeMap<String, Trial>) -> std::io::Result<()> {
    let bytes = serde_json::to_vec_pretty(by_name).map_err(std::io::Error::other)?;
    let mut beside = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    beside.write_all(&bytes)?;
    beside.as_file().sync_data()?;
    beside.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> RouteName {
        RouteName::new("r").expect("a name")
    }

    /// A message is never held up by the disk: here is one that nothing can be written to.
    #[tokio::test]
    async fn a_verdict_falls_without_a_disk_and_is_kept_when_there_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("state");
        let rollouts = Rollouts::open(&state_dir);
        assert_eq!(rollouts.phase(&route(), "a", "b"), Phase::Trial);
        while rollouts.phase(&route(), "a", "b") == Phase::Trial {
            rollouts.note(&route(), "b", Seen::Bad, true);
        }
        assert!(!state_dir.exists(), "nothing was written for the message");
        rollouts.verdict().await;
        rollouts.save().await;
        assert!(rollouts.writing.lock().await.tries() > 0, "it is told that there is no such directory");

        std::fs::create_dir(&state_dir).expect("a directory");
        rollouts.save().await;
        assert_eq!(rollouts.writing.lock().await.tries(), 0);
        let again = Rollouts::open(&state_dir);
        assert_eq!(again.phase(&route(), "a", "b"), Phase::RolledBack, "the verdict is kept");
    }
}
