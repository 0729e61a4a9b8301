//! Grants and secrets of plugins.

use super::*;

const GRANTS: &str = r##"
require-signature = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
[exchanges.other]
type = "direct"
[plugins.p]
limits = { http-body = "1KiB" }
secrets = { TOKEN = { env = "P_TOKEN" }, GONE = { env = "NOT_SET" }, FILE = { file = "no/such/file" } }
[plugins.p.allow]
http = ["https://${HOST_OF_API}", "http://127.0.0.1:9000"]
private-networks = "127.0.0.0/8"
kv = { quota = "1MiB" }
emit = ["a.#", { exchange = "other", keys = ["b", "c"] }, { exchange = "" }]
[plugins.q.allow]
kv = { quota = "1KiB", keys = 5, total = "10KiB", tenants = 7 }
emit = []
[plugins.r]
require-signature = ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]
allow = { kv = false }
[routes]
p = { from = "x", plugin = "p", emit = { key = "a.{type}" } }
r = { from = "x", plugin = "r" }
s = { from = "x", plugin = "s" }
"##;

fn plugins() -> BTreeMap<PluginName, Plugin> {
    let loaded = loaded(GRANTS, |sources| {
        for (name, value) in [("HOST_OF_API", "api.example.com"), ("P_TOKEN", " hunter2 ")] {
            sources.environment.insert(name.to_owned(), value.to_owned());
        }
    });
    let codes = loaded.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>();
    assert_eq!(codes, [Code::UnusedPlugin.as_str()], "q is not used");
    loaded.config.plugins
}

#[test]
fn what_is_granted_is_what_is_written() {
    let plugins = plugins();
    let plugin = |name: &str| &plugins[&PluginName::new(name).expect("a name")];
    let allow = plugin("p").allow.written();
    assert_eq!(allow.http, ["https://api.example.com", "http://127.0.0.1:9000"]);
    assert_eq!(allow.private_networks, ["127.0.0.0/8"]);
    let kv = Quota { bytes: 1024 * 1024, keys: 100_000, total_bytes: 4 << 30, tenants: 100_000 };
    assert_eq!(plugin("p").allow.kv, Some(kv));
    let emit = allow.emit.expect("grants");
    let emit = emit.iter().map(|grant| format!("{}:{}", grant.exchange, grant.keys.join(","))).collect::<Vec<_>>();
    assert_eq!(emit, ["events:a.#", "other:b,c", ":#"]);
    assert_eq!(plugin("p").limits.http_body_max_bytes, 1024);
    assert_eq!(plugin("r").allow, Allow::default(), "`kv = false` grants nothing");
    for name in ["p", "r", "s"] {
        assert_eq!(plugin(name).signers.len(), 1, "{name}");
    }
}

#[test]
fn replies_need_a_grant_for_the_nameless_exchange() {
    let source = |exchange: &str| {
        format!(
            "[exchanges.other]\n[plugins.p.allow]\nemit = [\"#\", {{ exchange = \"{exchange}\", keys = \"amq.#\" }}]\n\
             [routes.r]\nfrom = \"x\"\nplugin = \"p\"\nemit = {{ reply = true }}\n"
        )
    };
    assert!(check(&source(""), &sources("/etc/trunkline/routes.toml")).is_ok());
    let Err(rejected) = check(&source("other"), &sources("/etc/trunkline/routes.toml")) else {
        panic!("the grant is missing")
    };
    let found = rejected.diagnostics.iter().map(|found| found.code).collect::<Vec<_>>();
    assert_eq!(found, [Code::EmitGrant.as_str()]);
    assert!(rejected.diagnostics[0].message.contains("publishes replies"), "{}", rejected.render(false));
}

#[test]
fn secrets_are_read_or_the_reason_is_kept() {
    let plugins = plugins();
    let secrets = &plugins[&PluginName::new("p").expect("a name")].secrets;
    assert_eq!(secrets["TOKEN"].as_ref().expect("it is set").expose(), "hunter2", "white space is taken off");
    assert_eq!(secrets["GONE"], Err("the environment variable NOT_SET is not set".to_owned()));
    let missing = secrets["FILE"].as_ref().expect_err("no file");
    assert!(missing.starts_with("the file /etc/trunkline/no/such/file cannot be read"), "{missing}");
    assert!(!format!("{plugins:?}").contains("hunter2"), "Debug hides them");
}
