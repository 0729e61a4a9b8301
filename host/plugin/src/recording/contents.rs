//! The contents of a recording, filled by the stable plugin's call and read by the shadow's.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{Method, Uri};
use parking_lot::Mutex;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::http::{BodyEnd, RecordedReply, RecordedRequest};
use super::state::{StateAnswer, StateQuestion};
use trunkline_state::Error as StateError;

/// Bytes of keys, values and bodies that a recording holds. A call that needs more is not given to the shadow.
const RECORDING_MAX_BYTES: usize = 8 << 20;
/// Bytes that one entry counts beside its keys, values and bodies.
const ENTRY_BYTES: usize = 128;
/// Times that a recording holds. Later readings of the clock get the last one.
const TIMES_MAX: usize = 1000;

/// The questions of one call with the host's answers. Cheap to clone; all clones share the contents.
#[derive(Clone)]
pub struct Recording(Arc<Mutex<Contents>>);

struct Contents {
    seeds: RandomSeeds,
    times: Vec<Duration>,
    times_read: usize,
    state: Vec<RecordedAnswer<StateQuestion, Result<StateAnswer, StateError>>>,
    http: Vec<RecordedAnswer<RecordedRequest, RecordedReply>>,
    left_bytes: usize,
    /// The call needed more room than a recording has.
    is_truncated: bool,
    /// The shadow asked a question that is not in the recording.
    has_other_question: bool,
}

/// Seeds of the random numbers of both calls.
#[derive(Clone, Copy)]
pub(crate) struct RandomSeeds {
    pub(crate) secure: [u8; 32],
    pub(crate) insecure: [u8; 32],
    pub(crate) hashes: u128,
}

struct RecordedAnswer<Q, A> {
    question: Q,
    answer: A,
    /// The shadow asked the question too.
    is_asked: bool,
}

/// Place of a request in the recording.
#[derive(Clone, Copy)]
pub(crate) struct RequestIndex(usize);

impl Recording {
    /// An empty recording.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Contents {
            seeds: RandomSeeds { secure: rand::random(), insecure: rand::random(), hashes: rand::random() },
            times: Vec::new(),
            times_read: 0,
            state: Vec::new(),
            http: Vec::new(),
            left_bytes: RECORDING_MAX_BYTES,
            is_truncated: false,
            has_other_question: false,
        })))
    }

    /// Whether the recording holds all of the call.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.0.lock().is_truncated
    }

    /// After the shadow's call: whether the shadow asked another question, or left out an effect of the stable plugin.
    #[must_use]
    pub fn differs(&self) -> bool {
        let contents = self.0.lock();
        contents.has_other_question
            || contents.state.iter().any(|entry| !entry.is_asked && matches!(entry.question, StateQuestion::Change(_)))
            || contents.http.iter().any(|entry| !entry.is_asked && !entry.question.method.is_safe())
    }

    pub(crate) fn seeds(&self) -> RandomSeeds {
        self.0.lock().seeds
    }

    /// Records a question to the state with its answer.
    pub(crate) fn record_state(&self, question: StateQuestion, answer: Result<StateAnswer, StateError>) {
        let mut contents = self.0.lock();
        let bytes = question.bytes() + answer.as_ref().map_or(0, StateAnswer::bytes);
        if contents.reserve(bytes) {
            contents.state.push(RecordedAnswer { question, answer, is_asked: false });
        }
    }

    /// The recorded answer to a question of the shadow.
    pub(crate) fn answer_state(&self, question: &StateQuestion) -> Result<StateAnswer, StateError> {
        let mut contents = self.0.lock();
        if let Some(entry) = contents.state.iter_mut().find(|entry| !entry.is_asked && entry.question == *question) {
            entry.is_asked = true;
            return entry.answer.clone();
        }
        contents.has_other_question = true;
        let text = "a shadow receives only recorded answers of the stable plugin, but the stable plugin did not make this host call";
        Err(StateError::Unavailable(text.to_owned()))
    }

    /// Records a request without its body.
    pub(crate) fn record_request(&self, method: Method, uri: Uri) -> RequestIndex {
        let mut contents = self.0.lock();
        // Without room the bodies are left out, and the shadow does not run.
        let _fits = contents.reserve(uri.path().len() + uri.query().map_or(0, str::len));
        contents.http.push(RecordedAnswer {
            question: RecordedRequest { method, uri, body: Vec::new() },
            answer: RecordedReply::Nothing,
            is_asked: false,
        });
        RequestIndex(contents.http.len() - 1)
    }

    /// Records a part of the request's body.
    pub(crate) fn record_upload(&self, request: RequestIndex, part: &[u8]) {
        let mut contents = self.0.lock();
        if contents.reserve(part.len())
            && let Some(entry) = contents.http.get_mut(request.0)
        {
            entry.question.body.extend_from_slice(part);
        }
    }

    /// Records the reply, without the response's body.
    pub(crate) fn record_reply(&self, request: RequestIndex, reply: RecordedReply) {
        if let Some(entry) = self.0.lock().http.get_mut(request.0) {
            entry.answer = reply;
        }
    }

    /// Records a part of the response's body.
    pub(crate) fn record_download(&self, request: RequestIndex, part: &[u8]) {
        let mut contents = self.0.lock();
        if contents.reserve(part.len())
            && let Some(RecordedAnswer { answer: RecordedReply::Response { body, .. }, .. }) =
                contents.http.get_mut(request.0)
        {
            body.extend_from_slice(part);
        }
    }

    /// Records the end of the response's body. Only the first end counts.
    pub(crate) fn record_end(&self, request: RequestIndex, ended: BodyEnd) {
        if let Some(RecordedAnswer { answer: RecordedReply::Response { end: end @ BodyEnd::Unread, .. }, .. }) =
            self.0.lock().http.get_mut(request.0)
        {
            *end = ended;
        }
    }

    /// The recorded reply to a request of the shadow.
    pub(crate) fn answer_request(&self, method: &Method, uri: &Uri, body: &Bytes) -> RecordedReply {
        let mut contents = self.0.lock();
        let is_same = |known: &RecordedRequest| known.method == *method && known.uri == *uri && known.body == *body;
        if let Some(entry) = contents.http.iter_mut().find(|entry| !entry.is_asked && is_same(&entry.question)) {
            entry.is_asked = true;
            return entry.answer.clone();
        }
        contents.has_other_question = true;
        RecordedReply::Failed(ErrorCode::HttpRequestDenied)
    }

    /// Notes that the shadow read a body beyond its recorded end.
    pub(crate) fn note_other_question(&self) {
        self.0.lock().has_other_question = true;
    }

    /// Reads the system's clock and records the time.
    pub(crate) fn record_time(&self) -> Duration {
        let now = system_time();
        let mut contents = self.0.lock();
        if contents.times.len() < TIMES_MAX {
            contents.times.push(now);
        }
        now
    }

    /// The next recorded time; the last one again after it, and the system's time when the recording has none.
    pub(crate) fn next_time(&self) -> Duration {
        let mut contents = self.0.lock();
        let Some(last) = contents.times.len().checked_sub(1) else { return system_time() };
        let time = contents.times[contents.times_read.min(last)];
        contents.times_read += 1;
        time
    }
}

fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

impl Contents {
    /// Takes room for one entry. Without room the recording is incomplete from then on.
    fn reserve(&mut self, bytes: usize) -> bool {
        match self.left_bytes.checked_sub(bytes + ENTRY_BYTES) {
            Some(left) if !self.is_truncated => {
                self.left_bytes = left;
                true
            }
            _ => {
                self.is_truncated = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_state::{ChangeResult, KeyPage, StateChange};

    fn set(key: &str) -> StateQuestion {
        StateQuestion::Change(StateChange::Set(vec![(key.to_owned(), b"v".to_vec())]))
    }

    #[test]
    fn the_same_question_gets_its_answers_in_order() {
        let recording = Recording::new();
        let get = StateQuestion::Get("k".to_owned());
        recording.record_state(get.clone(), Ok(StateAnswer::Value(None)));
        recording.record_state(set("k"), Ok(StateAnswer::Changed(ChangeResult::Done)));
        recording.record_state(get.clone(), Ok(StateAnswer::Value(Some(b"v".to_vec()))));
        assert_eq!(recording.answer_state(&get), Ok(StateAnswer::Value(None)));
        assert_eq!(recording.answer_state(&get), Ok(StateAnswer::Value(Some(b"v".to_vec()))));
        assert!(recording.differs(), "a change was left out");
        assert_eq!(recording.answer_state(&set("k")), Ok(StateAnswer::Changed(ChangeResult::Done)));
        assert!(!recording.differs());
        assert!(recording.answer_state(&get).is_err(), "the stable plugin asked twice only");
        assert!(recording.differs());
    }

    #[test]
    fn reads_may_be_left_out_and_changes_may_not() {
        let recording = Recording::new();
        recording.record_state(StateQuestion::Keys(None), Ok(StateAnswer::Page(KeyPage::default())));
        let _get = recording.record_request(Method::GET, Uri::from_static("http://a.test/"));
        assert!(!recording.differs());
        let post = recording.record_request(Method::POST, Uri::from_static("http://a.test/"));
        recording.record_upload(post, b"body");
        assert!(recording.differs());
        let asked = |body: &'static [u8]| {
            recording.answer_request(&Method::POST, &Uri::from_static("http://a.test/"), &Bytes::from_static(body))
        };
        assert!(matches!(asked(b"body"), RecordedReply::Nothing));
        assert!(!recording.differs());
        assert!(matches!(asked(b"other"), RecordedReply::Failed(ErrorCode::HttpRequestDenied)));
        assert!(recording.differs());
    }

    #[test]
    fn a_recording_without_room_is_incomplete() {
        let recording = Recording::new();
        let big = || Ok(StateAnswer::Value(Some(vec![0; RECORDING_MAX_BYTES / 2])));
        recording.record_state(StateQuestion::Get("a".to_owned()), big());
        assert!(recording.is_complete());
        recording.record_state(StateQuestion::Get("b".to_owned()), big());
        assert!(!recording.is_complete());
    }

    #[test]
    fn the_shadow_reads_the_recorded_times() {
        let recording = Recording::new();
        let times = [recording.record_time(), recording.record_time()];
        let read = [recording.next_time(), recording.next_time(), recording.next_time()];
        assert_eq!(read, [times[0], times[1], times[1]]);
    }
}
