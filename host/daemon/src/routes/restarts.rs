//! Restarts of routes whose task ended unexpectedly. The pauses grow, and a condition lasts until a route has run for a
//! while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use trunkline_event::RouteName;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};

/// A restarted route that has run for this time is stable.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// A step that is due for a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DueStep {
    /// The route has to be restarted.
    Start(RouteName),
    /// The route is stable, if it still runs with this task.
    Stable(RouteName, Id),
}

#[derive(Debug, Default)]
pub(super) struct Restarts {
    loops: BTreeMap<RouteName, RetryLoop>,
    timers: JoinSet<DueStep>,
}

impl Restarts {
    /// Notes that a route ended badly. Its restart is due after a pause.
    pub(super) fn ended_badly(&mut self, route: &RouteName, why: &str) {
        let retry =
            self.loops.entry(route.clone()).or_insert_with(|| RetryLoop::new(Loop::RouteRestart, route.as_str()));
        // The loop has no bound.
        let Ok(pause) = retry.failed(why) else { return };
        let route = route.clone();
        self.timers.spawn(async move {
            wait::after(pause).await;
            DueStep::Start(route)
        });
    }

    /// Notes that a route was started.
    pub(super) fn started(&mut self, route: &RouteName, task: Id) {
        if !self.loops.contains_key(route) {
            return;
        }
        let route = route.clone();
        self.timers.spawn(async move {
            wait::after(STABLE_AFTER).await;
            DueStep::Stable(route, task)
        });
    }

    /// Ends the condition of a route that is stable.
    pub(super) fn over(&mut self, route: &RouteName) {
        self.loops.remove(route);
    }

    /// Forgets routes that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&RouteName) -> bool) {
        self.loops.retain(|route, _| is_wanted(route));
    }

    /// The next step that is due. Waits without end while there is none. Safe to drop.
    pub(super) async fn next(&mut self) -> DueStep {
        loop {
            match self.timers.join_next().await {
                Some(Ok(due)) => return due,
                // A timer cannot panic and is never aborted.
                Some(Err(_impossible)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
