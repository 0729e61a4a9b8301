//! The table of keys: it agrees with the parser in both directions, and its defaults are those of the checks.

use super::*;
use crate::keys::http::{hook, listener};
use crate::keys::routes::{archive, flow, route};
use crate::keys::section::Section;
use crate::keys::table::sections;
use crate::model::http::sender::SENDER_STATUS;
use crate::quantity::show_duration;

/// A directory with the files that examples name.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let certificate = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\na2V5\n-----END PRIVATE KEY-----\n";
    std::fs::create_dir(directory.path().join("schemas")).expect("a directory");
    for (name, content) in
        [("ca.pem", certificate), ("client.pem", certificate), ("client.key", key), ("schemas/call-ended.json", "{}")]
    {
        std::fs::write(directory.path().join(name), content).expect("writable");
    }
    directory
}

fn checked(source: &str, directory: &Path) -> Result<Loaded, Rejected> {
    let names = [
        "RABBITMQ_PASSWORD",
        "TRUNKLINE_TOKEN",
        "CRM_API_KEY",
        "S3_KEY",
        "S3_SECRET",
        "HOOK_TOKEN",
        "GITHUB_SECRET",
        "META_APP_SECRET",
        "META_VERIFY_TOKEN",
    ];
    let mut sources = sources("");
    sources.file = directory.join("routes.toml");
    sources.environment.extend(names.map(|name| (name.to_owned(), "0123456789abcdef".to_owned())));
    check(source, &sources)
}

/// The table of a section in its example.
fn table<'t>(top: &'t mut toml::Table, section: &Section) -> &'t mut toml::Table {
    let mut table = top;
    for part in section.path {
        let part = if *part == "*" { table.keys().next().expect("a name").clone() } else { (*part).to_owned() };
        let value = table.get_mut(&part).unwrap_or_else(|| panic!("{}: the example has no {part}", section.title));
        table = value.as_table_mut().unwrap_or_else(|| panic!("{}: {part} is no table", section.title));
    }
    table
}

/// Reading a key that the section does not have is a panic in this build, so the examples also prove that the parser reads
/// keys of the table only.
#[test]
fn every_example_is_a_good_file() {
    let directory = directory();
    for section in sections() {
        let loaded = checked(section.example, directory.path())
            .unwrap_or_else(|rejected| panic!("{}\n{}", section.title, rejected.render(false)));
        let unmeant = loaded.warnings.iter().filter(|warning| warning.code != Code::Nothing.as_str()).count();
        assert_eq!(unmeant, 0, "{}\n{}", section.title, render(&loaded.warnings, false));
    }
}

/// No key takes a date, so the parser complains about every key that it reads.
#[test]
fn every_key_of_the_table_is_read() {
    let directory = directory();
    let date: toml::Value = "1979-05-27".parse::<toml::value::Datetime>().expect("a date").into();
    for section in sections() {
        for key in section.names() {
            let mut top: toml::Table = section.example.parse().expect(section.title);
            table(&mut top, section).insert(key.to_owned(), date.clone());
            let source = toml::to_string(&top).expect("it has a form");
            let Err(rejected) = checked(&source, directory.path()) else {
                panic!("{} does not read `{key}`:\n{source}", section.title)
            };
            let wanted = format!("`{key}` must be ");
            let is_read = rejected
                .diagnostics
                .iter()
                .any(|found| found.code == Code::WrongType.as_str() && found.message.starts_with(&wanted));
            assert!(is_read, "{} does not read `{key}`:\n{}", section.title, rejected.render(false));
        }
    }
}

#[test]
fn every_key_of_the_source_is_listed() {
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys")];
    let mut written = 0;
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(path).expect("readable");
        written +=
            text.lines().filter(|line| line.starts_with("pub(crate) static ") && line.contains(": Key<")).count();
    }
    let listed = sections().flat_map(|section| section.listed()).map(|key| std::ptr::from_ref(key).cast::<()>());
    assert_eq!(listed.collect::<BTreeSet<_>>().len(), written, "a key of the source is in no section");
}

#[test]
fn keys_are_described() {
    let keys = keys();
    assert!(keys.len() > 150, "{}", keys.len());
    for key in &keys {
        let name = format!("{} `{}`", key.section, key.name);
        assert!(key.about.ends_with('.') && key.about.len() > 10, "{name} has no sentence");
        assert!(key.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name} is in kebab-case");
        assert!(!(key.required && key.default.is_some()), "{name} has a default and is required");
    }
}

fn default(section: &str, name: &str) -> String {
    let found = keys().into_iter().find(|key| key.section == section && key.name == name);
    let found = found.unwrap_or_else(|| panic!("{section} has no {name}"));
    found.default.or(found.note.map(str::to_owned)).unwrap_or_else(|| panic!("{section} {name} has no default"))
}

#[test]
fn defaults_are_those_of_a_checked_file() {
    let config = config(&format!(
        "{SMALLEST}circuit = {{}}\ndedupe = \"1m\"\ntenant = {{}}\nshadow = {{ plugin = \"s\" }}\n\
         [routes.kept]\nfrom = \"b\"\narchive = {{ dir = \"a\" }}\n\
         [plugins.callback-task]\nallow = {{ kv = true }}\n[hooks.h]\n[exchanges.e]\n"
    ));
    let (one, kept) = (route(&config, "callback-tasks"), route(&config, "kept"));
    let queue = queue(&config, "callback-tasks");
    let plugin = &config.plugins["callback-task"];
    let (kv, circuit) = (plugin.allow.kv.expect("granted"), one.circuit.expect("a circuit breaker"));
    let size = crate::quantity::show_size;
    let quoted = |text: String| format!("\"{text}\"");
    let Handler::Archive(archive) = &kept.handler else { panic!("an archive") };
    for (section, name, used) in [
        ("[routes.NAME]", "concurrency", one.concurrency.to_string()),
        ("[routes.NAME]", "max-hops", one.hops_max.to_string()),
        ("[routes.NAME]", "max-body", quoted(size(one.body_max_bytes as u64))),
        ("`emit` of [routes.NAME]", "key", quoted(one.emit.key.clone())),
        ("`emit` of [routes.NAME]", "reply", one.emit.reply.to_string()),
        ("`retry` of [routes.NAME]", "max", one.retry.max.to_string()),
        ("`retry` of [routes.NAME]", "delay", quoted(show_duration(one.retry.steps[0].delay))),
        ("`dedupe` of [routes.NAME]", "max", one.dedupe.expect("a window").max.to_string()),
        ("`circuit` of [routes.NAME]", "failures", circuit.failures.to_string()),
        ("`circuit` of [routes.NAME]", "window", quoted(show_duration(circuit.window))),
        ("`circuit` of [routes.NAME]", "pause", quoted(show_duration(circuit.pause))),
        ("`shadow` of [routes.NAME]", "sample", (one.shadow.as_ref().expect("a shadow").share / 100).to_string()),
        ("`archive` of [routes.NAME]", "max-file", quoted(size(archive.file_max_bytes))),
        ("[queues.NAME]", "prefetch", queue.prefetch.to_string()),
        ("[queues.NAME]", "delivery-limit", queue.delivery_limit.expect("a limit").to_string()),
        ("`limits` of [plugins.NAME]", "memory", quoted(size(plugin.limits.memory_max_bytes))),
        ("`limits` of [plugins.NAME]", "timeout", quoted(show_duration(plugin.limits.timeout))),
        ("`limits` of [plugins.NAME]", "emissions", plugin.limits.emissions_max.to_string()),
        ("`limits` of [plugins.NAME]", "output", quoted(size(plugin.limits.output_max_bytes))),
        ("`limits` of [plugins.NAME]", "log", quoted(size(plugin.limits.log_max_bytes))),
        ("`limits` of [plugins.NAME]", "http-body", quoted(size(plugin.limits.http_body_max_bytes))),
        ("`allow.kv` of [plugins.NAME]", "quota", quoted(size(kv.bytes))),
        ("`allow.kv` of [plugins.NAME]", "keys", kv.keys.to_string()),
        ("`allow.kv` of [plugins.NAME]", "total", quoted(size(kv.total_bytes))),
        ("`allow.kv` of [plugins.NAME]", "tenants", kv.tenants.to_string()),
        ("[http]", "listen", quoted(config.http.listen.to_string())),
        ("[http]", "max-body", quoted(size(config.http.max_body_bytes as u64))),
        ("[http]", "reserved", config.http.reserved.to_string()),
        ("[exchanges.NAME]", "type", quoted(config.topology.exchanges["e"].kind.as_str().to_owned())),
        ("[exchanges.NAME]", "owned", config.topology.exchanges["e"].owned.to_string()),
        ("`exchange` of [defaults]", "name", quoted(config.default_exchange.to_string())),
    ] {
        assert_eq!(default(section, name), used, "{section} {name}");
    }
    assert_eq!((queue.kind, queue.overflow), (Some(QueueKind::Quorum), Overflow::DropHead));
    assert_eq!((config.topology.mode, config.hooks["h"].codec), (TopologyMode::Declare, Codec::Raw));
    assert_eq!((one.tenant.as_ref().map(|tenant| &tenant.by), archive.wait), (Some(&OrderBy::Tenant), Duration::ZERO));
    assert_eq!((config.http.dedupe.window, config.hooks["h"].status), (listener::DEDUPE_DEFAULT, hook::STATUS_DEFAULT));
    assert_eq!((kept.concurrency, config.http.dedupe.max), (route::ARCHIVE_CONCURRENCY, flow::IDS.fallback()));
}

/// Defaults that depend on something stand in words, with the numbers of the code.
#[test]
fn defaults_in_words_have_the_numbers_of_the_code() {
    let note = |section: &str, name: &str| {
        let found = keys().into_iter().find(|key| key.section == section && key.name == name);
        found.and_then(|key| key.note).expect("a note")
    };
    assert!(note("[routes.NAME]", "concurrency").starts_with(&route::ARCHIVE_CONCURRENCY.to_string()));
    assert!(note("`archive` of [routes.NAME]", "wait").contains(&show_duration(archive::OBJECTS_WAIT)));
    assert!(note("[http]", "dedupe").contains(&show_duration(listener::DEDUPE_DEFAULT)));
    let status = note("[hooks.NAME]", "status");
    assert!(status.contains(&hook::STATUS_DEFAULT.to_string()) && status.contains(&SENDER_STATUS.to_string()));
}

/// `TRUNKLINE_WRITE_REFERENCE=1` writes the pages anew.
#[test]
fn the_reference_pages_are_those_of_the_code() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    for (name, page) in [("routes-toml.md", reference()), ("diagnostics.md", diagnostics_reference())] {
        let path = pages.join(name);
        if std::env::var_os("TRUNKLINE_WRITE_REFERENCE").is_some() {
            std::fs::create_dir_all(&pages).expect("a directory");
            std::fs::write(&path, &page).expect("writable");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "{} is old; TRUNKLINE_WRITE_REFERENCE=1 writes it anew", path.display());
    }
}
