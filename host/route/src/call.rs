//! Calls: the stable plugin, the canary's share of the events, and the copies that a shadow gets; or the archive.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::rollout::{self, Phase, Seen};
use super::rollouts::Rollouts;
use super::{Route, emit, order, shadow};
use crate::archive::{Archive, Kept};
use trunkline_broker::{NothingPublished, Publication};
use trunkline_config as config;
use trunkline_event::{Emission, Event, Failure, Outcome, RouteName, now_ms};
use trunkline_plugin_host::{Outside, Ready, Slot, Tape};
use trunkline_telemetry::{self as telemetry, Variant};

/// Calls of a shadow at a time; what comes beyond is left out.
const SHADOWS_MAX: usize = 4;

/// The places of a route's plugins.
pub struct Plugins {
    /// What runs.
    pub stable: Slot,
    /// What gets a share, if it can run.
    pub canary: Option<Slot>,
    /// What gets copies, if it can run.
    pub shadow: Option<Slot>,
}

/// What does the work of a route.
pub enum Handlers {
    /// Plugins.
    Plugins(Plugins),
    /// Nothing runs: events are kept.
    Archive(Archive),
}

/// What does the work of a route, with its series.
pub(super) enum Handler {
    Plugins(Box<Callees>),
    Archive(Archive),
}

/// The plugins of a route.
pub(super) struct Callees {
    stable: Callee,
    canary: Option<Canary>,
    shadow: Option<Shadow>,
    /// Calls of the shadow that run.
    shadows: Mutex<JoinSet<()>>,
}

/// What a plugin's call came to.
pub(super) struct Called {
    pub(super) result: Result<Vec<Publication>, Failure>,
    pub(super) log: String,
    /// What ran: it may be another than when the delivery came.
    pub(super) plugin: String,
    pub(super) digest: Arc<str>,
}

/// A plugin of a route, with its series.
pub(super) struct Callee {
    pub(super) slot: Slot,
    calls: telemetry::Calls,
}

/// The canary of a route.
pub(super) struct Canary {
    callee: Callee,
    settings: config::Canary,
    rollouts: Arc<Rollouts>,
}

/// The shadow of a route.
pub(super) struct Shadow {
    callee: Arc<Callee>,
    share: u16,
    places: Arc<Semaphore>,
}

/// One call that has ended.
struct Ran {
    called: Called,
    took: Duration,
    /// As the plugin gave it, when somebody compares.
    outcome: Option<Outcome>,
}

impl Handler {
    pub(super) fn new(
        route: &RouteName,
        settings: &config::Route,
        handlers: Handlers,
        rollouts: &Arc<Rollouts>,
    ) -> Self {
        let plugins = match handlers {
            Handlers::Archive(archive) => return Self::Archive(archive),
            Handlers::Plugins(plugins) => plugins,
        };
        let canary = plugins.canary.zip(settings.canary.clone());
        let shadow = plugins.shadow.zip(settings.shadow.as_ref());
        Self::Plugins(Box::new(Callees {
            stable: Callee::new(route, plugins.stable, Variant::Stable),
            canary: canary.map(|(slot, settings)| Canary::new(route, slot, settings, rollouts.clone())),
            shadow: shadow.map(|(slot, settings)| Shadow::new(route, slot, settings)),
            shadows: Mutex::default(),
        }))
    }

    /// Of the plugin that runs now; empty where none does.
    pub(super) fn digest(&self) -> Arc<str> {
        match self {
            Self::Plugins(callees) => callees.stable.slot.current().digest.clone(),
            Self::Archive(_) => Arc::from(""),
        }
    }

    /// Why an event may be acknowledged for which nothing is published.
    pub(super) fn nothing_published(&self) -> NothingPublished {
        match self {
            Self::Plugins(_) => NothingPublished::NoEmissions,
            Self::Archive(_) => NothingPublished::Archived,
        }
    }

    /// The route ends: nothing that has failed is tried again in here.
    pub(super) fn drain(&self) {
        match self {
            Self::Plugins(_) => {}
            Self::Archive(archive) => archive.drain(),
        }
    }

    /// The text without the plugin's secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        match self {
            Self::Plugins(callees) => callees.stable.slot.current().clean(text).into_owned(),
            Self::Archive(_) => text.to_owned(),
        }
    }
}

impl Callee {
    pub(super) fn new(route: &RouteName, slot: Slot, variant: Variant) -> Self {
        let calls = telemetry::Calls::new(route, &slot.current().name, variant);
        Self { slot, calls }
    }
}

impl Canary {
    pub(super) fn new(route: &RouteName, slot: Slot, settings: config::Canary, rollouts: Arc<Rollouts>) -> Self {
        Self { callee: Callee::new(route, slot, Variant::Canary), settings, rollouts }
    }
}

impl Shadow {
    pub(super) fn new(route: &RouteName, slot: Slot, settings: &config::Shadow) -> Self {
        let callee = Arc::new(Callee::new(route, slot, Variant::Shadow));
        Self { callee, share: settings.share, places: Arc::new(Semaphore::new(SHADOWS_MAX)) }
    }
}

impl Route {
    /// Keeps an event, or runs a plugin on it and makes messages of what that emits. None when the route ends before that.
    pub(super) async fn call(self: Arc<Self>, event: Arc<Event>, now: String) -> Option<Called> {
        let archive = match &self.handler {
            Handler::Plugins(callees) => return Some(self.call_plugin(callees, event, now).await),
            Handler::Archive(archive) => archive,
        };
        let result = match archive.keep(&event, &now).await {
            Kept::Stored => Ok(Vec::new()),
            Kept::LetGo => return None,
            Kept::Unknown => Err(Failure::Retry { reason: "the archive's writer is gone".to_owned(), after: None }),
        };
        Some(Called { result, log: String::new(), plugin: self.settings.runs().to_owned(), digest: Arc::from("") })
    }

    async fn call_plugin(&self, callees: &Callees, event: Arc<Event>, now: String) -> Called {
        let Some(canary) = &callees.canary else {
            return self.stable(callees, &callees.stable.slot.current(), &event, &now).await.called;
        };
        let (stable, candidate) = (callees.stable.slot.current(), canary.callee.slot.current());
        let rollouts = &canary.rollouts;
        match rollouts.phase(&self.name, &stable.digest, &candidate.digest) {
            Phase::Promoted => self.try_one(&canary.callee, &candidate, &event, &now, Outside::Real).await.called,
            Phase::Trial if self.is_for_canary(canary, &event) => {
                let tried = self.try_one(&canary.callee, &candidate, &event, &now, Outside::Real).await;
                if tried.called.result.is_ok() {
                    rollouts.note(&self.name, &candidate.digest, Seen::Good(tried.took), canary.settings.auto);
                    return tried.called;
                }
                // A bad canary costs no message: the stable plugin has it at once.
                let again = self.stable(callees, &stable, &event, &now).await;
                let seen = if again.called.result.is_ok() { Seen::Bad } else { Seen::Both };
                rollouts.note(&self.name, &candidate.digest, seen, canary.settings.auto);
                again.called
            }
            Phase::Trial | Phase::RolledBack => {
                let ran = self.stable(callees, &stable, &event, &now).await;
                rollouts.stable_took(&self.name, ran.took);
                ran.called
            }
        }
    }

    fn is_for_canary(&self, canary: &Canary, event: &Event) -> bool {
        let by = canary.settings.by.as_ref().or(self.settings.order_by.as_ref());
        let key = by.map_or_else(|| event.id.clone(), |by| order::key(by, event));
        rollout::is_in_share(self.name.as_str(), &key, canary.settings.share)
    }

    /// The stable plugin, and the shadow behind it.
    async fn stable(&self, callees: &Callees, plugin: &Ready, event: &Arc<Event>, now: &str) -> Ran {
        let shadow = callees.shadow.as_ref().filter(|shadow| rollout::is_in_share("shadow", &event.id, shadow.share));
        let Some(shadow) = shadow else {
            return self.try_one(&callees.stable, plugin, event, now, Outside::Real).await;
        };
        let tape = Tape::new();
        let ran = self.try_one(&callees.stable, plugin, event, now, Outside::Recorded(tape.clone())).await;
        if let Some(outcome) = &ran.outcome {
            self.compare(callees, shadow, event, (outcome.clone(), tape));
        }
        ran
    }

    async fn try_one(&self, callee: &Callee, plugin: &Ready, event: &Arc<Event>, now: &str, outside: Outside) -> Ran {
        let is_compared = matches!(outside, Outside::Recorded(_));
        let invocation = plugin.invoke(event, outside).await;
        let failure = match &invocation.outcome {
            Outcome::Emitted(_) => None,
            Outcome::Failed(failure) => Some(failure),
        };
        callee.calls.ended(&event.id, failure, invocation.took, invocation.memory_bytes);
        let outcome = is_compared.then(|| invocation.outcome.clone());
        let result = match invocation.outcome {
            Outcome::Emitted(emissions) => {
                // The text may quote what the plugin wrote.
                self.publications(plugin, now, event, &emissions).map_err(|failure| plugin.redact(failure))
            }
            Outcome::Failed(failure) => Err(failure),
        };
        let (plugin, digest) = (plugin.name.to_string(), plugin.digest.clone());
        Ran { called: Called { result, log: invocation.log, plugin, digest }, took: invocation.took, outcome }
    }

    fn publications(
        &self,
        plugin: &Ready,
        now: &str,
        event: &Event,
        emissions: &[Emission],
    ) -> Result<Vec<Publication>, Failure> {
        let context = emit::Context {
            route: &self.name,
            emit: &self.settings.emit,
            allow: plugin.emit(),
            codec: self.codec_out,
            plugin: plugin.name.as_str(),
            digest: &plugin.digest,
            now,
            now_seconds: now_ms() / 1000,
            key: self.key.as_ref(),
        };
        emit::publications(&context, event, emissions)
    }

    /// Runs the shadow on a copy of the event, behind the route's back. Nothing that it gives is published, what it asks is
    /// answered by the tape, and nothing waits.
    fn compare(&self, callees: &Callees, shadow: &Shadow, event: &Arc<Event>, (stable, tape): (Outcome, Tape)) {
        let place = shadow.places.clone().try_acquire_owned();
        let Some(place) = place.ok().filter(|_| tape.is_whole()) else {
            return telemetry::shadow_skipped(&self.name);
        };
        let (callee, event, route) = (shadow.callee.clone(), event.clone(), self.name.clone());
        let mut shadows = callees.shadows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while shadows.try_join_next().is_some() {}
        shadows.spawn(async move {
            let invocation = callee.slot.current().invoke(&event, Outside::Played(tape.clone())).await;
            let failure = match &invocation.outcome {
                Outcome::Emitted(_) => None,
                Outcome::Failed(failure) => Some(failure),
            };
            callee.calls.ended(&event.id, failure, invocation.took, invocation.memory_bytes);
            let mut differences = shadow::differences(&stable, &invocation.outcome);
            if tape.differs() {
                differences.push("calls");
            }
            telemetry::shadow_compared(&route, &event.id, &differences);
            drop(place);
        });
    }
}
