//! Calls: the stable plugin, the canary's share of the events, and the copies that a shadow gets; or the archive.

use std::sync::Arc;
use std::time::Duration;

use super::handlers::{CanaryPlugin, PluginVariant, PluginVariants, RouteHandler, ShadowPlugin};
use super::shadow;
use super::trial::{self, CanaryResult, TrialPhase};
use crate::archive::KeepOutcome;
use crate::executor::CallResult;
use crate::order::key as order;
use crate::outbound::emit;
use crate::route_runner::RouteRunner;
use trunkline_broker::Publication;
use trunkline_event::{CallFailure, CallOutcome, Emission, Event, now_ms};
use trunkline_plugin_host::{HostAnswers, Ready, Recording};
use trunkline_telemetry as telemetry;

/// One call that has ended.
struct MeasuredCall {
    called: CallResult,
    took: Duration,
    /// Outcome of the plugin, when a shadow compares outcomes.
    outcome: Option<CallOutcome>,
}

/// A call of the stable plugin, with the answers that the host gave to the call.
struct RecordedCall {
    outcome: CallOutcome,
    recording: Recording,
}

impl RouteRunner {
    /// Archives an event, or runs a plugin on the event and makes messages of the emissions. None when the route ends before
    /// the event is archived.
    pub(crate) async fn call(self: Arc<Self>, event: Arc<Event>, now: String) -> Option<CallResult> {
        let archive = match &self.handler {
            RouteHandler::Plugins(variants) => return Some(self.call_plugin(variants, event, now).await),
            RouteHandler::Archive(archive) => archive,
        };
        let result = match archive.keep(&event, &now).await {
            KeepOutcome::Stored => Ok(Vec::new()),
            KeepOutcome::LetGo => return None,
            KeepOutcome::Unknown => {
                Err(CallFailure::Retry { reason: "the writer of the archive has ended".to_owned(), after: None })
            }
        };
        Some(CallResult { result, log: String::new(), plugin: self.profile.runs.clone(), digest: Arc::from("") })
    }

    async fn call_plugin(&self, variants: &PluginVariants, event: Arc<Event>, now: String) -> CallResult {
        match &variants.canary {
            None => self.stable(variants, &variants.stable.slot.current(), &event, &now).await.called,
            // The future of a route without a canary stays small.
            Some(canary) => Box::pin(self.call_with_canary(variants, canary, event, now)).await,
        }
    }

    async fn call_with_canary(
        &self,
        variants: &PluginVariants,
        canary: &CanaryPlugin,
        event: Arc<Event>,
        now: String,
    ) -> CallResult {
        let (stable, candidate) = (variants.stable.slot.current(), canary.variant.slot.current());
        let rollouts = &canary.rollouts;
        match rollouts.phase(&self.profile.name, &stable.digest, &candidate.digest) {
            TrialPhase::Promoted => {
                self.try_one(&canary.variant, &candidate, &event, &now, HostAnswers::Live).await.called
            }
            TrialPhase::Trial if self.is_for_canary(canary, &event) => {
                let tried = self.try_one(&canary.variant, &candidate, &event, &now, HostAnswers::Live).await;
                if tried.called.result.is_ok() {
                    rollouts.note(
                        &self.profile.name,
                        &candidate.digest,
                        CanaryResult::Good(tried.took),
                        canary.settings.auto,
                    );
                    return tried.called;
                }
                // A failure of the canary costs no event: the stable plugin runs at once.
                let again = self.stable(variants, &stable, &event, &now).await;
                let seen = if again.called.result.is_ok() { CanaryResult::Bad } else { CanaryResult::Both };
                rollouts.note(&self.profile.name, &candidate.digest, seen, canary.settings.auto);
                again.called
            }
            TrialPhase::Trial | TrialPhase::RolledBack => {
                let ran = self.stable(variants, &stable, &event, &now).await;
                rollouts.stable_took(&self.profile.name, ran.took);
                ran.called
            }
        }
    }

    fn is_for_canary(&self, canary: &CanaryPlugin, event: &Event) -> bool {
        let by = canary.settings.by.as_ref().or(self.profile.settings.order_by.as_ref());
        let key = by.and_then(|by| order::key(by, event)).unwrap_or_else(|| event.id.clone());
        trial::is_in_share(self.profile.name.as_str(), &key, canary.settings.share)
    }

    /// Runs the stable plugin, and starts the shadow after it.
    async fn stable(&self, variants: &PluginVariants, plugin: &Ready, event: &Arc<Event>, now: &str) -> MeasuredCall {
        let shadow = variants.shadow.as_ref().filter(|shadow| trial::is_in_share("shadow", &event.id, shadow.share));
        let Some(shadow) = shadow else {
            return self.try_one(&variants.stable, plugin, event, now, HostAnswers::Live).await;
        };
        // The future of a route without a shadow stays small.
        Box::pin(async {
            let recording = Recording::new();
            let answers = HostAnswers::LiveRecorded(recording.clone());
            let ran = self.try_one(&variants.stable, plugin, event, now, answers).await;
            if let Some(outcome) = &ran.outcome {
                let recorded = RecordedCall { outcome: outcome.clone(), recording };
                self.compare(variants, shadow, event, recorded);
            }
            ran
        })
        .await
    }

    async fn try_one(
        &self,
        variant: &PluginVariant,
        plugin: &Ready,
        event: &Arc<Event>,
        now: &str,
        answers: HostAnswers,
    ) -> MeasuredCall {
        let is_compared = matches!(answers, HostAnswers::LiveRecorded(_));
        let invocation = plugin.invoke(event, answers).await;
        let failure = match &invocation.outcome {
            CallOutcome::Emitted(_) => None,
            CallOutcome::Failed(failure) => Some(failure),
        };
        variant.calls.ended(&event.id, failure, invocation.took, invocation.memory_bytes);
        variant.calls.computed(invocation.cpu);
        let outcome = is_compared.then(|| invocation.outcome.clone());
        let result = match invocation.outcome {
            CallOutcome::Emitted(emissions) => {
                // The error text may quote an emission.
                self.publications(plugin, now, event, &emissions).map_err(|failure| plugin.redact(failure))
            }
            CallOutcome::Failed(failure) => Err(failure),
        };
        let (plugin, digest) = (plugin.name.shared(), plugin.digest.clone());
        MeasuredCall {
            called: CallResult { result, log: invocation.log, plugin, digest },
            took: invocation.took,
            outcome,
        }
    }

    fn publications(
        &self,
        plugin: &Ready,
        now: &str,
        event: &Event,
        emissions: &[Emission],
    ) -> Result<Vec<Publication>, CallFailure> {
        let context = emit::EmitContext {
            route: &self.profile.name,
            emit: &self.profile.settings.emit,
            allow: plugin.emit(),
            codec: self.codec_out,
            reply_codec: self.profile.codec_in,
            plugin: plugin.name.as_str(),
            digest: &plugin.digest,
            now,
            now_seconds: now_ms() / 1000,
            key: self.profile.key.as_ref(),
        };
        emit::publications(&context, event, emissions)
    }

    /// Runs the shadow on the event, and compares its outcome. The host answers the shadow from the recording, no emission of the
    /// shadow is published, and the route does not wait.
    fn compare(&self, variants: &PluginVariants, shadow: &ShadowPlugin, event: &Arc<Event>, recorded: RecordedCall) {
        let RecordedCall { outcome: stable, recording } = recorded;
        let place = shadow.places.clone().try_acquire_owned();
        let Some(place) = place.ok().filter(|_| recording.is_complete()) else {
            return telemetry::shadow_skipped(&self.profile.name);
        };
        let (variant, event, route) = (shadow.variant.clone(), event.clone(), self.profile.name.clone());
        let mut shadows = variants.shadows.lock();
        while shadows.try_join_next().is_some() {}
        shadows.spawn(async move {
            let invocation = variant.slot.current().invoke(&event, HostAnswers::Recorded(recording.clone())).await;
            let failure = match &invocation.outcome {
                CallOutcome::Emitted(_) => None,
                CallOutcome::Failed(failure) => Some(failure),
            };
            variant.calls.ended(&event.id, failure, invocation.took, invocation.memory_bytes);
            variant.calls.computed(invocation.cpu);
            let mut differences = shadow::differences(&stable, &invocation.outcome);
            if recording.differs() {
                differences.push("calls");
            }
            telemetry::shadow_compared(&route, &event.id, &differences);
            drop(place);
        });
    }
}
