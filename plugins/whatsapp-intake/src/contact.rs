//! The state of a contact: one document, with a limit on every part.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Failure, config, kv};
use whatsapp_messages::Line;

/// Lines of a conversation that are kept; config `history`.
const HISTORY: f64 = 20.0;
/// More lines would not fit the value of one key.
const HISTORY_MAX: f64 = 200.0;
/// Length of a kept line, in characters.
const LINE_MAX: usize = 1000;
/// Changes that are remembered. WhatsApp and its senders repeat themselves within minutes.
const SEEN_MAX: usize = 200;

/// A contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) ai_enabled: bool,
    pub(crate) user_notes: Option<String>,
    pub(crate) first_seen: Option<String>,
    /// The number of messages from the contact.
    pub(crate) messages: u64,
    history: Vec<Said>,
    seen: Vec<Change>,
}

/// One line, with the id of its message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    id: String,
    line: Line,
}

/// A change, and the id of the event that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Change {
    id: String,
    event: String,
}

/// Tells whether a change was made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The change is made now.
    Never,
    /// The same event made the change and is delivered again. Its call may not have finished.
    FromThis,
    /// Another event made the change.
    FromAnother,
}

impl Kept {
    fn new() -> Self {
        let ai_enabled = config::get("ai-enabled").is_none_or(|word| word != "false");
        let (history, seen) = (Vec::new(), Vec::new());
        Self { ai_enabled, user_notes: None, first_seen: None, messages: 0, history, seen }
    }

    /// Adds a line in the order of arrival. The clocks of WhatsApp and of this machine may differ, and the lines before
    /// a message must be the same when the message is handled again.
    pub(crate) fn say(&mut self, id: &str, mut line: Line) {
        if let Some((end, _)) = line.text.char_indices().nth(LINE_MAX) {
            line.text.truncate(end);
        }
        self.history.push(Said { id: id.to_owned(), line });
    }

    /// The lines before a message.
    pub(crate) fn before(&self, id: &str) -> Vec<Line> {
        self.history.iter().take_while(|said| said.id != id).map(|said| said.line.clone()).collect()
    }

    fn shorten(&mut self, history_max: usize) {
        // One more than the limit, because the message itself is not part of the lines before it.
        let excess = self.history.len().saturating_sub(history_max + 1);
        self.history.drain(..excess);
        let excess = self.seen.len().saturating_sub(SEEN_MAX);
        self.seen.drain(..excess);
    }
}

/// Makes a change that has an id, unless it was made before.
pub(crate) fn change(
    remote_jid: &str,
    id: &str,
    event: &str,
    mut make: impl FnMut(&mut Kept),
) -> Result<(Kept, Seen), Failure> {
    let history_max = config::number("history", HISTORY)?.clamp(0.0, HISTORY_MAX) as usize;
    let mut outcome = None;
    kv::update(&format!("contact:{remote_jid}"), |old| {
        let unreadable = |error: &dyn std::fmt::Display| Failure::retry(format!("contact {remote_jid}: {error}"));
        let mut kept = match old {
            Some(bytes) => trunkline_plugin::json::from_slice::<Kept>(bytes).map_err(|error| unreadable(&error))?,
            None => Kept::new(),
        };
        let seen = match kept.seen.iter().find(|change| change.id == id) {
            None => {
                kept.seen.push(Change { id: id.to_owned(), event: event.to_owned() });
                make(&mut kept);
                kept.shorten(history_max);
                Seen::Never
            }
            Some(change) if change.event == event => Seen::FromThis,
            Some(_) => Seen::FromAnother,
        };
        let bytes = trunkline_plugin::json::to_vec(&kept).map_err(|error| unreadable(&error))?;
        outcome = Some((kept, seen));
        Ok(bytes)
    })?;
    outcome.ok_or_else(|| Failure::retry("the state was not read"))
}
