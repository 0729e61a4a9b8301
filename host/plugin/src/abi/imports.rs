//! Imports of plugins: the interfaces that every plugin gets, and those that a capability grants.

use wasmtime::component::{Component, Linker};

use super::interface::Interface;
use super::{kv, messaging, v0_1};
use crate::call::call_data::CallData;
use crate::http::link as http;
use trunkline_config::Allow;

/// Interfaces that every plugin gets, by the part of the name before the version. The library of each language imports
/// WASI's parts by itself; the host's side has no files, sockets, arguments or environment. Python's runtime imports
/// sockets in every component; opening one gives `access-denied`. The Rust SDK prints through `trunkline:plugin/stdio`
/// instead of `wasi:cli/stdout`, whatever interface the component is called through.
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

/// Interfaces that a capability grants.
const GRANTABLE: [(&str, Capability); 5] = [
    ("wasi:http/outgoing-handler@", Capability::Http),
    ("wasi:http/types@", Capability::Http),
    ("wasi:keyvalue/store@", Capability::Kv),
    ("wasi:keyvalue/atomics@", Capability::Kv),
    ("wasi:keyvalue/batch@", Capability::Kv),
];

/// A capability of `[plugins.NAME.allow]`.
#[derive(Clone, Copy)]
enum Capability {
    Http,
    Kv,
}

impl Capability {
    fn is_granted(self, allow: &Allow) -> bool {
        match self {
            Self::Http => !allow.http.is_empty(),
            Self::Kv => allow.kv.is_some(),
        }
    }

    /// The key of routes.toml, and how to write it.
    fn key(self) -> &'static str {
        match self {
            Self::Http => "`allow.http`: write `allow.http = [\"https://HOST\"]`",
            Self::Kv => "`allow.kv`: write `allow.kv = true`",
        }
    }
}

/// Links the interfaces that every plugin gets.
pub(crate) fn link_for_every_plugin(linker: &mut Linker<CallData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |host: &mut CallData| (&host.grants.config).into())?;
    v0_1::link(linker)?;
    messaging::link(linker)
}

/// The linker of one plugin: `base` with the interfaces of its capabilities. No other interface can be called.
pub(crate) fn granted(base: &Linker<CallData>, allow: &Allow) -> wasmtime::Result<Linker<CallData>> {
    let mut linker = base.clone();
    if Capability::Http.is_granted(allow) {
        http::link(&mut linker)?;
    }
    if Capability::Kv.is_granted(allow) {
        kv::link(&mut linker)?;
    }
    Ok(linker)
}

/// The names of a component's imports, sorted.
pub(crate) fn names(component: &Component, engine: &wasmtime::Engine) -> Vec<String> {
    let kind = component.component_type();
    let mut names = kind.imports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    names.sort();
    names
}

/// The imports that are not granted, each with the key that grants it.
pub(crate) fn refused(
    component: &Component,
    engine: &wasmtime::Engine,
    interface: Interface,
    allow: &Allow,
) -> Vec<String> {
    names(component, engine).iter().filter_map(|name| refusal(name, interface, allow)).collect()
}

fn refusal(name: &str, interface: Interface, allow: &Allow) -> Option<String> {
    let mut granted = GRANTED.iter().chain(interface.granted_imports());
    if name.starts_with("wasi:logging/logging@") || granted.any(|granted| name.starts_with(granted)) {
        return None;
    }
    let capability = GRANTABLE.iter().find(|(prefix, _)| name.starts_with(prefix));
    match capability {
        Some((_, capability)) if capability.is_granted(allow) => None,
        Some((_, capability)) => Some(format!("{name} (granted by {} in [plugins.NAME])", capability.key())),
        None => Some(format!("{name} (no key grants this import)")),
    }
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
}
