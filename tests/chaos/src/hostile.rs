//! The history of hostile messages: the expected and the actual result of each. A message has exactly one result, or
//! one in each of several queues. It has more only when it was in flight during a fault.

use crate::checker::{Invariant, Window, struck};
use crate::ledger::Violations;
use crate::schedule::Kind;

/// A queue, and the reason when it is a dead-letter queue.
pub type End = (&'static str, &'static str);

/// A sight of a message.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The queue.
    pub queue: &'a str,
    /// The header `trunkline-reason`, or an empty text.
    pub reason: &'a str,
    /// Its id, its cause and its body; one of them names the message.
    pub names: [&'a [u8]; 3],
    /// The queue delivered the message before.
    pub redelivered: bool,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    sent_ms: u32,
    done_ms: u32,
    is_confirmed: bool,
    ends: Vec<End>,
    seen: Vec<u32>,
}

impl Message {
    fn is_done(&self) -> bool {
        self.seen.iter().all(|count| *count > 0)
    }
}

/// The history.
#[derive(Debug)]
pub struct Hostile {
    seed: u64,
    messages: Vec<Message>,
    /// Messages that were seen again, without redeliveries of the queue.
    pub repeats: u64,
    stray: Violations,
}

impl Hostile {
    /// An empty history.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let stray = Violations { count: 0, examples: Vec::new() };
        Self { seed, messages: Vec::new(), repeats: 0, stray }
    }

    /// Notes a message before it is sent, with its expected results once it is confirmed; gives its number.
    pub fn mint(&mut self, kind: Kind, ends: &[End], now_ms: u32) -> usize {
        let (ends, seen) = (ends.to_vec(), vec![0; ends.len()]);
        self.messages.push(Message { kind, sent_ms: now_ms, done_ms: u32::MAX, is_confirmed: false, ends, seen });
        self.messages.len() - 1
    }

    /// The id of a message.
    #[must_use]
    pub fn id(&self, number: usize) -> String {
        format!("x{:016x}-{number}", self.seed)
    }

    fn number(&self, name: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(name).ok()?.trim_matches('"');
        let (seed, number) = text.strip_prefix('x')?.split_once('-')?;
        (u64::from_str_radix(seed, 16).ok()? == self.seed).then_some(())?;
        number.parse().ok().filter(|number| *number < self.messages.len())
    }

    /// Notes that the broker or the daemon accepted the message.
    pub fn confirm(&mut self, number: usize) {
        if let Some(message) = self.messages.get_mut(number) {
            message.is_confirmed = true;
        }
    }

    /// Notes a sight of the message.
    pub fn see(&mut self, sighting: Sighting<'_>, now_ms: u32) {
        let Sighting { queue, reason, names, redelivered } = sighting;
        let Some(number) = names.iter().find_map(|name| self.number(name)) else {
            let names = names.map(|name| String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned());
            return self.stray.add(|| format!("{names:?} in {queue} ({reason})"));
        };
        let message = &mut self.messages[number];
        let Some(at) = message.ends.iter().position(|end| *end == (queue, reason)) else {
            let kind = message.kind.name();
            return self.stray.add(|| format!("{kind} {number} in {queue} ({reason})"));
        };
        if redelivered && message.seen[at] > 0 {
            return;
        }
        self.repeats += u64::from(message.seen[at] > 0);
        message.seen[at] += 1;
        if message.is_done() && message.done_ms == u32::MAX {
            message.done_ms = now_ms;
        }
    }

    /// The number of messages of a list that have all their results.
    #[must_use]
    pub fn done(&self, numbers: &[usize]) -> usize {
        numbers.iter().filter(|number| self.messages.get(**number).is_some_and(Message::is_done)).count()
    }

    /// Accepted messages that lack a result.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.messages.iter().filter(|message| message.is_confirmed && !message.is_done()).count()
    }

    /// Judges the history. `windows` are the times of faults that may repeat work.
    #[must_use]
    pub fn check(&self, windows: &[Window]) -> Vec<Invariant> {
        let (mut missing, mut doubled) = (Violations::default(), Violations::default());
        let mut ends = 0;
        for (number, message) in self.messages.iter().enumerate() {
            for (end, count) in message.ends.iter().zip(&message.seen) {
                let what = || format!("{} {number}, {end:?}: {count}", message.kind.name());
                ends += u64::from(*count > 0);
                if *count == 0 && message.is_confirmed {
                    missing.add(what);
                }
                if *count > 1 && struck(windows, message.sent_ms, message.done_ms).is_none() {
                    doubled.add(what);
                }
            }
        }
        let taken = self.messages.iter().filter(|message| message.is_confirmed).count();
        let of = |id, what, violations: &Violations| {
            let detail = format!(
                "{} of {} messages, {taken} of them taken, with {ends} ends; {}",
                violations.count,
                self.messages.len(),
                violations.examples.join("; ")
            );
            Invariant { id, what, pass: violations.count == 0, detail }
        };
        vec![
            of("hostile", "hostile messages without the end that they must have", &missing),
            of("hostile", "hostile messages with an end more, without a fault", &doubled),
            of("hostile", "messages where they do not belong", &self.stray),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: End = ("dead", "invalid");
    const OUT: End = ("out", "");

    fn see(hostile: &mut Hostile, end: End, name: &str, redelivered: bool) {
        let names = [&b"\xff"[..], b"", name.as_bytes()];
        hostile.see(Sighting { queue: end.0, reason: end.1, names, redelivered }, 2_000);
    }

    fn failing(hostile: &Hostile, windows: &[Window]) -> Vec<&'static str> {
        hostile.check(windows).iter().filter(|invariant| !invariant.pass).map(|invariant| invariant.what).collect()
    }

    fn one() -> (Hostile, String) {
        let mut hostile = Hostile::new(7);
        let number = hostile.mint(Kind::Malformed, &[DEAD, OUT], 1_000);
        hostile.confirm(number);
        let id = hostile.id(number);
        (hostile, id)
    }

    #[test]
    fn each_end_is_wanted_once() {
        let (mut hostile, id) = one();
        see(&mut hostile, DEAD, &id, false);
        assert_eq!((hostile.waiting(), failing(&hostile, &[]).len()), (1, 1), "the second result is missing");
        see(&mut hostile, OUT, &format!("\"{id}\""), false);
        see(&mut hostile, OUT, &id, true);
        assert_eq!((hostile.waiting(), failing(&hostile, &[])), (0, vec![]), "a repeat of the sink does not count");
    }

    #[test]
    fn one_more_needs_a_fault() {
        let (mut hostile, id) = one();
        for end in [DEAD, OUT, OUT] {
            see(&mut hostile, end, &id, false);
        }
        assert_eq!(failing(&hostile, &[]), ["hostile messages with an end more, without a fault"]);
        assert_eq!(failing(&hostile, &[Window { from_ms: 1_500, to_ms: 1_600 }]), [""; 0]);
        assert_eq!(failing(&hostile, &[Window { from_ms: 100, to_ms: 900 }]).len(), 1, "it was not sent yet");
        assert_eq!(hostile.repeats, 1);
    }

    #[test]
    fn strays_are_seen() {
        let (mut hostile, id) = one();
        see(&mut hostile, DEAD, &id, false);
        see(&mut hostile, OUT, &id, false);
        see(&mut hostile, ("trap", ""), &id, false);
        assert_eq!(failing(&hostile, &[]), ["messages where they do not belong"]);
        let (mut hostile, _) = one();
        see(&mut hostile, OUT, "foreign", false);
        assert_eq!(failing(&hostile, &[]).len(), 2);
    }
}
