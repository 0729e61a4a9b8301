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

use crate::host::Host;
use crate::tape::{Access, Outside, Told, Values};
use trunkline_state::{self as state, Answer, Change, Space};
use trunkline_telemetry::HostOutcome;

/// The names under which the one store of a plugin is opened.
const STORES: [&str; 2] = ["", "default"];
/// What the values of one `get-many`, or those of all open compare-and-sets, may take.
const HELD_MAX_BYTES: usize = 8 << 20;

/// The opened store. There is one for each plugin and tenant, so that it holds nothing.
pub struct Bucket;

/// A value as it was when a compare-and-set began.
pub struct Cas {
    key: String,
    seen: Option<Vec<u8>>,
}

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    store::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    atomics::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    batch::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

type Answered<T> = wasmtime::Result<Result<T, Error>>;

impl Host {
    /// Asks the state, or the tape, and counts what the state was asked.
    async fn ask(&mut self, access: Access) -> Result<Told, Error> {
        let other = |error: state::Error| Error::Other(error.to_string());
        let tape = match &self.outside {
            Outside::Played(tape) => return tape.play_access(&access).map_err(other),
            Outside::Recorded(tape) => Some((tape.clone(), access.clone())),
            Outside::Real => None,
        };
        let space = self.space().ok_or(Error::AccessDenied)?;
        let told = reach(space, access).await;
        self.grants.calls.kv(match &told {
            Ok(_) => HostOutcome::Ok,
            Err(state::Error::Quota(_)) => HostOutcome::Limited,
            Err(state::Error::Unfit(_)) => HostOutcome::Refused,
            Err(state::Error::Unavailable(_)) => HostOutcome::Failed,
        });
        if let Some((tape, access)) = tape {
            tape.record_access(access, told.clone());
        }
        told.map_err(other)
    }

    async fn value(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let Told::Value(value) = self.ask(Access::Get(key)).await? else { return Err(mixed_up()) };
        Ok(value)
    }

    async fn change(&mut self, change: Change) -> Result<Answer, Error> {
        let Told::Changed(answer) = self.ask(Access::Change(change)).await? else { return Err(mixed_up()) };
        Ok(answer)
    }

    async fn has(&mut self, key: String) -> Result<bool, Error> {
        let Told::Exists(exists) = self.ask(Access::Exists(key)).await? else { return Err(mixed_up()) };
        Ok(exists)
    }

    async fn page(&mut self, cursor: Option<String>) -> Result<KeyResponse, Error> {
        let Told::Page(page) = self.ask(Access::Keys(cursor)).await? else { return Err(mixed_up()) };
        Ok(KeyResponse { keys: page.keys, cursor: page.cursor })
    }

    async fn values(&mut self, keys: Vec<String>) -> Result<Values, Error> {
        let Told::Values(values) = self.ask(Access::GetMany(keys)).await? else { return Err(mixed_up()) };
        Ok(values)
    }

    /// Keeps a value for a compare-and-set, as long as there is room.
    fn hold(&mut self, key: String, seen: Option<Vec<u8>>) -> Answered<Resource<Cas>> {
        let bytes = key.len() + seen.as_ref().map_or(0, Vec::len);
        if self.cas_bytes + bytes > HELD_MAX_BYTES {
            return Ok(Err(Error::Other(format!("open compare-and-sets take more than {HELD_MAX_BYTES} bytes"))));
        }
        self.cas_bytes += bytes;
        Ok(Ok(self.table.push(Cas { key, seen })?))
    }

    fn let_go(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.cas_bytes -= cas.key.len() + cas.seen.as_ref().map_or(0, Vec::len);
        Ok(cas)
    }
}

async fn reach(space: &mut Space, access: Access) -> Result<Told, state::Error> {
    Ok(match access {
        Access::Get(key) => Told::Value(space.get(&key)?),
        Access::Exists(key) => Told::Exists(space.exists(&key)?),
        Access::Keys(cursor) => Told::Page(space.keys(cursor.as_deref())?),
        Access::GetMany(keys) => Told::Values(many(space, keys)?),
        Access::Change(change) => Told::Changed(space.change(change).await?),
    })
}

fn many(space: &mut Space, keys: Vec<String>) -> Result<Values, state::Error> {
    if keys.len() > state::BATCH_MAX {
        let count = keys.len();
        return Err(state::Error::Unfit(format!("{count} keys at once; {} are possible", state::BATCH_MAX)));
    }
    let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = space.get(&key)?;
        bytes += value.as_ref().map_or(0, Vec::len);
        if bytes > HELD_MAX_BYTES {
            return Err(state::Error::Unfit(format!("values of more than {HELD_MAX_BYTES} bytes at once")));
        }
        found.push(value.map(|value| (key, value)));
    }
    Ok(found)
}

/// An answer of another kind than the question, which is a mistake of ours.
fn mixed_up() -> Error {
    Error::Other("an answer to another question".to_owned())
}

impl store::Host for Host {
    async fn open(&mut self, identifier: String) -> Answered<Resource<Bucket>> {
        if !STORES.contains(&identifier.as_str()) {
            return Ok(Err(Error::NoSuchStore));
        }
        Ok(Ok(self.table.push(Bucket)?))
    }
}

impl store::HostBucket for Host {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> Answered<Option<Vec<u8>>> {
        Ok(self.value(key).await)
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Answered<()> {
        Ok(self.change(Change::Set(vec![(key, value)])).await.map(drop))
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> Answered<()> {
        Ok(self.change(Change::Delete(vec![key])).await.map(drop))
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> Answered<bool> {
        Ok(self.has(key).await)
    }

    async fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<String>) -> Answered<KeyResponse> {
        Ok(self.page(cursor).await)
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: i64) -> Answered<i64> {
        Ok(match self.change(Change::Increment(key, delta)).await {
            Ok(Answer::Number(number)) => Ok(number),
            Ok(Answer::Done | Answer::Other(_)) => Err(Error::Other("an increment without a number".to_owned())),
            Err(error) => Err(error),
        })
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { key, seen } = self.let_go(cas)?;
        let change = Change::Swap { key: key.clone(), seen, value };
        Ok(match self.change(change).await {
            Ok(Answer::Done | Answer::Number(_)) => Ok(()),
            Ok(Answer::Other(now)) => Err(match self.hold(key, now)? {
                Ok(cas) => CasError::CasFailed(cas),
                Err(error) => CasError::StoreError(error),
            }),
            Err(error) => Err(CasError::StoreError(error)),
        })
    }
}

impl atomics::HostCas for Host {
    async fn new(&mut self, _: Resource<Bucket>, key: String) -> Answered<Resource<Cas>> {
        match self.value(key.clone()).await {
            Ok(seen) => self.hold(key, seen),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answered<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.let_go(cas).map(drop)
    }
}

impl batch::Host for Host {
    async fn get_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Answered<Values> {
        Ok(self.values(keys).await)
    }

    async fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answered<()> {
        Ok(self.change(Change::Set(pairs)).await.map(drop))
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Answered<()> {
        Ok(self.change(Change::Delete(keys)).await.map(drop))
    }
}
