//! The trials of all canaries, kept over restarts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rollout::{Phase, Seen, Trial};
use crate::event::RouteName;
use crate::telemetry;

/// One a daemon. Verdicts are written as they fall, counts when [`Rollouts::save`] is called.
pub struct Rollouts {
    file: PathBuf,
    trials: Mutex<Trials>,
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
        Self { file, trials: Mutex::new(trials) }
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
            self.write(&mut trials);
        }
    }

    /// Ends a trial by order; none when the route has no canary on trial or promoted.
    #[must_use]
    pub fn order(&self, route: &RouteName, phase: Phase, reason: &str) -> Option<Trial> {
        let mut trials = self.lock();
        let trial = trials.by_route.get_mut(route)?;
        trial.end(phase, reason.to_owned());
        let ended = trial.clone();
        telemetry::rollout_ended(route, ended.phase == Phase::Promoted, reason);
        self.write(&mut trials);
        Some(ended)
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

    /// Writes the counts, if there are new ones.
    pub fn save(&self) {
        let mut trials = self.lock();
        if trials.is_dirty {
            self.write(&mut trials);
        }
    }

    fn write(&self, trials: &mut Trials) {
        trials.is_dirty = false;
        let by_name: BTreeMap<&str, &Trial> =
            trials.by_route.iter().map(|(name, trial)| (name.as_str(), trial)).collect();
        let written = serde_json::to_vec_pretty(&by_name).map_err(std::io::Error::other).and_then(|bytes| {
            let dir = self.file.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&bytes)?;
            file.as_file().sync_data()?;
            file.persist(&self.file)?;
            Ok(())
        });
        if let Err(error) = written {
            tracing::error!(file = %self.file.display(), %error, "verdicts on canaries are not kept: a restart begins their trials anew");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
