//! Routes whose task ended without being asked to: they are started again, with pauses that grow, and a condition tells of
//! them until they have run for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use trunkline_event::RouteName;
use trunkline_telemetry::wait::{self, Loop, Retry};

/// A route that ran for so long since it was started again is well.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The route is to be started again.
    Start(RouteName),
    /// The route has run for a while with this task, if it still does.
    Well(RouteName, Id),
}

#[derive(Debug, Default)]
pub(super) struct Restarts {
    loops: BTreeMap<RouteName, Retry>,
    timers: JoinSet<Due>,
}

impl Restarts {
    /// A route ended badly: it is due again after a pause.
    pub(super) fn ended_badly(&mut self, route: &RouteName, why: &str) {
        let retry = self.loops.entry(route.clone()).or_insert_with(|| Retry::new(Loop::RouteRestart, route.as_str()));
        // The loop has no bound.
        let Ok(pause) = retry.failed(why) else { return };
        let route = route.clone();
        self.timers.spawn(async move {
            wait::after(pause).await;
            Due::Start(route)
        });
    }

    /// A route was started.
    pub(super) fn started(&mut self, route: &RouteName, task: Id) {
        if !self.loops.contains_key(route) {
            return;
        }
        let route = route.clone();
        self.timers.spawn(async move {
            wait::after(WELL_AFTER).await;
            Due::Well(route, task)
        });
    }

    /// A route is well again, or is gone: its condition goes.
    pub(super) fn over(&mut self, route: &RouteName) {
        self.loops.remove(route);
    }

    /// Routes that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&RouteName) -> bool) {
        self.loops.retain(|route, _| is_wanted(route));
    }

    /// Waits for what is due; for ever while nothing is. Safe to drop.
    pub(super) async fn next(&mut self) -> Due {
        loop {
            match self.timers.join_next().await {
                Some(Ok(due)) => return due,
                // A timer cannot panic, and nobody aborts it.
                Some(Err(_impossible)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
