//! The plugin interface, one module a released version. A component must match exactly one; old plugins go on working
//! beside new ones.

pub(super) mod v0_1;

use wasmtime::component::{Component, Linker};

use super::host::Host;

/// Interfaces that every plugin gets, by the part of the name before the version. WASI's own parts are what each
/// language's library imports by itself; behind them are no files, sockets, arguments or environment. Sockets are among
/// them because Python's runtime imports them in every component: whoever opens one is told `access-denied`.
const GRANTED: [&str; 7] =
    ["wasi:cli/", "wasi:clocks/", "wasi:config/store", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Interfaces that exist in the contract but are not granted by this version, with the key that will grant them.
const GRANTABLE: [(&str, &str); 2] = [("wasi:http/", "allow.http"), ("wasi:keyvalue/", "allow.kv")];

/// Puts everything that is granted to every plugin into the linker.
pub(super) fn link_host(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |host: &mut Host| (&*host.config).into())?;
    v0_1::link_logging(linker)
}

/// The imports that nobody grants, each with what to do about it.
pub(super) fn refused_imports(component: &Component, engine: &wasmtime::Engine) -> Vec<String> {
    let kind = component.component_type();
    let names = kind.imports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    names.iter().filter_map(|name| refusal(name)).collect()
}

fn refusal(name: &str) -> Option<String> {
    if name.starts_with("wasi:logging/logging@") || GRANTED.iter().any(|granted| name.starts_with(granted)) {
        return None;
    }
    // Types shared with our own interface are imports as well.
    if name.starts_with("trunkline:plugin/types@") {
        return None;
    }
    let grant = GRANTABLE.iter().find(|(prefix, _)| name.starts_with(prefix));
    Some(match grant {
        Some((_, key)) => format!("{name} (granted by `{key}`, which this version does not carry out)"),
        None => format!("{name} (no key grants it)"),
    })
}

/// The interface version that a component exports a handler of.
pub(super) fn handler_version(component: &Component, engine: &wasmtime::Engine) -> Result<(), Vec<String>> {
    let kind = component.component_type();
    let names = kind.exports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    if names.iter().any(|name| name == v0_1::HANDLER) { Ok(()) } else { Err(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_no_network_and_no_state_unasked() {
        for granted in ["wasi:cli/stderr@0.2.6", "wasi:logging/logging@0.1.0-draft", "trunkline:plugin/types@0.1.0"] {
            assert_eq!(refusal(granted), None, "{granted}");
        }
        for (name, word) in [
            ("wasi:http/outgoing-handler@0.2.4", "allow.http"),
            ("wasi:keyvalue/store@0.2.0-draft2", "allow.kv"),
            ("acme:thing/api@1.0.0", "no key"),
        ] {
            assert!(refusal(name).expect(name).contains(word), "{name}");
        }
    }
}
