//! What a call asked of the outside and what it was told: recorded of the stable plugin, played to its shadow.
//!
//! A shadow touches nothing. What the stable plugin asked too gets the same answer, one after the other where it asked
//! the same more than once. Anything else is refused, and it is a difference, as is an effect of the stable plugin that the
//! shadow left out. Both read the same times and draw the same random numbers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime_wasi::{HostWallClock, WasiCtxBuilder};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use trunkline_state::{self as state, Answer, Change, Page};

/// What a tape holds of keys, values and bodies; a call that needs more is not played.
const TAPE_MAX_BYTES: usize = 8 << 20;
/// What an entry costs beside them.
const ENTRY_BYTES: usize = 128;
/// Times that are kept; after them the last one stays.
const TIMES_MAX: usize = 1000;

/// Where the questions of a call go.
#[derive(Clone, Default)]
pub enum Outside {
    /// To the outside.
    #[default]
    Real,
    /// To the outside, and onto a tape.
    Recorded(Tape),
    /// Nowhere: the tape answers.
    Played(Tape),
}

/// One call's questions and answers. Cheap to clone; all clones are one tape.
#[derive(Clone)]
pub struct Tape(Arc<Mutex<Reel>>);

struct Reel {
    secure: [u8; 32],
    insecure: [u8; 32],
    hashes: u128,
    times: Vec<Duration>,
    times_played: usize,
    state: Vec<Entry<Access, Result<Told, state::Error>>>,
    http: Vec<Entry<Asked, Reply>>,
    left_bytes: usize,
    /// It had more to hold than it can.
    is_torn: bool,
    /// It was asked what is not on it.
    was_strayed_from: bool,
}

struct Entry<Q, A> {
    question: Q,
    answer: A,
    is_played: bool,
}

/// A question to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    Get(String),
    Exists(String),
    Keys(Option<String>),
    GetMany(Vec<String>),
    Change(Change),
}

/// Its answer, of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Value(Option<Vec<u8>>),
    Exists(bool),
    Page(Page),
    Values(Values),
    Changed(Answer),
}

/// What `get-many` gives: keys with their values, in the order of the question.
pub(super) type Values = Vec<Option<(String, Vec<u8>)>>;

/// A request. Headers are not compared: libraries of languages differ in them.
struct Asked {
    method: Method,
    uri: Uri,
    body: Vec<u8>,
}

/// What came of it, as far as the plugin heard.
#[derive(Clone)]
pub(super) enum Reply {
    /// Nothing, until the call was over.
    Nothing,
    /// No response.
    Failed(ErrorCode),
    /// A response, and as much of its body as was read.
    Response { status: StatusCode, headers: HeaderMap, body: Vec<u8>, end: End },
}

/// How a body ended.
#[derive(Clone)]
pub(super) enum End {
    /// It was not read so far.
    Unread,
    /// Well.
    Whole(Option<HeaderMap>),
    /// It broke off.
    Broken(ErrorCode),
}

/// A request on the tape.
#[derive(Clone, Copy)]
pub(super) struct Exchange(usize);

impl Tape {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Reel {
            secure: rand::random(),
            insecure: rand::random(),
            hashes: rand::random(),
            times: Vec::new(),
            times_played: 0,
            state: Vec::new(),
            http: Vec::new(),
            left_bytes: TAPE_MAX_BYTES,
            is_torn: false,
            was_strayed_from: false,
        })))
    }

    /// Whether it has all of the call.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.reel().is_torn
    }

    /// After it was played: whether it was asked something else, or an effect on it was left out.
    #[must_use]
    pub fn differs(&self) -> bool {
        let reel = self.reel();
        let left_out = |is_played: bool, has_effect: bool| has_effect && !is_played;
        reel.was_strayed_from
            || reel.state.iter().any(|entry| left_out(entry.is_played, matches!(entry.question, Access::Change(_))))
            || reel.http.iter().any(|entry| left_out(entry.is_played, !entry.question.method.is_safe()))
    }

    fn reel(&self) -> MutexGuard<'_, Reel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record_access(&self, access: Access, told: Result<Told, state::Error>) {
        let mut reel = self.reel();
        let bytes = access.bytes() + told.as_ref().map_or(0, Told::bytes);
        if reel.has_room_for(bytes) {
            reel.state.push(Entry { question: access, answer: told, is_played: false });
        }
    }

    pub(super) fn play_access(&self, access: &Access) -> Result<Told, state::Error> {
        let mut reel = self.reel();
        if let Some(entry) = reel.state.iter_mut().find(|entry| !entry.is_played && entry.question == *access) {
            entry.is_played = true;
            return entry.answer.clone();
        }
        reel.was_strayed_from = true;
        Err(state::Error::Unavailable("a shadow is told what the stable plugin was, which did not ask this".to_owned()))
    }

    pub(super) fn record_request(&self, method: Method, uri: Uri) -> Exchange {
        let mut reel = self.reel();
        // Without room its parts are left out, and the tape is not played.
        let _room = reel.has_room_for(uri.path().len() + uri.query().map_or(0, str::len));
        reel.http.push(Entry {
            question: Asked { method, uri, body: Vec::new() },
            answer: Reply::Nothing,
            is_played: false,
        });
        Exchange(reel.http.len() - 1)
    }

    /// A part of the request's body.
    pub(super) fn record_upload(&self, exchange: Exchange, part: &[u8]) {
        let mut reel = self.reel();
        if reel.has_room_for(part.len())
            && let Some(entry) = reel.http.get_mut(exchange.0)
        {
            entry.question.body.extend_from_slice(part);
        }
    }

    /// What came of the request, before any of the response's body.
    pub(super) fn record_reply(&self, exchange: Exchange, reply: Reply) {
        if let Some(entry) = self.reel().http.get_mut(exchange.0) {
            entry.answer = reply;
        }
    }

    /// A part of the response's body.
    pub(super) fn record_download(&self, exchange: Exchange, part: &[u8]) {
        let mut reel = self.reel();
        if reel.has_room_for(part.len())
            && let Some(Entry { answer: Reply::Response { body, .. }, .. }) = reel.http.get_mut(exchange.0)
        {
            body.extend_from_slice(part);
        }
    }

    /// How the response's body ended; what is told first holds.
    pub(super) fn record_end(&self, exchange: Exchange, how: End) {
        if let Some(Entry { answer: Reply::Response { end: end @ End::Unread, .. }, .. }) =
            self.reel().http.get_mut(exchange.0)
        {
            *end = how;
        }
    }

    pub(super) fn play_request(&self, method: &Method, uri: &Uri, body: &Bytes) -> Reply {
        let mut reel = self.reel();
        let is_it = |asked: &Asked| asked.method == *method && asked.uri == *uri && asked.body == *body;
        if let Some(entry) = reel.http.iter_mut().find(|entry| !entry.is_played && is_it(&entry.question)) {
            entry.is_played = true;
            return entry.answer.clone();
        }
        reel.was_strayed_from = true;
        Reply::Failed(ErrorCode::HttpRequestDenied)
    }

    /// It was played to an end that it does not have.
    pub(super) fn stray(&self) {
        self.reel().was_strayed_from = true;
    }
}

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Reel {
    fn has_room_for(&mut self, bytes: usize) -> bool {
        match self.left_bytes.checked_sub(bytes + ENTRY_BYTES) {
            Some(left) if !self.is_torn => {
                self.left_bytes = left;
                true
            }
            _ => {
                self.is_torn = true;
                false
            }
        }
    }
}

impl Access {
    fn bytes(&self) -> usize {
        match self {
            Self::Get(key) | Self::Exists(key) | Self::Change(Change::Increment(key, _)) => key.len(),
            Self::Keys(cursor) => cursor.as_ref().map_or(0, String::len),
            Self::GetMany(keys) | Self::Change(Change::Delete(keys)) => keys.iter().map(String::len).sum(),
            Self::Change(Change::Set(pairs)) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Change(Change::Swap { key, seen, value }) => {
                key.len() + seen.as_ref().map_or(0, Vec::len) + value.len()
            }
        }
    }
}

impl Told {
    fn bytes(&self) -> usize {
        match self {
            Self::Value(value) | Self::Changed(Answer::Other(value)) => value.as_ref().map_or(0, Vec::len),
            Self::Page(page) => page.keys.iter().map(String::len).sum(),
            Self::Values(values) => values.iter().flatten().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Exists(_) | Self::Changed(Answer::Done | Answer::Number(_)) => 0,
        }
    }
}

impl Outside {
    /// Gives the call its clock and its random numbers.
    pub(super) fn furnish(&self, wasi: &mut WasiCtxBuilder) {
        let (tape, is_played) = match self {
            Self::Real => return,
            Self::Recorded(tape) => (tape, false),
            Self::Played(tape) => (tape, true),
        };
        let (secure, insecure, hashes) = {
            let reel = tape.reel();
            (reel.secure, reel.insecure, reel.hashes)
        };
        wasi.wall_clock(Clock { tape: tape.clone(), is_played })
            .secure_random(StdRng::from_seed(secure))
            .insecure_random(StdRng::from_seed(insecure))
            .insecure_random_seed(hashes);
    }
}

/// The wall clock of a call whose times are recorded or played.
struct Clock {
    tape: Tape,
    is_played: bool,
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let mut reel = self.tape.reel();
        if self.is_played
            && let Some(last) = reel.times.len().checked_sub(1)
        {
            let time = reel.times[reel.times_played.min(last)];
            reel.times_played += 1;
            return time;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if !self.is_played && reel.times.len() < TIMES_MAX {
            reel.times.push(now);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str) -> Access {
        Access::Change(Change::Set(vec![(key.to_owned(), b"v".to_vec())]))
    }

    #[test]
    fn the_same_question_gets_its_answers_in_order() {
        let tape = Tape::new();
        let get = Access::Get("k".to_owned());
        tape.record_access(get.clone(), Ok(Told::Value(None)));
        tape.record_access(set("k"), Ok(Told::Changed(Answer::Done)));
        tape.record_access(get.clone(), Ok(Told::Value(Some(b"v".to_vec()))));
        assert_eq!(tape.play_access(&get), Ok(Told::Value(None)));
        assert_eq!(tape.play_access(&get), Ok(Told::Value(Some(b"v".to_vec()))));
        assert!(tape.differs(), "a change was left out");
        assert_eq!(tape.play_access(&set("k")), Ok(Told::Changed(Answer::Done)));
        assert!(!tape.differs());
        assert!(tape.play_access(&get).is_err(), "it was asked twice only");
        assert!(tape.differs());
    }

    #[test]
    fn reads_may_be_left_out_and_changes_may_not() {
        let tape = Tape::new();
        tape.record_access(Access::Keys(None), Ok(Told::Page(Page::default())));
        let _get = tape.record_request(Method::GET, Uri::from_static("http://a.test/"));
        assert!(!tape.differs());
        let post = tape.record_request(Method::POST, Uri::from_static("http://a.test/"));
        tape.record_upload(post, b"body");
        assert!(tape.differs());
        let asked = |body: &'static [u8]| {
            tape.play_request(&Method::POST, &Uri::from_static("http://a.test/"), &Bytes::from_static(body))
        };
        assert!(matches!(asked(b"body"), Reply::Nothing));
        assert!(!tape.differs());
        assert!(matches!(asked(b"other"), Reply::Failed(ErrorCode::HttpRequestDenied)));
        assert!(tape.differs());
    }

    #[test]
    fn a_tape_that_is_too_short_says_so() {
        let tape = Tape::new();
        let big = || Ok(Told::Value(Some(vec![0; TAPE_MAX_BYTES / 2])));
        tape.record_access(Access::Get("a".to_owned()), big());
        assert!(tape.is_whole());
        tape.record_access(Access::Get("b".to_owned()), big());
        assert!(!tape.is_whole());
    }

    #[test]
    fn times_are_those_of_the_recording() {
        let tape = Tape::new();
        let recorded = Clock { tape: tape.clone(), is_played: false };
        let times = [recorded.now(), recorded.now()];
        let played = Clock { tape, is_played: true };
        assert_eq!([played.now(), played.now(), played.now()], [times[0], times[1], times[1]]);
    }
}
