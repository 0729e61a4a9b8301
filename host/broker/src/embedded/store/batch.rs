//! What is written in one transaction.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::clock::Anchor;
use super::super::delayed::{Delayed, Due};
use crate::Mark;
use trunkline_event::Message;

/// First byte of every record.
pub(in super::super) const RECORD_VERSION: u8 = 1;

/// A message with what the broker knows of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct Record {
    /// By the clock of the store.
    pub(in super::super) published_ms: u64,
    /// Deliveries that were not answered.
    pub(in super::super) count: u32,
    pub(in super::super) message: Arc<Message>,
}

impl Record {
    /// Adds the record to a buffer.
    pub(in super::super) fn encode(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.push(RECORD_VERSION);
        postcard::to_extend(self, buffer).expect("writing into memory cannot fail")
    }

    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!("a record of the unknown version {version}")),
            None => Err("an empty record".to_owned()),
        }
    }
}

/// Changes that are written together. Puts come before removes: what is put and removed is removed.
#[derive(Debug, Default)]
pub(in super::super) struct Batch {
    /// Each with the id of its queue and its position there.
    pub(in super::super) puts: Vec<((u32, u64), Record)>,
    pub(in super::super) removes: Vec<(u32, u64)>,
    pub(in super::super) delays: Vec<(Due, Delayed)>,
    pub(in super::super) undelays: Vec<Due>,
    pub(in super::super) marks: Vec<Mark>,
    /// Where the clock of the store is.
    pub(in super::super) anchor: Option<Anchor>,
}

impl Batch {
    /// Changes of messages and marks.
    pub(in super::super) fn len(&self) -> usize {
        self.puts.len() + self.removes.len() + self.delays.len() + self.undelays.len() + self.marks.len()
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.anchor.is_none()
    }
}
