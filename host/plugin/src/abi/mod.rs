//! The interfaces that a plugin may export, one module a version. A component must match exactly one; old plugins go
//! on working beside new ones.

mod kv;
pub(super) mod messaging;
pub(super) mod v0_1;

use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker};

use super::descriptor::Descriptor;
use super::host::Host;
use super::http;
use trunkline_config::Allow;
use trunkline_event::{Emission, Event, Failure};

/// The interface that a component is called through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    V0_1,
    Messaging,
}

impl Interface {
    const ALL: [Self; 2] = [Self::V0_1, Self::Messaging];

    /// The name of its handler, which is what tells the interfaces apart.
    pub(super) fn handler(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::HANDLER,
            Self::Messaging => messaging::HANDLER,
        }
    }

    /// What it grants beside [`GRANTED`].
    fn granted(self) -> &'static [&'static str] {
        match self {
            // Types shared with our own interface are imports as well.
            Self::V0_1 => &["trunkline:plugin/types@"],
            Self::Messaging => &messaging::GRANTED,
        }
    }

    /// The one whose handler is among these exports.
    fn of(exports: &[String]) -> Result<Self, Mismatch> {
        let mut found =
            Self::ALL.into_iter().filter(|interface| exports.iter().any(|name| name == interface.handler()));
        match (found.next(), found.next()) {
            (Some(interface), None) => Ok(interface),
            (Some(one), Some(other)) => Err(Mismatch::Several(one, other)),
            (None, _) => Err(Mismatch::None(exports.to_vec())),
        }
    }
}

/// Why no one interface fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// It exports other things, or nothing.
    None(Vec<String>),
    /// It exports the handlers of two: which of them to call would be a guess.
    Several(Interface, Interface),
}

/// A component, linked, with the exports of its interface looked up.
#[derive(Clone)]
pub(super) enum Pre {
    V0_1(v0_1::Pre),
    Messaging(messaging::Pre),
}

impl Pre {
    pub(super) fn new(interface: Interface, pre: InstancePre<Host>) -> wasmtime::Result<Self> {
        Ok(match interface {
            Interface::V0_1 => Self::V0_1(v0_1::Pre::new(pre)?),
            Interface::Messaging => Self::Messaging(messaging::Pre::new(pre)?),
        })
    }

    /// One call in a fresh instance. The outer error is a trap or a broken rule, the inner one the plugin's word.
    pub(super) async fn handle(
        &self,
        store: &mut Store<Host>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, Failure>> {
        match self {
            Self::V0_1(pre) => pre.handle(store, event).await,
            Self::Messaging(pre) => pre.handle(store, event).await,
        }
    }

    /// What the plugin says of itself, if its interface lets it.
    pub(super) async fn describe(&self, store: &mut Store<Host>) -> wasmtime::Result<Option<Descriptor>> {
        match self {
            Self::V0_1(pre) => pre.describe(store).await,
            Self::Messaging(_) => Ok(None),
        }
    }
}

/// Interfaces that every plugin gets, by the part of the name before the version. WASI's own parts are what each
/// language's library imports by itself; behind them are no files, sockets, arguments or environment. Sockets are among
/// them because Python's runtime imports them in every component: whoever opens one is told `access-denied`. Printing of
/// ours is what the Rust SDK has for `wasi:cli/stdout`, whatever interface the component is called through.
const GRANTED: [&str; 8] = [
    "trunkline:plugin/stdio@",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:config/store",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Interfaces that a key grants, with that key and how it is written.
const GRANTABLE: [(&str, Grant); 5] = [
    ("wasi:http/outgoing-handler@", Grant::Http),
    ("wasi:http/types@", Grant::Http),
    ("wasi:keyvalue/store@", Grant::Kv),
    ("wasi:keyvalue/atomics@", Grant::Kv),
    ("wasi:keyvalue/batch@", Grant::Kv),
];

#[derive(Clone, Copy)]
enum Grant {
    Http,
    Kv,
}

impl Grant {
    fn is_given(self, allow: &Allow) -> bool {
        match self {
            Self::Http => !allow.http.is_empty(),
            Self::Kv => allow.kv.is_some(),
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Http => "`allow.http`: write `allow.http = [\"https://HOST\"]`",
            Self::Kv => "`allow.kv`: write `allow.kv = true`",
        }
    }
}

/// Puts everything that is granted to every plugin into the linker.
pub(super) fn link_host(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |host: &mut Host| (&host.grants.config).into())?;
    v0_1::link(linker)?;
    messaging::link(linker)
}

/// The linker of one plugin: what everybody gets, and what its grants add. Anything else is not there to be called.
pub(super) fn granted(base: &Linker<Host>, allow: &Allow) -> wasmtime::Result<Linker<Host>> {
    let mut linker = base.clone();
    if Grant::Http.is_given(allow) {
        http::link(&mut linker)?;
    }
    if Grant::Kv.is_given(allow) {
        kv::link(&mut linker)?;
    }
    Ok(linker)
}

/// The names of what a component imports.
pub(super) fn imports(component: &Component, engine: &wasmtime::Engine) -> Vec<String> {
    let kind = component.component_type();
    let mut names = kind.imports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    names.sort();
    names
}

/// The imports that nobody grants, each with what to do about it.
pub(super) fn refused_imports(
    component: &Component,
    engine: &wasmtime::Engine,
    interface: Interface,
    allow: &Allow,
) -> Vec<String> {
    imports(component, engine).iter().filter_map(|name| refusal(name, interface, allow)).collect()
}

fn refusal(name: &str, interface: Interface, allow: &Allow) -> Option<String> {
    let mut granted = GRANTED.iter().chain(interface.granted());
    if name.starts_with("wasi:logging/logging@") || granted.any(|granted| name.starts_with(granted)) {
        return None;
    }
    let grant = GRANTABLE.iter().find(|(prefix, _)| name.starts_with(prefix));
    match grant {
        Some((_, grant)) if grant.is_given(allow) => None,
        Some((_, grant)) => Some(format!("{name} (granted by {} in [plugins.NAME])", grant.key())),
        None => Some(format!("{name} (no key grants it)")),
    }
}

/// The one interface that a component exports a handler of.
pub(super) fn interface(component: &Component, engine: &wasmtime::Engine) -> Result<Interface, Mismatch> {
    let kind = component.component_type();
    Interface::of(&kind.exports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::Origin;

    #[test]
    fn a_plugin_gets_no_network_and_no_state_unasked() {
        for granted in ["wasi:cli/stderr@0.2.6", "wasi:logging/logging@0.1.0-draft", "trunkline:plugin/types@0.1.0"] {
            assert_eq!(refusal(granted, Interface::V0_1, &Allow::default()), None, "{granted}");
        }
        for granted in ["wasi:messaging/producer@0.2.0-draft", "trunkline:plugin/stdio@0.1.0"] {
            assert_eq!(refusal(granted, Interface::Messaging, &Allow::default()), None, "{granted}");
        }
        let http = Allow { http: vec![Origin::parse("https://a.example").expect("an origin")], ..Allow::default() };
        assert_eq!(refusal("wasi:http/outgoing-handler@0.2.4", Interface::V0_1, &http), None);
        assert!(refusal("wasi:keyvalue/store@0.2.0-draft2", Interface::V0_1, &http).is_some(), "one is not the other");
        assert!(refusal("wasi:http/incoming-handler@0.2.4", Interface::V0_1, &http).is_some());
        for (name, word) in [
            ("wasi:http/outgoing-handler@0.2.4", "allow.http"),
            ("wasi:keyvalue/store@0.2.0-draft2", "allow.kv"),
            ("wasi:messaging/producer@0.2.0-draft", "no key"),
            ("acme:thing/api@1.0.0", "no key"),
        ] {
            assert!(refusal(name, Interface::V0_1, &Allow::default()).expect(name).contains(word), "{name}");
        }
        assert!(refusal("wasi:messaging/request-reply@0.2.0-draft", Interface::Messaging, &Allow::default()).is_some());
    }

    #[test]
    fn a_component_matches_exactly_one_interface() {
        let exports = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (ours, theirs) = (v0_1::HANDLER, messaging::HANDLER);
        assert_eq!(Interface::of(&exports(&["trunkline:plugin/metadata@0.1.0", ours])), Ok(Interface::V0_1));
        assert_eq!(Interface::of(&exports(&[theirs])), Ok(Interface::Messaging));
        let both = Mismatch::Several(Interface::V0_1, Interface::Messaging);
        assert_eq!(Interface::of(&exports(&[theirs, ours])), Err(both));
        assert_eq!(Interface::of(&[]), Err(Mismatch::None(Vec::new())));
    }
}
