//! Log lines of a plugin for one event.

use std::collections::VecDeque;

use super::redact::Redactor;
use trunkline_event::PluginName;

/// Log lines that a dead letter shows, and bytes of each.
const LAST_LINES: usize = 10;
const LAST_LINE_MAX_BYTES: usize = 256;
/// Bytes that a line takes of the budget beside its text, so that empty lines are bounded too.
const LINE_BYTES: usize = 32;

/// The log lines of one event, within `limits.log`.
pub(crate) struct EventLog {
    plugin: PluginName,
    event: String,
    left_bytes: usize,
    dropped: u32,
    /// The newest lines, for a dead letter.
    last: VecDeque<String>,
    redactor: Redactor,
}

impl EventLog {
    pub(crate) fn new(plugin: PluginName, event: &str, max_bytes: u64, redactor: Redactor) -> Self {
        Self {
            plugin,
            event: event.to_owned(),
            left_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            dropped: 0,
            last: VecDeque::new(),
            redactor,
        }
    }

    pub(crate) fn event(&self) -> &str {
        &self.event
    }

    /// The newest lines, oldest first.
    pub(crate) fn last(&mut self) -> String {
        self.last.make_contiguous().join("\n")
    }

    /// Reports how many lines were over the budget.
    pub(crate) fn report_dropped(&self) {
        if self.dropped > 0 {
            let Self { plugin, event, dropped, .. } = self;
            tracing::warn!(target: "trunkline::plugin", %plugin, event, dropped, "a plugin wrote more log lines than limits.log allows; the daemon dropped the lines over the limit");
        }
    }

    /// Writes a line without the plugin's secrets. `level` is a level of `wasi:logging`.
    pub(crate) fn write(&mut self, level: &str, context: &str, message: &str) {
        let (context, message) = (&*self.redactor.clean(context), &*self.redactor.clean(message));
        let bytes = LINE_BYTES + context.len() + message.len();
        if bytes > self.left_bytes {
            self.dropped += 1;
            return;
        }
        self.left_bytes -= bytes;
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        let line = &message[..message.floor_char_boundary(LAST_LINE_MAX_BYTES)];
        self.last.push_back(if context.is_empty() {
            format!("{level}: {line}")
        } else {
            format!("{level} {context}: {line}")
        });
        let (plugin, event) = (&self.plugin, &self.event);
        match level {
            "error" | "critical" => {
                tracing::error!(target: "trunkline::plugin", %plugin, event, context, "{message}");
            }
            "warn" => tracing::warn!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
            "info" => tracing::info!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
            _ => tracing::debug!(target: "trunkline::plugin", %plugin, event, context, "{message}"),
        }
    }
}
