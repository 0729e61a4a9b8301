//! `plugins.lock`: the allowed plugins, by content, with their grants.

use std::path::Path;
use std::process::Command;

use wasmparser::{CanonicalFunction, CanonicalOption, Parser, Payload};

use super::refusal;
use crate::bench::{Bench, binary};

const ROUTES: &str = r#"
plugin-dir = "plugins"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.echo]
from = "echo"
plugin = "echo"
[routes.keep]
from = "keep"
plugin = "keeper"
[plugins.keeper]
allow = { kv = true }
"#;

/// A custom section, which changes only the bytes of a component.
const SECTION: [u8; 5] = [0, 3, 1, b'x', 0];

fn bench() -> Bench {
    let bench = Bench::embedded();
    std::fs::create_dir(bench.path("plugins")).expect("a directory");
    for guest in ["echo", "keeper"] {
        put(&bench.path("plugins").join(format!("{guest}.wasm")), guest);
    }
    bench.write_routes(ROUTES);
    bench
}

fn put(to: &Path, guest: &str) {
    std::fs::copy(trunkline_support::guests().join(format!("{guest}.wasm")), to).expect("copied");
}

fn lock(bench: &Bench, check: bool) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.arg("lock").args(check.then_some("--check")).arg("--config").arg(bench.path("routes.toml"));
    let output = command.arg("--state").arg(bench.path("other")).output().expect("runs");
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), printed)
}

/// Imports that need the plugin's memory make every instance more expensive. The standard library imports a dozen of
/// them for the text of a panic.
#[test]
fn a_rust_plugin_imports_only_called_functions() {
    const OURS: [&str; 2] = ["trunkline:plugin/stdio@0.1.0", "trunkline:plugin/types@0.1.0"];
    const CONFIG: &str = "wasi:config/store@0.2.0-rc.1";
    let (plugins, guests) = (trunkline_support::plugins(), trunkline_support::guests());
    let cases: [(&Path, &str, &[&str]); 3] = [
        (plugins, "callback-task", &[]),
        (plugins, "sentiment-alert", &[CONFIG]),
        (guests, "teller", &[CONFIG, "wasi:logging/logging@0.1.0-draft"]),
    ];
    let bench = Bench::embedded();
    let entry = |(folder, name, _): &(&Path, &str, _)| {
        let file = folder.join(name).with_extension("wasm");
        format!(
            "[plugins.{name}]\nfile = \"{}\"\n[routes.{name}]\nfrom = \"{name}\"\nplugin = \"{name}\"\n",
            file.display()
        )
    };
    let head = "[defaults]\nexchange = { name = \"$P-events\", type = \"topic\" }\n";
    bench.write_routes(&(head.to_owned() + &cases.iter().map(entry).collect::<String>()));
    let (code, text) = lock(&bench, false);
    assert_eq!(code, Some(0), "{text}");
    let written = std::fs::read_to_string(bench.path("plugins.lock")).expect("written");
    for (_, name, imports) in cases {
        let line = format!("imports = {:?}", [&OURS, imports].concat());
        let of_plugin = written.split_once(&format!("name = \"{name}\"")).and_then(|(_, rest)| rest.split("[[").next());
        assert!(of_plugin.is_some_and(|lines| lines.lines().any(|found| found == line)), "{name}: {line}\n{written}");
    }
}

/// Decision 0072: the SDK has the exports that wit-bindgen generates, and those free their results.
#[test]
fn a_rust_plugin_frees_its_results() {
    let component = std::fs::read(trunkline_support::plugins().join("callback-task.wasm")).expect("a plugin");
    let (mut lifted, mut freed) = (0, 0);
    for payload in Parser::new(0).parse_all(&component) {
        let Payload::ComponentCanonicalSection(section) = payload.expect("a component") else { continue };
        for function in section {
            let CanonicalFunction::Lift { options, .. } = function.expect("a function") else { continue };
            lifted += 1;
            freed += options.iter().filter(|option| matches!(option, CanonicalOption::PostReturn(_))).count();
        }
    }
    assert_eq!((lifted, freed), (2, 2), "`handle` and `describe`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lists_the_allowed_plugins() {
    let bench = bench();
    let (code, text) = lock(&bench, true);
    assert!(code == Some(1) && text.contains("echo") && text.contains("trunkline lock"), "{code:?} {text}");
    assert!(!bench.path("plugins.lock").exists(), "--check writes nothing");
    let (code, text) = lock(&bench, false);
    assert_eq!(code, Some(0), "{text}");
    let written = std::fs::read_to_string(bench.path("plugins.lock")).expect("written");
    for part in
        ["name = \"keeper\"", "file = \"plugins/keeper.wasm\"", "wasi:keyvalue/store@0.2.0-draft2", "quota = 16777216"]
    {
        assert!(written.contains(part), "{part}: {written}");
    }
    assert_eq!(lock(&bench, true), (Some(0), lock(&bench, true).1));

    let daemon = bench.start(ROUTES).await;
    assert_eq!((refusal(&daemon, "echo"), refusal(&daemon, "keep")), (String::new(), String::new()));
    assert!(daemon.terminate().await.success());

    let mut changed = std::fs::read(bench.path("plugins/echo.wasm")).expect("a file");
    changed.extend(SECTION);
    std::fs::write(bench.path("plugins/echo.wasm"), changed).expect("a file");
    let more = ROUTES.replace("kv = true", "kv = { quota = \"1GiB\" }");
    let daemon = bench.start(&more).await;
    let (echo, keep) = (refusal(&daemon, "echo"), refusal(&daemon, "keep"));
    assert!(
        echo.contains("plugins.lock allows the plugin echo only with the digest")
            && echo.contains("run `trunkline lock`"),
        "{echo}"
    );
    assert!(keep.contains("the grants of the plugin keeper differ") && keep.contains("run `trunkline lock`"), "{keep}");
    assert!(daemon.terminate().await.success());
    let (code, text) = lock(&bench, true);
    assert!(code == Some(1) && text.contains("echo: the sha256") && text.contains("keeper: the grants"), "{text}");
    assert_eq!(lock(&bench, false).0, Some(0));
    assert_eq!(lock(&bench, true).0, Some(0));

    let third =
        more + "[routes.third]\nfrom = \"third\"\nplugin = \"third\"\n[plugins.third]\nfile = \"plugins/echo.wasm\"\n";
    let daemon = bench.start(&third).await;
    assert!(refusal(&daemon, "third").contains("plugin third is not in plugins.lock"), "{}", refusal(&daemon, "third"));
    assert!(daemon.terminate().await.success());
    let daemon = bench.start(&format!("locked = false\n{third}")).await;
    assert_eq!(refusal(&daemon, "third"), "", "unlocked on purpose");
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_wants_a_lock_that_can_be_read() {
    let bench = bench();
    let locked = format!("locked = true\n{ROUTES}");
    let daemon = bench.start(&locked).await;
    assert!(refusal(&daemon, "echo").contains("plugins.lock does not exist; write the file with `trunkline lock`"));
    assert!(daemon.terminate().await.success());
    std::fs::write(bench.path("plugins.lock"), "version = 1\nplugin = 7\n").expect("a file");
    let daemon = bench.start(ROUTES).await;
    assert!(refusal(&daemon, "keep").contains("plugins.lock is not a valid lock file"), "{}", refusal(&daemon, "keep"));
    assert_eq!(lock(&bench, false).0, Some(0), "a broken lock is written anew");
    assert_eq!(lock(&bench, true).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_belong_to_the_digest() {
    let bench = bench();
    let digest = "00".repeat(32);
    let daemon = bench.start(&ROUTES.replace("allow = { kv", &format!("digest = \"{digest}\"\nallow = {{ kv"))).await;
    let error = refusal(&daemon, "keep");
    assert!(error.contains("but `digest` in [plugins.NAME] is") && error.contains(&digest), "{error}");
    // A plugin that cannot be loaded cannot be locked, and then no lock is written.
    let (code, text) = lock(&bench, false);
    assert!(code == Some(1) && text.contains("keeper"), "{code:?} {text}");
    assert!(!bench.path("plugins.lock").exists());
}
