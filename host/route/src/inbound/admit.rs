//! Decides whether an event is let in: by its hops, by its reply address and by the schema of the route.

use crate::core::Decision;
use trunkline_config::{Route, SchemaRule, is_own_name};
use trunkline_event::{Event, Reason, RoutingKey};

/// Attribute with the version of the data: `metadata.version` of the ocelot envelope.
const VERSION: &str = "version";
/// Violations that a dead letter names. The text is a header.
const VIOLATIONS_SHOWN_MAX: usize = 8;

/// Decision about an event that is not let in; none when the event may run.
pub(super) fn admit(event: &Event, settings: &Route) -> Option<Decision> {
    let hops_max = settings.hops_max;
    if event.hops > hops_max {
        let error = format!("the event has {} hops, but `max-hops` of the route is {hops_max}", event.hops);
        return Some(Decision::dead_letter(Reason::Loop, error));
    }
    if let Some(problem) = event.reply_to.as_deref().filter(|_| settings.emit.reply).and_then(bad_address) {
        return Some(Decision::dead_letter(Reason::Invalid, problem));
    }
    let problem = settings.schema.as_ref().and_then(|rule| misfit(event, rule))?;
    Some(Decision::dead_letter(Reason::Schema, problem))
}

/// The rule that the reply address of an event breaks, as a sentence. A sender could otherwise write into queues of the daemon, such
/// as the queue of delayed messages.
fn bad_address(address: &str) -> Option<String> {
    if is_own_name(address) {
        return Some(format!(
            "`reply-to` of the event is {address:?}, but names that begin with `trunkline.` belong to queues of the daemon"
        ));
    }
    RoutingKey::new(address).err().map(|error| format!("`reply-to` of the event {error}"))
}

/// The rule of the schema that an event breaks, as a sentence.
fn misfit(event: &Event, rule: &SchemaRule) -> Option<String> {
    if let Some(wanted) = rule.version {
        let found = event.attributes.iter().find(|(name, _)| name == VERSION).map(|(_, value)| value.as_str());
        let major = found.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major != Some(wanted) {
            let found = found.map_or_else(|| "no version".to_owned(), |found| format!("version {found:?}"));
            return Some(format!("the event has {found}, but the route accepts only version {wanted}.x"));
        }
    }
    let violations = rule.schema.check(&event.data).err()?;
    let mut shown: Vec<String> = violations.iter().take(VIOLATIONS_SHOWN_MAX).map(ToString::to_string).collect();
    if violations.len() > VIOLATIONS_SHOWN_MAX {
        shown.push(format!("and {} more", violations.len() - VIOLATIONS_SHOWN_MAX));
    }
    Some(shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_address_is_a_queue_of_another_program() {
        for good in
            ["answers", "amq.gen-Zx", "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA.k==", "trunkline", "my.trunkline.q"]
        {
            assert_eq!(bad_address(good), None, "{good}");
        }
        for (bad, words) in [("trunkline.delay.due", "belong to queues of the daemon"), ("a\nb", "control character")] {
            assert!(bad_address(bad).is_some_and(|problem| problem.contains(words)), "{bad}");
        }
    }
}
