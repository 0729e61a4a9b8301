//! `wasi:keyvalue` 0.2.0-draft2: store, atomics and batch, on the state of one plugin and one tenant.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-v0.1",
        inline: "
            package trunkline:host;
            world keeps {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "trunkline:host/keeps",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

use bindings::wasi::keyvalue::atomics::{self, CasError};
use bindings::wasi::keyvalue::batch;
use bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::call::call_data::CallData;
use crate::recording::answers::HostAnswers;
use crate::recording::state::{KeyValues, StateAnswer, StateQuestion};
use trunkline_state::{self as state, ChangeResult, KeySpace, StateChange};
use trunkline_telemetry::HostOutcome;

/// The names under which the one store of a plugin is opened.
const STORES: [&str; 2] = ["", "default"];
/// Bytes of the values of one `get-many`, and of the values of all open compare-and-sets.
const HELD_MAX_BYTES: usize = 8 << 20;

/// The opened store. Each plugin and tenant has one store, so that the handle holds nothing.
pub struct Bucket;

/// A value as it was when a compare-and-set began.
pub struct Cas {
    key: String,
    seen: Option<Vec<u8>>,
}

pub(crate) fn link(linker: &mut Linker<CallData>) -> wasmtime::Result<()> {
    store::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)?;
    atomics::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)?;
    batch::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)
}

type KvResult<T> = wasmtime::Result<Result<T, Error>>;

impl CallData {
    /// Asks the state, or the recording of a shadow, and counts questions to the state.
    async fn ask(&mut self, question: StateQuestion) -> Result<StateAnswer, Error> {
        let other = |error: state::Error| Error::Other(error.to_string());
        let recording = match &self.answers {
            HostAnswers::Recorded(recording) => return recording.answer_state(&question).map_err(other),
            HostAnswers::LiveRecorded(recording) => Some((recording.clone(), question.clone())),
            HostAnswers::Live => None,
        };
        let space = self.space().ok_or(Error::AccessDenied)?;
        let answer = ask_state(space, question).await;
        self.grants.calls.kv(match &answer {
            Ok(_) => HostOutcome::Ok,
            Err(state::Error::Quota(_)) => HostOutcome::Limited,
            Err(state::Error::Unfit(_)) => HostOutcome::Refused,
            Err(state::Error::Unavailable(_)) => HostOutcome::Failed,
        });
        if let Some((recording, question)) = recording {
            recording.record_state(question, answer.clone());
        }
        answer.map_err(other)
    }

    async fn value(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let StateAnswer::Value(value) = self.ask(StateQuestion::Get(key)).await? else { return Err(wrong_kind()) };
        Ok(value)
    }

    async fn change(&mut self, change: StateChange) -> Result<ChangeResult, Error> {
        let StateAnswer::Changed(answer) = self.ask(StateQuestion::Change(change)).await? else {
            return Err(wrong_kind());
        };
        Ok(answer)
    }

    async fn has(&mut self, key: String) -> Result<bool, Error> {
        let StateAnswer::Exists(exists) = self.ask(StateQuestion::Exists(key)).await? else { return Err(wrong_kind()) };
        Ok(exists)
    }

    async fn page(&mut self, cursor: Option<String>) -> Result<KeyResponse, Error> {
        let StateAnswer::Page(page) = self.ask(StateQuestion::Keys(cursor)).await? else { return Err(wrong_kind()) };
        Ok(KeyResponse { keys: page.keys, cursor: page.cursor })
    }

    async fn values(&mut self, keys: Vec<String>) -> Result<KeyValues, Error> {
        let StateAnswer::Values(values) = self.ask(StateQuestion::GetMany(keys)).await? else {
            return Err(wrong_kind());
        };
        Ok(values)
    }

    /// Keeps a value for a compare-and-set, within the bound for all open ones.
    fn hold(&mut self, key: String, seen: Option<Vec<u8>>) -> KvResult<Resource<Cas>> {
        let bytes = key.len() + seen.as_ref().map_or(0, Vec::len);
        if self.cas_bytes + bytes > HELD_MAX_BYTES {
            return Ok(Err(Error::Other(format!(
                "the open compare-and-sets of this call need more than {HELD_MAX_BYTES} bytes"
            ))));
        }
        self.cas_bytes += bytes;
        Ok(Ok(self.table.push(Cas { key, seen })?))
    }

    fn release(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.cas_bytes -= cas.key.len() + cas.seen.as_ref().map_or(0, Vec::len);
        Ok(cas)
    }
}

async fn ask_state(space: &mut KeySpace, question: StateQuestion) -> Result<StateAnswer, state::Error> {
    Ok(match question {
        StateQuestion::Get(key) => StateAnswer::Value(space.get(&key)?),
        StateQuestion::Exists(key) => StateAnswer::Exists(space.exists(&key)?),
        StateQuestion::Keys(cursor) => StateAnswer::Page(space.keys(cursor.as_deref())?),
        StateQuestion::GetMany(keys) => StateAnswer::Values(get_many(space, keys)?),
        StateQuestion::Change(change) => StateAnswer::Changed(space.change(change).await?),
    })
}

fn get_many(space: &mut KeySpace, keys: Vec<String>) -> Result<KeyValues, state::Error> {
    if keys.len() > state::BATCH_MAX {
        let count = keys.len();
        return Err(state::Error::Unfit(format!(
            "the host call has {count} keys; the limit is {} keys",
            state::BATCH_MAX
        )));
    }
    let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = space.get(&key)?;
        bytes += value.as_ref().map_or(0, Vec::len);
        if bytes > HELD_MAX_BYTES {
            return Err(state::Error::Unfit(format!(
                "the values of one host call have more than {HELD_MAX_BYTES} bytes"
            )));
        }
        found.push(value.map(|value| (key, value)));
    }
    Ok(found)
}

/// An answer of another kind than the question: a fault of the host.
fn wrong_kind() -> Error {
    Error::Other("the host returned a value of the wrong kind".to_owned())
}

impl store::Host for CallData {
    async fn open(&mut self, identifier: String) -> KvResult<Resource<Bucket>> {
        if !STORES.contains(&identifier.as_str()) {
            return Ok(Err(Error::NoSuchStore));
        }
        Ok(Ok(self.table.push(Bucket)?))
    }
}

impl store::HostBucket for CallData {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> KvResult<Option<Vec<u8>>> {
        Ok(self.value(key).await)
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> KvResult<()> {
        Ok(self.change(StateChange::Set(vec![(key, value)])).await.map(drop))
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> KvResult<()> {
        Ok(self.change(StateChange::Delete(vec![key])).await.map(drop))
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> KvResult<bool> {
        Ok(self.has(key).await)
    }

    async fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<String>) -> KvResult<KeyResponse> {
        Ok(self.page(cursor).await)
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for CallData {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: i64) -> KvResult<i64> {
        Ok(match self.change(StateChange::Increment(key, delta)).await {
            Ok(ChangeResult::Number(number)) => Ok(number),
            Ok(ChangeResult::Done | ChangeResult::Other(_)) => {
                Err(Error::Other("the host returned no number for an increment".to_owned()))
            }
            Err(error) => Err(error),
        })
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { key, seen } = self.release(cas)?;
        let change = StateChange::Swap { key: key.clone(), seen, value };
        Ok(match self.change(change).await {
            Ok(ChangeResult::Done | ChangeResult::Number(_)) => Ok(()),
            Ok(ChangeResult::Other(now)) => Err(match self.hold(key, now)? {
                Ok(cas) => CasError::CasFailed(cas),
                Err(error) => CasError::StoreError(error),
            }),
            Err(error) => Err(CasError::StoreError(error)),
        })
    }
}

impl atomics::HostCas for CallData {
    async fn new(&mut self, _: Resource<Bucket>, key: String) -> KvResult<Resource<Cas>> {
        match self.value(key.clone()).await {
            Ok(seen) => self.hold(key, seen),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn current(&mut self, cas: Resource<Cas>) -> KvResult<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.release(cas).map(drop)
    }
}

impl batch::Host for CallData {
    async fn get_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> KvResult<KeyValues> {
        Ok(self.values(keys).await)
    }

    async fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> KvResult<()> {
        Ok(self.change(StateChange::Set(pairs)).await.map(drop))
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> KvResult<()> {
        Ok(self.change(StateChange::Delete(keys)).await.map(drop))
    }
}
