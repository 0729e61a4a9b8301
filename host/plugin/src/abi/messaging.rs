//! `wasi:messaging@0.2.0-draft`: components that were not written for Trunkline. The message of a call is the event. Sent
//! messages become emissions, which are published when `handle` answers with ok and discarded when it does not.
//!
//! - The message's topic is the event's routing key. Its metadata are the event's attributes and, from
//!   CloudEvents, `ce-id`, `ce-source`, `ce-type`, `ce-time`, `ce-subject`.
//! - The topic of `send` is the emission's routing key, and its type unless metadata say `ce-type`. `ce-subject` is the
//!   subject. The other `ce-` entries are left out, because the host makes them: a received message can be sent on.
//! - `timeout` and `connection` are passing failures (retry), `permission-denied` and `other` permanent ones (reject).
//! - The name given to `connect` is not used: the route's connection is the only one.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/wasi-messaging-0.2.0-draft",
        world: "messaging-core",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "wasi:messaging/types.client": super::GuestClient,
            "wasi:messaging/types.message": super::GuestMessage,
        },
    });
}

use bindings::wasi::messaging::producer;
use bindings::wasi::messaging::types::{self, Error, MetadataError};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker, Resource};

use crate::call::call_data::{CallData, OverBudget};
use trunkline_event::{CallFailure, Emission, Event};

/// The export that makes a component a plugin of this interface.
pub(crate) const HANDLER: &str = "wasi:messaging/incoming-handler@0.2.0-draft";
/// Imports that every component of this interface gets, beside those of all plugins.
pub(crate) const GRANTED: [&str; 2] = ["wasi:messaging/types@0.2.0-draft", "wasi:messaging/producer@0.2.0-draft"];

/// Bytes that a message takes of the budget beside its content, so that a million empty messages are bounded too.
const MESSAGE_OVERHEAD_BYTES: usize = 256;
/// Largest number of metadata entries of a message. Each addition reads all entries.
const METADATA_MAX: usize = 256;

pub(crate) fn link(linker: &mut Linker<CallData>) -> wasmtime::Result<()> {
    types::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)?;
    producer::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)
}

/// A linked component of this interface, whose export is looked up.
#[derive(Clone)]
pub(crate) struct MessagingComponent(bindings::MessagingCorePre<CallData>);

impl MessagingComponent {
    pub(crate) fn new(pre: InstancePre<CallData>) -> wasmtime::Result<Self> {
        Ok(Self(bindings::MessagingCorePre::new(pre)?))
    }

    /// Calls `handle` in a fresh instance. The outer error is a trap or a broken rule, the inner one the component's
    /// failure.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<CallData>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, CallFailure>> {
        let instance = self.0.instantiate_async(&mut *store).await?;
        let message = store.data_mut().table.push(GuestMessage::of(event))?;
        let answer = instance.wasi_messaging_incoming_handler().call_handle(&mut *store, message).await?;
        Ok(match answer {
            Ok(()) => Ok(std::mem::take(&mut store.data_mut().sent)),
            Err(error) => Err(failure(error)),
        })
    }
}

fn failure(error: Error) -> CallFailure {
    let retry = |reason: String| CallFailure::Retry { reason, after: None };
    match error {
        Error::Timeout => retry("the component returned the error `timeout`".to_owned()),
        Error::Connection(text) => retry(text),
        Error::PermissionDenied(text) | Error::Other(text) => CallFailure::Rejected(text),
    }
}

/// The connection that a component opens. Its messages go to the route.
pub struct GuestClient {
    is_connected: bool,
}

/// A message of a call: the event, or a message that the component makes.
pub struct GuestMessage {
    topic: Option<String>,
    content_type: Option<String>,
    data: Vec<u8>,
    metadata: Vec<(String, String)>,
}

impl GuestMessage {
    fn of(event: &Event) -> Self {
        let own = [
            ("ce-id", Some(&event.id)),
            ("ce-source", Some(&event.source)),
            ("ce-type", Some(&event.kind)),
            ("ce-time", event.time.as_ref()),
            ("ce-subject", event.subject.as_ref()),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
        Self {
            topic: Some(event.routing_key.clone()),
            content_type: Some(event.content_type.clone()),
            data: event.data.to_vec(),
            metadata: own.chain(event.attributes.iter().filter(|(name, _)| is_name(name)).cloned()).collect(),
        }
    }

    fn set(&mut self, key: String, value: String) {
        self.metadata.retain(|(known, _)| *known != key);
        self.metadata.push((key, value));
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.metadata.iter().position(|(known, _)| known == key)?;
        Some(self.metadata.remove(at).1)
    }

    fn into_emission(mut self, topic: String) -> Emission {
        let kind = self.take("ce-type").filter(|kind| !kind.is_empty()).unwrap_or_else(|| topic.clone());
        let subject = self.take("ce-subject");
        self.metadata.retain(|(name, _)| !name.starts_with("ce-"));
        Emission {
            kind,
            data: self.data.into(),
            content_type: self.content_type,
            routing_key: Some(topic),
            subject,
            attributes: self.metadata,
            ..Emission::default()
        }
    }
}

/// Whether a metadata key is a valid attribute name. The key is checked when it is set, so that the component gets the
/// error at once.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with("x-")
        && !name.starts_with("trunkline-")
        && name != "traceparent"
}

fn bad_name(name: &str) -> MetadataError {
    MetadataError::Invalid(Some(format!(
        "{name:?} is not a valid name: use at most 64 characters of a-z, 0-9, - and _, without the prefix x- or trunkline-"
    )))
}

fn too_many() -> MetadataError {
    MetadataError::Invalid(Some(format!("the metadata has more than {METADATA_MAX} entries")))
}

impl CallData {
    fn message(&mut self, handle: &Resource<GuestMessage>) -> wasmtime::Result<&mut GuestMessage> {
        Ok(self.table.get_mut(handle)?)
    }

    /// Takes bytes of the budget for data that a component leaves with the host. Without the budget a loop of `set-data`
    /// would fill the host's memory.
    fn charge(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or(OverBudget)?;
        Ok(())
    }
}

impl types::Host for CallData {}

impl types::HostClient for CallData {
    fn connect(&mut self, _name: String) -> wasmtime::Result<Result<Resource<GuestClient>, Error>> {
        self.charge(MESSAGE_OVERHEAD_BYTES)?;
        Ok(Ok(self.table.push(GuestClient { is_connected: true })?))
    }

    fn disconnect(&mut self, handle: Resource<GuestClient>) -> wasmtime::Result<Result<(), Error>> {
        self.table.get_mut(&handle)?.is_connected = false;
        Ok(Ok(()))
    }

    fn drop(&mut self, handle: Resource<GuestClient>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl types::HostMessage for CallData {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<GuestMessage>> {
        self.charge(data.len() + MESSAGE_OVERHEAD_BYTES)?;
        let message = GuestMessage { topic: None, content_type: None, data, metadata: Vec::new() };
        Ok(self.table.push(message)?)
    }

    fn topic(&mut self, handle: Resource<GuestMessage>) -> wasmtime::Result<Option<String>> {
        Ok(self.message(&handle)?.topic.clone())
    }

    fn content_type(&mut self, handle: Resource<GuestMessage>) -> wasmtime::Result<Option<String>> {
        Ok(self.message(&handle)?.content_type.clone())
    }

    fn set_content_type(
        &mut self,
        handle: Resource<GuestMessage>,
        content_type: String,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.charge(content_type.len())?;
        self.message(&handle)?.content_type = Some(content_type);
        Ok(Ok(()))
    }

    fn data(&mut self, handle: Resource<GuestMessage>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.message(&handle)?.data.clone())
    }

    fn set_data(&mut self, handle: Resource<GuestMessage>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.charge(data.len())?;
        self.message(&handle)?.data = data;
        Ok(())
    }

    fn metadata(&mut self, handle: Resource<GuestMessage>) -> wasmtime::Result<Option<types::Metadata>> {
        let metadata = self.message(&handle)?.metadata.clone();
        Ok((!metadata.is_empty()).then_some(metadata))
    }

    fn add_metadata(
        &mut self,
        handle: Resource<GuestMessage>,
        key: String,
        value: String,
    ) -> wasmtime::Result<Result<(), MetadataError>> {
        self.charge(key.len() + value.len() + MESSAGE_OVERHEAD_BYTES)?;
        if !is_name(&key) {
            return Ok(Err(bad_name(&key)));
        }
        let message = self.message(&handle)?;
        if message.metadata.len() >= METADATA_MAX {
            return Ok(Err(too_many()));
        }
        message.set(key, value);
        Ok(Ok(()))
    }

    fn set_metadata(
        &mut self,
        handle: Resource<GuestMessage>,
        metadata: types::Metadata,
    ) -> wasmtime::Result<Result<(), MetadataError>> {
        let bytes = metadata.iter().map(|(key, value)| key.len() + value.len() + MESSAGE_OVERHEAD_BYTES).sum();
        self.charge(bytes)?;
        if metadata.len() > METADATA_MAX {
            return Ok(Err(too_many()));
        }
        if let Some((key, _)) = metadata.iter().find(|(key, _)| !is_name(key)) {
            return Ok(Err(bad_name(key)));
        }
        let message = self.message(&handle)?;
        message.metadata.clear();
        for (key, value) in metadata {
            message.set(key, value);
        }
        Ok(Ok(()))
    }

    fn remove_metadata(&mut self, handle: Resource<GuestMessage>, key: String) -> wasmtime::Result<()> {
        self.message(&handle)?.take(&key);
        Ok(())
    }

    fn drop(&mut self, handle: Resource<GuestMessage>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl producer::Host for CallData {
    fn send(
        &mut self,
        client: Resource<GuestClient>,
        topic: String,
        message: Resource<GuestMessage>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.charge(topic.len())?;
        let message = self.table.delete(message)?;
        if !self.table.get(&client)?.is_connected {
            return Ok(Err(Error::Connection("the client is disconnected".to_owned())));
        }
        if topic.is_empty() {
            return Ok(Err(Error::Other("the topic is empty".to_owned())));
        }
        self.sent.push(message.into_emission(topic));
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(metadata: &[(&str, &str)]) -> GuestMessage {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        GuestMessage { topic: None, content_type: None, data: b"data".to_vec(), metadata }
    }

    #[test]
    fn a_topic_is_key_and_type_unless_metadata_say_the_type() {
        let plain = message(&[("region", "eu")]).into_emission("orders.new".to_owned());
        assert_eq!((plain.kind.as_str(), plain.routing_key.as_deref()), ("orders.new", Some("orders.new")));
        assert_eq!(plain.attributes, [("region".to_owned(), "eu".to_owned())]);
        let sent_on =
            message(&[("ce-id", "1"), ("ce-type", "order.placed"), ("ce-subject", "o-1"), ("ce-source", "s")]);
        let sent_on = sent_on.into_emission("orders.new".to_owned());
        assert_eq!((sent_on.kind.as_str(), sent_on.subject.as_deref()), ("order.placed", Some("o-1")));
        assert!(
            sent_on.attributes.is_empty(),
            "the entries that the host makes are left out: {:?}",
            sent_on.attributes
        );
    }

    #[test]
    fn an_error_is_passing_or_not() {
        for error in [Error::Timeout, Error::Connection("down".to_owned())] {
            assert!(failure(error).is_passing());
        }
        for error in [Error::PermissionDenied("no".to_owned()), Error::Other("bad".to_owned())] {
            assert!(matches!(failure(error), CallFailure::Rejected(_)));
        }
    }

    #[test]
    fn names_that_could_route_elsewhere_are_refused() {
        for bad in ["", "CC", "x-delay", "trunkline-hops", "traceparent", "a b", &"n".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("region") && is_name("ce-type"));
    }
}
