//! `trunkline:plugin@0.1.0`: the generated types, and the conversion between them and the daemon's.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-v0.1",
        inline: "
            package trunkline:host;
            // The interfaces that this module implements. wasmtime implements config and WASI.
            world handles {
                import wasi:logging/logging@0.1.0-draft;
                import trunkline:plugin/stdio@0.1.0;
                export trunkline:plugin/handler@0.1.0;
            }
        ",
        world: "trunkline:host/handles",
        exports: { default: async },
        // The fields of an event are written to the guest's memory without a copy in between.
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

mod described {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-v0.1",
        inline: "
            package trunkline:host;
            world describes {
                export trunkline:plugin/metadata@0.1.0;
            }
        ",
        world: "trunkline:host/describes",
        exports: { default: async },
    });
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindings::exports::trunkline::plugin::handler as wit;
use bindings::trunkline::plugin::stdio::{self, Output};
use bindings::wasi::logging::logging::{self, Level};
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, HasSelf, Instance, InstancePre, Linker, TypedFunc};

use crate::abi::descriptor::PluginDescriptor;
use crate::call::call_data::CallData;
use trunkline_event::{CallFailure, Emission, Event};

/// The export that makes a component a plugin of this version.
pub(crate) const HANDLER: &str = "trunkline:plugin/handler@0.1.0";
const METADATA: &str = "trunkline:plugin/metadata@0.1.0";

pub(crate) fn link(linker: &mut Linker<CallData>) -> wasmtime::Result<()> {
    stdio::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)?;
    logging::add_to_linker::<CallData, HasSelf<CallData>>(linker, |host| host)
}

impl stdio::Host for CallData {
    fn print(&mut self, to: Output, count: u8, bytes: (u64, u64, u64, u64, u64, u64, u64, u64)) {
        let bytes = <[u64; 8]>::from(bytes).map(u64::to_le_bytes);
        let bytes = bytes.as_flattened();
        let bytes = &bytes[..bytes.len().min(count.into())];
        match to {
            Output::Stdout => self.stdio().out.push(bytes),
            Output::Stderr => self.stdio().err.push(bytes),
        }
    }
}

impl logging::Host for CallData {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        };
        self.log.write(level, &context, &message);
    }
}

/// Type of `handle`.
type Handle<'event> = TypedFunc<(wit::Event<'event>,), (Result<Vec<wit::Emission>, wit::Failure>,)>;

/// A linked component of this version, whose exports are looked up.
#[derive(Clone)]
pub(crate) struct HandlerComponent {
    pre: InstancePre<CallData>,
    handle: ComponentExportIndex,
    /// Set when an instance had a `handle` of the right type.
    is_checked: Arc<AtomicBool>,
    describes: Option<described::DescribesPre<CallData>>,
}

impl HandlerComponent {
    pub(crate) fn new(pre: InstancePre<CallData>) -> wasmtime::Result<Self> {
        let component = pre.component();
        let has_metadata = component.component_type().exports(pre.engine()).any(|(name, _)| name == METADATA);
        let describes = has_metadata.then(|| described::DescribesPre::new(pre.clone())).transpose()?;
        let handle = component
            .get_export_index(None, HANDLER)
            .and_then(|handler| component.get_export_index(Some(&handler), "handle"))
            .ok_or_else(|| wasmtime::format_err!("{HANDLER} has no `handle`"))?;
        Ok(Self { pre, handle, is_checked: Arc::default(), describes })
    }

    /// Calls `handle` in a fresh instance. The outer error is a trap or a broken rule, the inner one the plugin's failure.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<CallData>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, CallFailure>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let handle = self.typed(&mut *store, &instance)?;
        let attributes = event.attributes.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>();
        let (answer,) = handle.call_async(&mut *store, (lower(event, &attributes),)).await?;
        Ok(answer.map(|emissions| emissions.into_iter().map(lift).collect()).map_err(lift_failure))
    }

    /// `handle` of an instance. Comparing the types of all fields takes a fortieth of a small call, so only the first
    /// instance is compared.
    fn typed<'event>(&self, store: &mut Store<CallData>, instance: &Instance) -> wasmtime::Result<Handle<'event>> {
        if !self.is_checked.load(Ordering::Relaxed) {
            let handle = instance.get_typed_func(&mut *store, self.handle)?;
            self.is_checked.store(true, Ordering::Relaxed);
            return Ok(handle);
        }
        let handle = instance.get_func(&mut *store, self.handle);
        let handle = handle.ok_or_else(|| wasmtime::format_err!("{HANDLER} has no `handle`"))?;
        #[expect(unsafe_code, reason = "types belong to the component, and another of its instances was checked")]
        // SAFETY: `is_checked` is only set when `get_typed_func` found this type in the same component.
        Ok(unsafe { TypedFunc::new_unchecked(handle) })
    }

    /// Calls `describe` in a fresh instance; `None` when the component does not export it.
    pub(crate) async fn describe(&self, store: &mut Store<CallData>) -> wasmtime::Result<Option<PluginDescriptor>> {
        let Some(describes) = &self.describes else {
            return Ok(None);
        };
        let instance = describes.instantiate_async(&mut *store).await?;
        let said = instance.trunkline_plugin_metadata().call_describe(&mut *store).await?;
        Ok(Some(PluginDescriptor {
            name: said.name,
            version: said.version,
            description: said.description,
            takes: said.takes,
            emits: said.emits,
        }))
    }
}

fn lower<'event>(event: &'event Event, attributes: &'event [(&'event str, &'event str)]) -> wit::Event<'event> {
    wit::Event {
        id: &event.id,
        source: &event.source,
        type_: &event.kind,
        subject: event.subject.as_deref(),
        time: event.time.as_deref(),
        content_type: &event.content_type,
        data: &event.data,
        routing_key: &event.routing_key,
        exchange: &event.exchange,
        tenant: event.tenant.as_deref(),
        user: event.user.as_deref(),
        attempt: event.attempt,
        attributes,
        reply_to: event.reply_to.as_deref(),
        correlation_id: event.correlation_id.as_deref(),
        content_encoding: event.content_encoding.as_deref(),
        redelivered: event.redelivered,
        own_id: event.own_id,
    }
}

fn lift(emission: wit::Emission) -> Emission {
    Emission {
        kind: emission.type_,
        data: emission.data.into(),
        content_type: emission.content_type,
        routing_key: emission.routing_key,
        subject: emission.subject,
        attributes: emission.attributes,
        priority: emission.priority,
        dedupe_key: emission.dedupe_key,
        deliver_after_ms: emission.deliver_after_ms,
    }
}

fn lift_failure(failure: wit::Failure) -> CallFailure {
    match failure {
        wit::Failure::Retry(hint) => {
            CallFailure::Retry { reason: hint.reason, after: hint.after_ms.map(Duration::from_millis) }
        }
        wit::Failure::Reject(text) => CallFailure::Rejected(text),
    }
}
