//! State as JSON documents that take each event once.
//!
//! An event may be delivered again: after a crash between the change of the state and the acknowledgement, from a second
//! daemon, or because its producer published it twice. A route's `dedupe` keeps most of that away, for its window and
//! for one daemon. A [`Document`] keeps the ids of the events that changed it in the value itself, so that change and
//! memory are one write: a repetition changes nothing and gets the answer of the first time, from which the plugin makes
//! the same emissions, with the same ids.
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
//!     // `None` for an event so old that only its id is known: whatever followed from it was published long ago.
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

/// How many ids are remembered unless [`Document::remember`] says otherwise.
pub const IDS: usize = 512;
/// How many answers are remembered; at least as many as events can be in work at once.
pub const ANSWERS: usize = 64;

/// A value of at most 1 MiB of JSON under one key, with the memory of the events that changed it. It begins as
/// `T::default()`.
#[derive(Debug, Clone)]
pub struct Document<T> {
    key: String,
    ids_max: usize,
    answers_max: usize,
    value: PhantomData<fn() -> T>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied<A> {
    /// It changed the document now.
    First(A),
    /// It had changed the document before, and this was the answer then.
    Repeated(A),
    /// It had changed the document before, too long ago for its answer to be known.
    Forgotten,
}

impl<A> Applied<A> {
    /// The answer of the first time, as long as it is known.
    #[must_use]
    pub fn answer(self) -> Option<A> {
        match self {
            Self::First(answer) | Self::Repeated(answer) => Some(answer),
            Self::Forgotten => None,
        }
    }
}

/// How it is kept. The answers are those of the last ids.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    value: T,
    ids: VecDeque<String>,
    answers: VecDeque<Box<RawValue>>,
}

impl<T: Default> Default for Stored<T> {
    fn default() -> Self {
        Self { value: T::default(), ids: VecDeque::new(), answers: VecDeque::new() }
    }
}

impl<T> Stored<T> {
    fn find(&self, id: &str) -> Option<Option<&RawValue>> {
        // From the end: what is repeated is mostly young.
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
    /// The document under a key of at most 1 KiB.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ids_max: IDS, answers_max: ANSWERS, value: PhantomData }
    }

    /// One of `shards` documents, chosen by a name: for small things that come without end, such as calls. A list that
    /// drops its oldest in each of them takes a bounded number of keys.
    pub fn sharded(key: &str, name: &str, shards: u64) -> Self {
        // FNV-1a: the same in every version and on every machine, as what is kept has to be found again.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self::new(format!("{key}/{}", hash % shards.max(1)))
    }

    /// Remembers the last so many ids, and the answers of the last so many of these. Both are read and written with
    /// every event.
    #[must_use]
    pub fn remember(self, ids: usize, answers: usize) -> Self {
        Self { ids_max: ids, answers_max: answers, ..self }
    }

    /// The value as it is now.
    ///
    /// # Errors
    /// A retry when it cannot be read.
    pub fn read(&self) -> Result<T, Failure> {
        Ok(self.stored(kv::get(&self.key)?.as_deref())?.value)
    }

    /// Changes the value, unless the event with this id did so before. The change may be called several times, each time
    /// with a fresh value, while others change the document too. The answer is all that a repetition will know: give
    /// everything that the emissions are made of.
    ///
    /// # Errors
    /// The change's own, which leaves everything as it was, and a retry when the state cannot be read or written.
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

    /// Changes the value, whatever was before: for changes that may be repeated.
    ///
    /// # Errors
    /// As [`Document::apply`].
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

    fn write(&self, seen: Option<&[u8]>, stored: &Stored<T>) -> Result<bool, Failure> {
        let bytes = serde_json::to_vec(stored).map_err(|error| self.unfit(&error))?;
        Ok(kv::compare_and_set(&self.key, seen, &bytes)?)
    }

    fn stored(&self, bytes: Option<&[u8]>) -> Result<Stored<T>, Failure> {
        bytes.map_or_else(|| Ok(Stored::default()), |bytes| self.parsed(bytes))
    }

    fn parsed<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V, Failure> {
        serde_json::from_slice(bytes).map_err(|error| self.unfit(&error))
    }

    /// A retry: what an older version left can be mended while the event waits.
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
        assert_eq!(add(&document, "a", 1), Applied::Repeated(1), "an update forgets nobody");
        kv::set("d", b"{}").expect("set");
        assert!(matches!(document.read(), Err(Failure::Retry { .. })));
        testing::fail_state(Some("the disk is full"));
        assert_eq!(document.update(|_| Ok(())), Err(Failure::retry("state: the disk is full")));
        testing::fail_state(None);
    }
}
