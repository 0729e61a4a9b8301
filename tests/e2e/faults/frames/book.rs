//! The record of frames between daemon and broker, and the proxy's treatment of confirms. Without sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::wire::{self, Unit};

/// The largest number of confirms that are held together, and the longest time.
const HELD_MAX: usize = 24;
const HELD_WITHIN: Duration = Duration::from_millis(5);

/// The treatment of confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Unchanged.
    Pass,
    /// After this many confirms the channels that exist then get none any more. New channels work.
    SwallowAfter(u64),
    /// Held, and then released in the wrong order, or as one confirm for many messages.
    Disorder,
    /// Confirms are unchanged, but acknowledgements of the client do not reach the broker.
    LoseAcks,
}

/// Counts so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Messages that the broker confirmed to the client, including returned ones.
    pub(super) confirmed: u64,
    /// Confirms that the client never got.
    pub(super) swallowed: u64,
    /// Confirms that came after the confirm of a later message.
    pub(super) late: u64,
    /// Confirms that came as part of a confirm for many messages.
    pub(super) merged: u64,
    pub(super) returned: u64,
    /// Returns that came before the confirms of earlier messages.
    pub(super) overtaking: u64,
    pub(super) nacked: u64,
    /// Input events that the client acknowledged.
    pub(super) acked: u64,
}

/// A message that waits for its confirm.
struct Sent {
    id: String,
    /// The event that the message follows from, or is a copy of.
    event: String,
    is_copy: bool,
    was_returned: bool,
}

#[derive(Default)]
struct Channel {
    /// The tag of the last publish.
    last: u64,
    open: BTreeMap<u64, Sent>,
    /// Confirmed by the broker, and held back from the client.
    held: BTreeSet<u64>,
    since: Option<Instant>,
    /// The highest tag of a confirm that the client got.
    told: u64,
    /// Unacknowledged deliveries, by tag, with the ids of their events.
    deliveries: BTreeMap<u64, String>,
}

/// The confirmed outputs of one delivery.
#[derive(Default)]
struct Outputs {
    emissions: BTreeSet<String>,
    /// Copies without an acknowledgement so far. A waiting copy is delivered once more when it is due.
    copies: usize,
}

/// The record of everything that passed through one proxy.
pub(super) struct Book {
    pub(super) mode: Mode,
    pub(super) seen: Seen,
    /// Acknowledgements that came too early (I4).
    pub(super) early: Vec<String>,
    /// The number of emissions of each event.
    emissions: usize,
    /// Channels without confirms.
    mute: BTreeSet<(u64, u16)>,
    connections: u64,
    releases: u64,
    channels: HashMap<(u64, u16), Channel>,
    outputs: HashMap<String, Outputs>,
}

impl Book {
    pub(super) fn new(mode: Mode, emissions: usize) -> Self {
        Self {
            mode,
            seen: Seen::default(),
            early: Vec::new(),
            emissions,
            mute: BTreeSet::new(),
            connections: 0,
            releases: 0,
            channels: HashMap::new(),
            outputs: HashMap::new(),
        }
    }

    /// Notes a new connection; gives its number.
    pub(super) fn connected(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// Notes a unit for the broker, and tells whether it is forwarded.
    pub(super) fn up(&mut self, connection: u64, unit: &Unit) -> bool {
        let channel = self.channels.entry((connection, unit.channel)).or_default();
        match unit.method {
            wire::CHANNEL_OPEN | wire::CONFIRM_SELECT => {
                *channel = Channel::default();
                self.mute.remove(&(connection, unit.channel));
            }
            wire::PUBLISH => {
                let (id, cause) = unit.message();
                channel.last += 1;
                let is_copy = cause.is_none();
                let event = cause.unwrap_or_else(|| id.clone());
                channel.open.insert(channel.last, Sent { id, event, is_copy, was_returned: false });
            }
            wire::ACK => {
                let (tag, multiple) = wire::acknowledged(unit);
                let later = channel.deliveries.split_off(&(tag + 1));
                let mut earlier = std::mem::replace(&mut channel.deliveries, later);
                let one = earlier.remove(&tag);
                if !multiple {
                    channel.deliveries.append(&mut earlier);
                }
                for event in earlier.into_values().chain(one) {
                    self.acked(&event);
                }
            }
            _ => {}
        }
        self.mode != Mode::LoseAcks || unit.method != wire::ACK
    }

    fn acked(&mut self, event: &str) {
        self.seen.acked += 1;
        let outputs = self.outputs.entry(event.to_owned()).or_default();
        if outputs.copies > 0 {
            outputs.copies -= 1;
        } else if outputs.emissions.len() != self.emissions {
            self.early.push(format!("{event} with {} of {} confirmed", outputs.emissions.len(), self.emissions));
        }
    }

    /// Notes a unit for the client, or none after a pause; gives the bytes for the client.
    pub(super) fn down(&mut self, connection: u64, unit: Option<Unit>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(unit) = unit {
            let channel = self.channels.entry((connection, unit.channel)).or_default();
            match unit.method {
                wire::DELIVER => {
                    let (event, cause) = unit.message();
                    if cause.is_some() {
                        // A delayed event of another daemon, which any daemon publishes.
                        out.extend(unit.raw);
                        return out;
                    }
                    // Confirms of an earlier delivery do not count for this one. The relay may still wait for the confirm of the copy
                    // that is delivered here.
                    if let Some(outputs) = self.outputs.get_mut(&event) {
                        outputs.emissions.clear();
                    }
                    channel.deliveries.insert(wire::delivered(&unit), event);
                }
                wire::RETURN => {
                    let (id, _) = unit.message();
                    self.seen.returned += 1;
                    self.seen.overtaking += u64::from(!channel.held.is_empty());
                    let first = channel.open.values_mut().find(|sent| sent.id == id && !sent.was_returned);
                    first.expect("a returned message was published").was_returned = true;
                }
                wire::NACK => self.seen.nacked += 1,
                wire::ACK => {
                    self.hold(connection, &unit);
                    return self.due(connection);
                }
                _ => {}
            }
            out.extend(unit.raw);
        }
        out.extend(self.due(connection));
        out
    }

    /// Keeps a confirm of the broker until it is due.
    fn hold(&mut self, connection: u64, unit: &Unit) {
        let (tag, multiple) = wire::acknowledged(unit);
        let channel = self.channels.entry((connection, unit.channel)).or_default();
        channel.since.get_or_insert_with(Instant::now);
        if multiple {
            channel.held.extend(channel.open.range(..=tag).map(|(tag, _)| *tag));
        } else {
            channel.held.insert(tag);
        }
    }

    /// The confirms that are released now.
    fn due(&mut self, connection: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let of_connection = self.channels.keys().filter(|(of, _)| *of == connection).map(|(_, number)| *number);
        for number in of_connection.collect::<Vec<_>>() {
            if let Mode::SwallowAfter(count) = self.mode
                && self.seen.confirmed >= count
                && self.mute.is_empty()
            {
                self.mute.extend(self.channels.keys());
            }
            let Some(channel) = self.channels.get_mut(&(connection, number)) else { continue };
            if self.mute.contains(&(connection, number)) {
                for tag in std::mem::take(&mut channel.held) {
                    channel.open.remove(&tag);
                    self.seen.swallowed += 1;
                }
                continue;
            }
            let is_due = channel.since.is_some_and(|since| since.elapsed() >= HELD_WITHIN);
            if channel.held.is_empty() || self.mode == Mode::Disorder && !is_due && channel.held.len() < HELD_MAX {
                continue;
            }
            channel.since = None;
            out.extend(self.release(connection, number));
        }
        out
    }

    fn release(&mut self, connection: u64, number: u16) -> Vec<u8> {
        let Some(channel) = self.channels.get_mut(&(connection, number)) else { return Vec::new() };
        let mut held = std::mem::take(&mut channel.held);
        // A confirm for many messages covers all earlier ones, and only the broker can say that.
        let complete: Vec<u64> = channel.open.keys().copied().take_while(|tag| held.contains(tag)).collect();
        let is_disorder = self.mode == Mode::Disorder;
        self.releases += 1;
        let mut frames: Vec<(u64, Vec<u64>)> = Vec::new();
        if let Some(last) =
            complete.last().filter(|_| is_disorder && self.releases.is_multiple_of(2) && complete.len() > 1)
        {
            self.seen.merged += complete.len() as u64;
            held = held.split_off(&(last + 1));
            frames.push((*last, complete.clone()));
        }
        let singles = held.into_iter().map(|tag| (tag, vec![tag]));
        if is_disorder {
            frames.extend(singles.rev())
        } else {
            frames.extend(singles)
        }
        let mut out = Vec::new();
        for (tag, all) in frames {
            let is_late = tag < channel.told;
            channel.told = channel.told.max(tag);
            self.seen.late += u64::from(is_late);
            out.extend(wire::ack(number, tag, all.len() > 1));
            for sent in all.iter().filter_map(|tag| channel.open.remove(tag)) {
                self.seen.confirmed += 1;
                if sent.was_returned {
                    continue;
                }
                let outputs = self.outputs.entry(sent.event).or_default();
                outputs.copies += usize::from(sent.is_copy);
                if !sent.is_copy {
                    outputs.emissions.insert(sent.id);
                }
            }
        }
        out
    }
}
