//! Which crate may name which outside crate, and the order of the modules of the crate `daemon`.

use std::collections::BTreeMap;

use crate::source::{code, module, root, rust_files, sources, words_after};

/// The order of the modules of the crate `daemon`: each may import those that it names, so there are no circles. The order of
/// the crates is Cargo's.
const MAY_IMPORT: [(&str, &[&str]); 8] = [
    ("reload", &[]),
    ("publish", &[]),
    ("streams", &[]),
    ("routes", &["reload"]),
    ("plugins", &[]),
    ("daemon", &["plugins", "publish", "reload", "routes", "streams"]),
    ("scaffold", &[]),
    ("main", &["daemon", "plugins", "scaffold"]),
];

/// Outside crates that only these crates may name, and modules of the crate `daemon`.
const OWNERS: [(&str, &[&str]); 29] = [
    ("hmac", &["http", "event"]),
    ("utoipa", &["http"]),
    ("jsonschema", &["config"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("toml", &["config"]),
    ("wasmtime", &["plugin"]),
    ("wasmtime_wasi", &["plugin"]),
    ("wasmtime_wasi_http", &["plugin"]),
    ("hyper", &["plugin", "http"]),
    ("hyper_util", &["http"]),
    ("tokio_rustls", &["plugin", "route"]),
    ("rustls_native_certs", &["plugin"]),
    ("minisign_verify", &["plugin"]),
    ("lapin", &["broker"]),
    ("async_rs", &["broker"]),
    ("futures_io", &["broker"]),
    ("redb", &["broker", "state"]),
    ("axum", &["http"]),
    ("object_store", &["route"]),
    ("flate2", &["event", "route"]),
    ("utoipa_axum", &["http"]),
    ("utoipa_swagger_ui", &["http"]),
    ("notify", &["reload"]),
    ("wasi_preview1_component_adapter_provider", &["scaffold"]),
    ("wasmparser", &["scaffold", "plugin"]),
    ("wit_component", &["scaffold"]),
    ("wit_parser", &["scaffold"]),
    ("clap", &["main"]),
];

#[test]
fn modules_import_downwards_only() {
    let may: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    let mut bad = Vec::new();
    let mut seen = 0;
    for file in rust_files(&root().join("host/daemon/src")) {
        let module = module(&file);
        if module == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a file");
        for line in code(&text) {
            let prefix = if module == "main" { "trunkline::" } else { "crate::" };
            for imported in words_after(line, prefix) {
                let is_module = may.contains_key(imported);
                seen += usize::from(is_module);
                if is_module && imported != module && !may[module.as_str()].contains(&imported) {
                    bad.push(format!("{}: {module} imports {imported}", file.display()));
                }
            }
        }
    }
    assert!(seen > 10, "hardly any import was found ({seen}): the check itself is broken");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn outside_crates_have_one_owner() {
    let mut bad = Vec::new();
    for file in sources().iter().flat_map(|source| rust_files(source)) {
        let (module, text) = (module(&file), std::fs::read_to_string(&file).expect("a file"));
        for (outside, owners) in OWNERS {
            let names_it = code(&text).iter().any(|line| !words_after(line, &format!("{outside}::")).is_empty());
            if names_it && !owners.contains(&module.as_str()) {
                bad.push(format!("{}: only {} may name {outside}", file.display(), owners.join(" and ")));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
