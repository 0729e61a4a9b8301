//! `trunkline:plugin@0.1.0`: the generated types, and nothing but conversion between them and ours.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin-v0.1",
        inline: "
            package trunkline:host;
            // Only what the host itself implements: config and WASI have implementations of their own.
            world handles {
                import wasi:logging/logging@0.1.0-draft;
                import trunkline:plugin/stdio@0.1.0;
                export trunkline:plugin/handler@0.1.0;
            }
        ",
        world: "trunkline:host/handles",
        exports: { default: async },
        // An event is lent to the guest's memory, not copied on the way.
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

use crate::Descriptor;
use crate::host::Host;
use trunkline_event::{Emission, Event, Failure};

/// The export that makes a component a plugin of this version.
pub(crate) const HANDLER: &str = "trunkline:plugin/handler@0.1.0";
const METADATA: &str = "trunkline:plugin/metadata@0.1.0";

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    stdio::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    logging::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

impl stdio::Host for Host {
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

impl logging::Host for Host {
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

/// `handle`, with what it takes and gives.
type Handle<'event> = TypedFunc<(wit::Event<'event>,), (Result<Vec<wit::Emission>, wit::Failure>,)>;

/// A component of this version, linked, with its exports looked up.
#[derive(Clone)]
pub(crate) struct Pre {
    pre: InstancePre<Host>,
    handle: ComponentExportIndex,
    /// Set once an instance had a `handle` of that type.
    fits: Arc<AtomicBool>,
    describes: Option<described::DescribesPre<Host>>,
}

impl Pre {
    pub(crate) fn new(pre: InstancePre<Host>) -> wasmtime::Result<Self> {
        let component = pre.component();
        let has_metadata = component.component_type().exports(pre.engine()).any(|(name, _)| name == METADATA);
        let describes = has_metadata.then(|| described::DescribesPre::new(pre.clone())).transpose()?;
        let handle = component
            .get_export_index(None, HANDLER)
            .and_then(|handler| component.get_export_index(Some(&handler), "handle"))
            .ok_or_else(|| wasmtime::format_err!("{HANDLER} has no `handle`"))?;
        Ok(Self { pre, handle, fits: Arc::default(), describes })
    }

    /// One call in a fresh instance. The outer error is a trap or a broken rule, the inner one the plugin's word.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<Host>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, Failure>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let handle = self.typed(&mut *store, &instance)?;
        let attributes = event.attributes.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>();
        let (answer,) = handle.call_async(&mut *store, (lower(event, &attributes),)).await?;
        Ok(answer.map(|emissions| emissions.into_iter().map(lift).collect()).map_err(lift_failure))
    }

    /// `handle` of an instance. Comparing the types of all fields is a fortieth of a small call, so only the first
    /// instance is asked for them.
    fn typed<'event>(&self, store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<Handle<'event>> {
        if !self.fits.load(Ordering::Relaxed) {
            let handle = instance.get_typed_func(&mut *store, self.handle)?;
            self.fits.store(true, Ordering::Relaxed);
            return Ok(handle);
        }
        let handle = instance.get_func(&mut *store, self.handle);
        let handle = handle.ok_or_else(|| wasmtime::format_err!("{HANDLER} has no `handle`"))?;
        #[expect(unsafe_code, reason = "types belong to the component, and another instance of it was checked")]
        // SAFETY: `fits` is only set when `get_typed_func` found this very type on the same component.
        Ok(unsafe { TypedFunc::new_unchecked(handle) })
    }

    /// What the plugin says of itself, if it does.
    pub(crate) async fn describe(&self, store: &mut Store<Host>) -> wasmtime::Result<Option<Descriptor>> {
        let Some(describes) = &self.describes else {
            return Ok(None);
        };
        let instance = describes.instantiate_async(&mut *store).await?;
        let said = instance.trunkline_plugin_metadata().call_describe(&mut *store).await?;
        Ok(Some(Descriptor {
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

fn lift_failure(failure: wit::Failure) -> Failure {
    match failure {
        wit::Failure::Retry(hint) => {
            Failure::Retry { reason: hint.reason, after: hint.after_ms.map(Duration::from_millis) }
        }
        wit::Failure::Reject(text) => Failure::Rejected(text),
    }
}
