//! C4 and C7: a secret reaches its plugin and appears nowhere else. A missing secret holds only its plugin down.

use std::process::{Command, Output};

use serde_json::json;
use trunkline_event::Message;

use super::{publish, refusal};
use crate::bench::{Bench, binary, drain};

const SECRET: &str = "hunter2-\"quoted\"-canary";
const KEY_FILE: &str = "-----BEGIN CANARY KEY-----\nMIIcanaryCANARYcanary0123\n-----END CANARY KEY-----\n";
/// Texts that must not appear anywhere: parts of the secrets, so that every form of them is found.
const CANARIES: [&str; 4] = ["hunter2", "-canary", "MIIcanary", "canary0123"];

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
retry = { max = 1, delay = "50ms" }
[routes.$P-tell]
from = "tell"
plugin = "teller"
emit = { key = "k.{type}", types = ["told"] }
[plugins.teller]
secrets = { TOKEN = { env = "TELLER_TOKEN" }, KEY = { file = "key.pem" } }
allow = { emit = "k.told" }
"#;

fn canary_in(text: &str) -> Option<&'static str> {
    CANARIES.into_iter().find(|canary| text.contains(canary))
}

fn check(bench: &Bench, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(bench.path("routes.toml")).arg("--state").arg(bench.path("other"));
    command.envs(environment.iter().copied()).output().expect("runs")
}

async fn shows_nowhere(bench: Bench) {
    std::fs::write(bench.path("key.pem"), KEY_FILE).expect("a file");
    let daemon = bench.start_with(ROUTES, &[("TELLER_TOKEN", SECRET)]).await;
    let ways = [
        ("tell", "ack", ""),
        ("reject", "dead_letter", "rejected"),
        ("retry", "dead_letter", "exhausted"),
        ("long", "dead_letter", "rejected"),
        ("panic", "dead_letter", "trap"),
        ("flood", "dead_letter", "trap"),
        ("key", "dead_letter", "invalid"),
        ("name", "dead_letter", "invalid"),
    ];
    for (way, outcome, reason) in ways {
        let id = publish(&daemon, "tell", None, &json!(way));
        let settled = daemon.settled(&id).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&json!(outcome), &json!(reason)), "{way}: {settled}");
        if way == "tell" {
            assert!(settled["emitted"].as_str().is_some_and(|text| text.contains(&SECRET.len().to_string())));
        }
    }
    for path in ["/health", "/health/rabbitmq", "/metrics"] {
        let (_, text) = daemon.get(path);
        assert_eq!(canary_in(&text), None, "{path}: {text}");
    }
    let log = daemon.logged("the token is ***").await;
    for line in log.lines() {
        assert_eq!(canary_in(line), None, "{line}");
    }
    assert!(daemon.terminate().await.success());

    let check = check(&bench, &[("TELLER_TOKEN", SECRET)]);
    let printed = [check.stdout, check.stderr].concat();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&printed));
    assert_eq!(canary_in(&String::from_utf8_lossy(&printed)), None);

    let broker = bench.open(&ROUTES.replace("env = \"TELLER_TOKEN\"", "file = \"key.pem\"")).await;
    let dead = drain(&broker, &bench.queue("$P-tell.dlq"), ways.len() - 1).await;
    for Message { properties, body, .. } in &dead {
        let shown = format!("{properties:?} {}", String::from_utf8_lossy(body));
        assert_eq!(canary_in(&shown), None, "{shown}");
        assert!(shown.contains("***"), "the error tells where it stood: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_shows_nowhere_embedded() {
    shows_nowhere(Bench::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_shows_nowhere_amqp() {
    shows_nowhere(Bench::amqp()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_holds_only_its_plugin_down() {
    let bench = Bench::embedded();
    let text = ROUTES.to_owned() + "[routes.$P-echo]\nfrom = \"echo\"\nplugin = \"echo\"\n";
    let daemon = bench.start_with(&text, &[("TELLER_TOKEN", SECRET)]).await;
    let error = refusal(&daemon, &format!("{}-tell", bench.prefix));
    assert!(error.contains("the secret KEY cannot be read") && error.contains("key.pem"), "{error}");
    daemon.logged("the secret KEY cannot be read").await;
    let id = publish(&daemon, "echo", None, &json!("x"));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack", "the others run");
    assert!(daemon.terminate().await.success());

    std::fs::write(bench.path("key.pem"), KEY_FILE).expect("a file");
    let daemon = bench.start(&text).await;
    let error = refusal(&daemon, &format!("{}-tell", bench.prefix));
    assert_eq!(error, "the secret TOKEN cannot be read: the environment variable TELLER_TOKEN is not set");
    let check = check(&bench, &[]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stderr).contains("TELLER_TOKEN is not set"));
}
