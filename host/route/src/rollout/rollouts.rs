//! The trials of all canaries, kept over restarts. No message waits for the disk: a verdict wakes the only task that writes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::trial::{CanaryResult, Trial, TrialPhase};
use trunkline_event::RouteName;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{Loop, RetryLoop};

/// The trials of a daemon. [`Rollouts::save`] writes verdicts and counts. A save is due when [`Rollouts::verdict`] returns
/// and at intervals.
pub struct Rollouts {
    file: PathBuf,
    trials: Mutex<Trials>,
    verdict: Notify,
    /// Held while the file is written, so that an older write never replaces a newer write.
    writing: tokio::sync::Mutex<RetryLoop>,
}

#[derive(Default)]
struct Trials {
    by_route: BTreeMap<RouteName, Trial>,
    is_dirty: bool,
}

impl Rollouts {
    /// Reads the trials of an earlier run from the directory. A file that cannot be read is logged, and every trial begins
    /// again.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let file = state_dir.join("rollouts.json");
        let by_route = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<BTreeMap<String, Trial>>(&bytes)
                .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "the verdicts on canaries could not be read; every canary begins a new trial"))
                .unwrap_or_default(),
            Err(_not_there) => BTreeMap::new(),
        };
        let known = by_route.into_iter().filter_map(|(name, trial)| Some((RouteName::new(&name).ok()?, trial)));
        let trials = Trials { by_route: known.collect(), is_dirty: false };
        let writing = tokio::sync::Mutex::new(RetryLoop::new(Loop::RolloutWrite, ""));
        Self { file, trials: Mutex::new(trials), verdict: Notify::new(), writing }
    }

    /// Phase of the trial of these two digests. A new pair of digests begins a new trial.
    pub(super) fn phase(&self, route: &RouteName, stable: &str, canary: &str) -> TrialPhase {
        let mut trials = self.trials.lock();
        match trials.by_route.get(route) {
            Some(trial) if trial.is_of(stable, canary) => trial.phase.clone(),
            Some(_) | None => {
                telemetry::rollout_begun(route, stable, canary);
                trials.by_route.insert(route.clone(), Trial::new(stable, canary));
                trials.is_dirty = true;
                TrialPhase::Trial
            }
        }
    }

    /// Notes the duration of a call of the stable plugin.
    pub(super) fn stable_took(&self, route: &RouteName, took: Duration) {
        if let Some(trial) = self.trials.lock().by_route.get_mut(route) {
            trial.stable_took(took);
        }
    }

    /// Counts a message of the canary with this digest. `auto` lets the count decide the trial.
    pub(super) fn note(&self, route: &RouteName, canary: &str, seen: CanaryResult, auto: bool) {
        let mut trials = self.trials.lock();
        // A call that began on another digest does not count for this digest.
        let Some(trial) = trials.by_route.get_mut(route).filter(|trial| trial.canary == canary) else { return };
        let slow_before = trial.slow;
        let is_decided = trial.note(seen, auto);
        let result = match seen {
            CanaryResult::Good(_) if trial.slow > slow_before => "slow",
            CanaryResult::Good(_) => "good",
            CanaryResult::Bad => "bad",
            CanaryResult::Both => "both",
        };
        let ended = is_decided.then(|| (trial.phase.clone(), trial.reason.clone()));
        trials.is_dirty = true;
        telemetry::canary_seen(route, result);
        if let Some((phase, reason)) = ended {
            report_end(route, &phase, &reason);
            self.verdict.notify_one();
        }
    }

    /// Ends a trial by order of the operator; none when the route has no trial. The caller saves.
    #[must_use]
    pub fn order(&self, route: &RouteName, phase: TrialPhase, reason: &str) -> Option<Trial> {
        let mut trials = self.trials.lock();
        let trial = trials.by_route.get_mut(route)?;
        trial.end(phase, reason.to_owned());
        let ended = trial.clone();
        trials.is_dirty = true;
        report_end(route, &ended.phase, reason);
        Some(ended)
    }

    /// Waits for a verdict that is not written yet. Safe to drop while waiting.
    pub async fn verdict(&self) {
        self.verdict.notified().await;
    }

    /// Every trial of a route that has a canary, by route.
    #[must_use]
    pub fn all(&self, has_canary: impl Fn(&RouteName) -> bool) -> Vec<(RouteName, Trial)> {
        let trials = self.trials.lock();
        trials
            .by_route
            .iter()
            .filter(|(name, _)| has_canary(name))
            .map(|(name, trial)| (name.clone(), trial.clone()))
            .collect()
    }

    /// Writes new verdicts and counts. They are on disk when this returns, or the failure is logged.
    pub async fn save(&self) {
        let mut retry = self.writing.lock().await;
        let by_name: BTreeMap<String, Trial> = {
            let mut trials = self.trials.lock();
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
                self.trials.lock().is_dirty = true;
                if retry.tries() == 0 {
                    tracing::error!(file = %self.file.display(), %error, "the verdicts on canaries could not be written; the canaries would begin new trials after a restart");
                }
                // The next save tries again.
                let _pause = retry.failed(&format!("{}: {error}", self.file.display()));
            }
        }
    }
}

/// Counts and logs the end of a trial.
fn report_end(route: &RouteName, phase: &TrialPhase, reason: &str) {
    match phase {
        TrialPhase::Promoted => telemetry::rollout_promoted(route, reason),
        TrialPhase::RolledBack => telemetry::rollout_rolled_back(route, reason),
        TrialPhase::Trial => {}
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

    /// No message waits for the disk, even when the disk takes no write.
    #[tokio::test]
    async fn a_verdict_falls_without_a_disk_and_is_kept_when_there_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("state");
        let rollouts = Rollouts::open(&state_dir);
        assert_eq!(rollouts.phase(&route(), "a", "b"), TrialPhase::Trial);
        while rollouts.phase(&route(), "a", "b") == TrialPhase::Trial {
            rollouts.note(&route(), "b", CanaryResult::Bad, true);
        }
        assert!(!state_dir.exists(), "nothing was written for the message");
        rollouts.verdict().await;
        rollouts.save().await;
        assert!(
            rollouts.writing.lock().await.tries() > 0,
            "the failure is counted, because the directory does not exist"
        );

        std::fs::create_dir(&state_dir).expect("a directory");
        rollouts.save().await;
        assert_eq!(rollouts.writing.lock().await.tries(), 0);
        let again = Rollouts::open(&state_dir);
        assert_eq!(again.phase(&route(), "a", "b"), TrialPhase::RolledBack, "the verdict is kept");
    }
}
