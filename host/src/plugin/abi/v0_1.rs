//! `trunkline:plugin@0.1.0`: the generated types, and nothing but conversion between them and ours.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/plugin-v0.1",
        inline: "
            package trunkline:host;
            // Only what the host itself implements: config and WASI have implementations of their own.
            world handles {
                import wasi:logging/logging@0.1.0-draft;
                export trunkline:plugin/handler@0.1.0;
            }
        ",
        world: "trunkline:host/handles",
        exports: { default: async },
    });
}

mod described {
    wasmtime::component::bindgen!({
        path: "../wit/plugin-v0.1",
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

use std::time::Duration;

use bindings::exports::trunkline::plugin::handler as wit;
use bindings::wasi::logging::logging::{self, Level};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::event::{Emission, Event, Failure};
use crate::plugin::Descriptor;
use crate::plugin::host::Host;

/// The export that makes a component a plugin of this version.
pub(in crate::plugin) const HANDLER: &str = "trunkline:plugin/handler@0.1.0";
const METADATA: &str = "trunkline:plugin/metadata@0.1.0";

pub(super) fn link_logging(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    logging::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
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

/// A component of this version, linked, with its exports looked up.
#[derive(Clone)]
pub(in crate::plugin) struct Pre {
    handler: bindings::HandlesPre<Host>,
    describes: Option<described::DescribesPre<Host>>,
}

impl Pre {
    pub(in crate::plugin) fn new(pre: InstancePre<Host>) -> wasmtime::Result<Self> {
        let engine = pre.engine().clone();
        let has_metadata = pre.component().component_type().exports(&engine).any(|(name, _)| name == METADATA);
        let describes = has_metadata.then(|| described::DescribesPre::new(pre.clone())).transpose()?;
        Ok(Self { handler: bindings::HandlesPre::new(pre)?, describes })
    }

    /// One call in a fresh instance. The outer error is a trap or a broken rule, the inner one the plugin's word.
    pub(in crate::plugin) async fn handle(
        &self,
        store: &mut Store<Host>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, Failure>> {
        let instance = self.handler.instantiate_async(&mut *store).await?;
        let answer = instance.trunkline_plugin_handler().call_handle(&mut *store, &lower(event)).await?;
        Ok(answer.map(|emissions| emissions.into_iter().map(lift).collect()).map_err(lift_failure))
    }

    /// What the plugin says of itself, if it does.
    pub(in crate::plugin) async fn describe(&self, store: &mut Store<Host>) -> wasmtime::Result<Option<Descriptor>> {
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

fn lower(event: &Event) -> wit::Event {
    wit::Event {
        id: event.id.clone(),
        source: event.source.clone(),
        type_: event.kind.clone(),
        subject: event.subject.clone(),
        time: event.time.clone(),
        content_type: event.content_type.clone(),
        data: event.data.to_vec(),
        routing_key: event.routing_key.clone(),
        exchange: event.exchange.clone(),
        tenant: event.tenant.clone(),
        user: event.user.clone(),
        attempt: event.attempt,
        attributes: event.attributes.clone(),
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
