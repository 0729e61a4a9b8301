//! State as JSON documents that apply each event once.
//!
//! An event may be delivered again after a crash between the change of the state and the acknowledgement. An event may
//! also arrive at a second daemon, or its producer may publish the event twice. `dedupe` of a route drops most repeats
//! within the dedupe window and for one daemon. A [`Document`] keeps its value together with the ids of the events that
//! changed the value, so that one write contains both. A repeated event does not change the value and gets the first
//! answer. From the first answer the plugin makes the same emissions with the same ids.
//!
//! ```
//! use trunkline_plugin::document::Document;
//! use trunkline_plugin::{Emission, Event, Failure};
//!
//! fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
//!     let calls: Document<u64> = Document::new("calls");
//!     let applied = calls.apply(&event.id, |count| {
//!         *count += 1;
//!         Ok(*count)
//!     })?;
//!     // `None` means an old event of which only the id is kept. The emissions of that event were published long ago.
//!     applied.answer().map(|count| Emission::json("calls.counted", &count)).into_iter().collect()
//! }
//! # let event = trunkline_plugin::testing::event("call.ended", &0);
//! # assert_eq!(handle(event.clone()), handle(event));
//! ```

use std::collections::VecDeque;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Failure, kv};

/// Number of ids that a document keeps, unless [`Document::remember`] sets another number.
pub const IDS: usize = 512;
/// Number of answers that a document keeps. The number must be at least the number of events that run at a time.
pub const ANSWERS: usize = 64;

/// A JSON value of at most 1 MiB under one key, with the ids of the events that changed the value. The first value is
/// `T::default()`.
#[derive(Debug, Clone)]
pub struct Document<T> {
    key: String,
    ids_max: usize,
    answers_max: usize,
    value: PhantomData<fn() -> T>,
}

/// Result of applying an event to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied<A> {
    /// The event changed the document now.
    First(A),
    /// The event changed the document before, with this answer.
    Repeated(A),
    /// The event changed the document before, and the event's answer is no longer kept.
    Forgotten,
}

impl<A> Applied<A> {
    /// Returns the first answer, as long as the document keeps the answer.
    #[must_use]
    pub fn answer(self) -> Option<A> {
        match self {
            Self::First(answer) | Self::Repeated(answer) => Some(answer),
            Self::Forgotten => None,
        }
    }
}

/// Stored form of a document. The answers belong to the newest ids.
#[derive(Serialize, Deserialize)]
struct StoredDocument<T> {
    value: T,
    ids: VecDeque<String>,
    answers: VecDeque<Box<RawValue>>,
}

impl<T: Default> Default for StoredDocument<T> {
    fn default() -> Self {
        Self { value: T::default(), ids: VecDeque::new(), answers: VecDeque::new() }
    }
}

impl<T> StoredDocument<T> {
    fn find(&self, id: &str) -> Option<Option<&RawValue>> {
        // A repeat mostly follows soon, so the search begins with the newest id.
        let age = self.ids.iter().rev().position(|known| known == id)?;
        let at = self.answers.len().checked_sub(age + 1);
        Some(at.and_then(|at| self.answers.get(at)).map(|answer| &**answer))
    }

    fn keep(&mut self, id: &str, answer: Box<RawValue>, ids_max: usize, answers_max: usize) {
        self.ids.push_back(id.to_owned());
        self.answers.push_back(answer);
        self.ids.drain(..self.ids.len().saturating_sub(ids_max));
        self.answers.drain(..self.answers.len().saturating_sub(answers_max.min(ids_max)));
    }
}

impl<T: Default + Serialize + DeserializeOwned> Document<T> {
    /// Returns the document under a key of at most 1 KiB.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ids_max: IDS, answers_max: ANSWERS, value: PhantomData }
    }

    /// Returns one of `shards` documents, chosen by a hash of `name`. With shards, many small entries such as calls
    /// need only a bounded number of keys.
    pub fn sharded(key: &str, name: &str, shards: u64) -> Self {
        // FNV-1a gives the same hash in every version and on every machine, so that stored documents are found again.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self::new(format!("{key}/{}", hash % shards.max(1)))
    }

    /// Sets how many ids and how many answers the document keeps. Every event reads and writes all kept ids and
    /// answers.
    #[must_use]
    pub fn remember(self, ids: usize, answers: usize) -> Self {
        Self { ids_max: ids, answers_max: answers, ..self }
    }

    /// Returns the current value.
    ///
    /// # Errors
    /// Returns a retry when the state cannot be read.
    pub fn read(&self) -> Result<T, Failure> {
        Ok(self.stored(kv::get(&self.key)?.as_deref())?.value)
    }

    /// Changes the value, unless the event with this id changed it before. `change` runs again with the new value when
    /// another call wrote the document meanwhile. A repeated event gets only the answer. The answer must therefore
    /// contain all data that the emissions need.
    ///
    /// # Errors
    /// Returns the failure of `change`, or a retry when the state cannot be read or written. After a failure of
    /// `change` the document is unchanged.
    pub fn apply<A: Serialize + DeserializeOwned>(
        &self,
        id: &str,
        mut change: impl FnMut(&mut T) -> Result<A, Failure>,
    ) -> Result<Applied<A>, Failure> {
        loop {
            let seen = kv::get(&self.key)?;
            let mut stored = self.stored(seen.as_deref())?;
            match stored.find(id) {
                Some(Some(answer)) => return self.parsed(answer.get().as_bytes()).map(Applied::Repeated),
                Some(None) => return Ok(Applied::Forgotten),
                None => {}
            }
            let answer = change(&mut stored.value)?;
            let raw = serde_json::value::to_raw_value(&answer).map_err(|error| self.unfit(&error))?;
            stored.keep(id, raw, self.ids_max, self.answers_max);
            if self.write(seen.as_deref(), &stored)? {
                return Ok(Applied::First(answer));
            }
        }
    }

    /// Changes the value at every call. Use this function only for changes that may be repeated.
    ///
    /// # Errors
    /// Fails as [`Document::apply`] does.
    pub fn update<A>(&self, mut change: impl FnMut(&mut T) -> Result<A, Failure>) -> Result<A, Failure> {
        loop {
            let seen = kv::get(&self.key)?;
            let mut stored = self.stored(seen.as_deref())?;
            let answer = change(&mut stored.value)?;
            if self.write(seen.as_deref(), &stored)? {
                return Ok(answer);
            }
        }
    }

    fn write(&self, seen: Option<&[u8]>, stored: &StoredDocument<T>) -> Result<bool, Failure> {
        let bytes = serde_json::to_vec(stored).map_err(|error| self.unfit(&error))?;
        Ok(kv::compare_and_set(&self.key, seen, &bytes)?)
    }

    fn stored(&self, bytes: Option<&[u8]>) -> Result<StoredDocument<T>, Failure> {
        bytes.map_or_else(|| Ok(StoredDocument::default()), |bytes| self.parsed(bytes))
    }

    fn parsed<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V, Failure> {
        serde_json::from_slice(bytes).map_err(|error| self.unfit(&error))
    }

    /// Creates a retry. The operator can correct the value of an older version while the event waits.
    fn unfit(&self, error: &serde_json::Error) -> Failure {
        Failure::retry(format!("state: {:?}: {error}", self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn add(document: &Document<Vec<u32>>, id: &str, number: u32) -> Applied<usize> {
        let added = document.apply(id, |numbers| {
            numbers.push(number);
            Ok(numbers.len())
        });
        added.expect("applied")
    }

    #[test]
    fn a_repetition_changes_nothing_and_gets_the_answer_of_the_first_time() {
        let document = Document::new("d");
        assert_eq!(add(&document, "a", 1), Applied::First(1));
        assert_eq!(add(&document, "b", 2), Applied::First(2));
        assert_eq!(add(&document, "a", 1), Applied::Repeated(1));
        assert_eq!(document.read(), Ok(vec![1, 2]));
        assert_eq!(add(&Document::new("e"), "a", 1), Applied::First(1), "another document");
    }

    #[test]
    fn answers_are_forgotten_before_ids() {
        let document = Document::new("d").remember(3, 2);
        for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(add(&document, id, 0), Applied::First(number + 1));
        }
        assert_eq!(add(&document, "a", 0), Applied::Forgotten);
        assert_eq!(add(&document, "b", 0), Applied::Repeated(2));
        assert_eq!(add(&document, "d", 0), Applied::First(4));
        assert_eq!(add(&document, "b", 0), Applied::Forgotten);
        assert_eq!(add(&document, "a", 0), Applied::First(5), "three ids are remembered, and it was the fourth");
        let none = Document::new("none").remember(0, 0);
        assert_eq!((add(&none, "a", 0), add(&none, "a", 0)), (Applied::First(1), Applied::First(2)));
    }

    #[test]
    fn shards_are_few_and_stay_where_they_are() {
        let shard = |name: &str| Document::<u8>::sharded("calls", name, 8).key;
        assert_eq!((shard(""), shard("a"), shard("c-1")), ("calls/5".into(), "calls/4".into(), shard("c-1")));
        let all = (0..200).map(|number| shard(&number.to_string())).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn an_answer_of_nothing_is_an_answer() {
        let document: Document<u8> = Document::new("d");
        assert_eq!(document.apply("a", |_| Ok(None::<u8>)), Ok(Applied::First(None)));
        assert_eq!(document.apply("a", |_| Ok(Some(1_u8))), Ok(Applied::Repeated(None)));
        assert_eq!(Applied::Repeated(7).answer(), Some(7));
        assert_eq!(Applied::<u8>::Forgotten.answer(), None);
    }

    #[test]
    fn who_was_slower_begins_again_with_what_the_other_wrote() {
        let document = Document::new("d");
        let mut is_first = true;
        let applied = document.apply("slow", |numbers: &mut Vec<u32>| {
            if std::mem::take(&mut is_first) {
                add(&document, "fast", 1);
            }
            numbers.push(2);
            Ok(numbers.clone())
        });
        assert_eq!(applied, Ok(Applied::First(vec![1, 2])));
        // The same event on two daemons of one store.
        let mut is_first = true;
        let applied = document.apply("same", |numbers: &mut Vec<u32>| {
            if std::mem::take(&mut is_first) {
                add(&document, "same", 3);
            }
            numbers.push(3);
            Ok(numbers.len())
        });
        assert_eq!((applied, document.read()), (Ok(Applied::Repeated(3)), Ok(vec![1, 2, 3])));
    }

    #[test]
    fn a_failed_change_leaves_no_trace() {
        let document = Document::new("d");
        let failed = document.apply("a", |numbers: &mut Vec<u32>| {
            numbers.push(1);
            Err::<(), _>(Failure::reject("no"))
        });
        assert_eq!(failed, Err(Failure::reject("no")));
        assert_eq!(kv::exists("d"), Ok(false));
        assert_eq!(add(&document, "a", 1), Applied::First(1));
        assert_eq!(document.update(|numbers| Ok(numbers.pop())), Ok(Some(1)));
        assert_eq!(add(&document, "a", 1), Applied::Repeated(1), "an update keeps the ids");
        kv::set("d", b"{}").expect("set");
        assert!(matches!(document.read(), Err(Failure::Retry { .. })));
        testing::fail_state(Some("the disk is full"));
        assert_eq!(document.update(|_| Ok(())), Err(Failure::retry("state: the disk is full")));
        testing::fail_state(None);
    }
}
