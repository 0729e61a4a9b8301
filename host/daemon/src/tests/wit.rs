//! docs/reference/wit.md against the folder wit.

use std::fmt::Write;

use super::page;

/// A file of WIT, with a text for each of its interfaces and worlds.
struct WitFile {
    path: &'static str,
    parts: &'static [(&'static str, &'static str)],
}

const FILES: [WitFile; 7] = [
    WitFile {
        path: "plugin-v0.1/world.wit",
        parts: &[
            (
                "world plugin",
                "The world of a component that exports `handler`. The imports of `wasi:keyvalue` need the grant `kv` in routes.toml.",
            ),
            ("world described-plugin", "The world of a component that also exports its descriptor."),
            (
                "world rust-plugin",
                "The world of a component that is built with the Rust SDK. The component prints through the interface `stdio`.",
            ),
        ],
    },
    WitFile {
        path: "plugin-v0.1/types.wit",
        parts: &[
            (
                "interface types",
                "The types that the other interfaces use: events, emissions, failures and descriptors.",
            ),
            ("interface handler", "The function that the host calls for each event."),
            ("interface metadata", "The function that returns the descriptor of the plugin."),
        ],
    },
    WitFile {
        path: "plugin-v0.1/stdio.wit",
        parts: &[(
            "interface stdio",
            "The function with which the Rust SDK prints without WASI. The daemon writes the printed lines to the log of the plugin.",
        )],
    },
    WitFile {
        path: "plugin-v0.1/deps/config/store.wit",
        parts: &[(
            "interface store",
            "The functions with which a plugin reads `config` and `secrets` of `[plugins.NAME]`.",
        )],
    },
    WitFile {
        path: "plugin-v0.1/deps/keyvalue/keyvalue.wit",
        parts: &[
            (
                "interface store",
                "The functions with which a plugin reads and writes its state. The state of each tenant is separate. This interface needs the grant `kv`.",
            ),
            (
                "interface atomics",
                "The functions for counters and for compare-and-swap on the state of a plugin. This interface needs the grant `kv`.",
            ),
            (
                "interface batch",
                "The functions that read, write or delete several keys in one call. This interface needs the grant `kv`.",
            ),
        ],
    },
    WitFile {
        path: "plugin-v0.1/deps/logging/logging.wit",
        parts: &[(
            "interface logging",
            "The function that writes a line to the plugin's log, with a level and a context.",
        )],
    },
    WitFile {
        path: "wasi-messaging-0.2.0-draft/messaging.wit",
        parts: &[
            ("interface types", "The types of `wasi:messaging`, such as messages, topics and errors."),
            ("interface producer", "The function that sends a message. Each sent message becomes an emission."),
            ("interface incoming-handler", "The function that the host calls for each event."),
            ("world messaging-core", "The world of a component of `wasi:messaging` that runs as a plugin."),
        ],
    },
];

/// The source of an interface or a world, without comments.
fn source(text: &str, part: &str) -> String {
    let begin = text.find(&format!("\n{part} {{")).unwrap_or_else(|| panic!("{part} is missing")) + 1;
    let end = text[begin..].find("\n}").expect("the end of the part") + begin + 2;
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text[begin..end].lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_page_lists_every_interface() {
    let mut page = "# Plugin interface\n\n\
        A plugin is a component of one of these worlds. A released folder below `wit/` never changes. A new version gets a new\n\
        folder. A test compares this page with `wit/`.\n"
        .to_owned();
    for WitFile { path, parts } in FILES {
        let text = std::fs::read_to_string(page::root().join("wit").join(path)).expect("a file");
        let package = text.lines().find_map(|line| line.strip_prefix("package ")).expect("a package");
        write!(page, "\n## `{}` in `wit/{path}`\n", package.trim_end_matches(';')).expect("a string");
        let is_part = |line: &&str| line.starts_with("interface ") || line.starts_with("world ");
        let known: Vec<&str> = text.lines().filter(is_part).map(|line| line.trim_end_matches(" {")).collect();
        assert_eq!(parts.iter().map(|(part, _)| *part).collect::<Vec<_>>(), known, "{path}");
        for (part, meaning) in parts {
            write!(page, "\n### {part}\n\n{meaning}\n\n```wit\n{}\n```\n", source(&text, part)).expect("a string");
        }
    }
    page::compare("wit.md", &page);
}
