//! W1, W10, W11, W12: settings that compose files and environments commonly contain.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use trunkline_config::BrokerUrl;
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, ECHO, becomes_ready, binary};

/// The command `binary NAME --config FILE` with its own environment, so that variables of the machine have no effect.
fn verb(name: &str, file: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.arg(name).arg("--config").arg(file).env_clear();
    let kept = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.envs(kept).envs(environment.iter().copied());
    command
}

/// A daemon that gets the broker URL only from its environment and its file.
async fn start(bench: &Bench, routes: &str, environment: &[(&str, &str)]) -> Daemon {
    let file = bench.write_routes(routes);
    trunkline_support::share_compiled(&bench.state());
    let mut command = verb("run", &file, environment);
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--state"]).arg(bench.state());
    Daemon::launch(command).await.unwrap_or_else(|ended| panic!("{ended:?}"))
}

/// The output of `trunkline check`, and whether the check succeeded.
fn check(bench: &Bench, routes: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let file = bench.write_routes(routes);
    trunkline_support::share_compiled(&bench.state());
    let output = verb("check", &file, environment).arg("--state").arg(bench.state()).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("a text"))
}

async fn handles_an_event(daemon: &Daemon) {
    becomes_ready(daemon, true).await;
    let id = uuid::Uuid::now_v7().to_string();
    let (status, answer) = daemon.post("/api/v1/events", &json!({ "type": "in", "id": id, "data": 1 }).to_string());
    assert_eq!(status, 202, "{answer}");
}

/// The URL of the shared broker, up to the port.
fn shared() -> String {
    let url = BrokerUrl::parse(&trunkline_support::rabbitmq::url()).expect("the URL of the shared broker");
    format!("amqp://{}:{}@{}:{}", url.user(), url.password().expose(), url.host, url.port)
}

/// Compose files commonly contain `amqp://guest:guest@localhost:5672/`.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_ends_in_a_slash_means_the_default_virtual_host() {
    for end in ["", "/", "//", "/?heartbeat=5"] {
        let (bench, url) = (Bench::amqp(), format!("{}{end}", shared()));
        let (is_good, output) = check(&bench, ECHO, &[("RABBITMQ_URL", &url)]);
        assert!(is_good, "{end}: {output}");
        let daemon = start(&bench, ECHO, &[("RABBITMQ_URL", &url)]).await;
        handles_an_event(&daemon).await;
        assert!(daemon.terminate().await.success());
        let by_flag = Bench::on(url.clone());
        let daemon = by_flag.start(ECHO).await;
        handles_an_event(&daemon).await;
        assert!(daemon.terminate().await.success());
        let file = format!("[broker]\nurl = \"{url}\"\n{ECHO}");
        let by_file = Bench::amqp();
        let daemon = start(&by_file, &file, &[("RABBITMQ_URL", ""), ("RABBITMQ_VHOST", "")]).await;
        handles_an_event(&daemon).await;
        assert!(daemon.terminate().await.success());
    }
}

const NO_SESSION: &str = "the daemon has no session with the broker";

/// The log of a daemon that is stopped two seconds after its first line about the missing session. The daemon tries to connect
/// several times in that time.
async fn log_of_a_lost_broker(level: &str) -> String {
    let bench = Bench::on("amqp://127.0.0.1:1".to_owned());
    let (file, log) = (bench.write_routes(ECHO), bench.path("log"));
    trunkline_support::share_compiled(&bench.state());
    let mut command = verb("run", &file, &[("LOG_LEVEL", level), ("RABBITMQ_URL", &bench.broker)]);
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--state"]).arg(bench.state());
    let stderr = std::fs::File::create(&log).expect("a file");
    let mut daemon = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("the daemon's binary runs");
    let text = || std::fs::read_to_string(&log).expect("the log");
    eventually("a line about the broker", || {
        let ended = daemon.try_wait().expect("the process can be asked");
        assert!(ended.is_none(), "{level}: {ended:?} {}", text());
        let is_written = text().contains(NO_SESSION);
        async move { is_written.then_some(()) }
    })
    .await;
    trunkline_telemetry::wait::after(Duration::from_secs(2)).await;
    daemon.kill().expect("killed");
    let _ended = daemon.wait().expect("reaped");
    text()
}

/// W3: the daemon tries to connect about once a second, and writes the same reason once a minute.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_one_line_about_a_broker_that_is_away() {
    let log = log_of_a_lost_broker("warn").await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains(NO_SESSION)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines.iter().all(|line| line.contains("\"left_out\":0")), "{log}");
    assert!(lines.iter().all(|line| line.contains("\"code\":\"broker-away\"")), "{log}");
}

/// `LOG_LEVEL` contains a level name of Python, or is empty.
#[tokio::test(flavor = "multi_thread")]
async fn python_names_of_levels_are_levels() {
    for (level, has_info) in [("WARNING", false), ("warn", false), ("INFO", true), ("", true), ("NOTSET", true)] {
        let log = log_of_a_lost_broker(level).await;
        assert_eq!(log.contains("\"level\":\"INFO\""), has_info, "{level}: {log}");
    }
    let bench = Bench::embedded();
    for level in ["CRITICAL", "FATAL", "Error", "debug", "off", "WARNING,trunkline::trace=DEBUG"] {
        let (is_good, output) = check(&bench, ECHO, &[("LOG_LEVEL", level)]);
        assert!(is_good, "{level}: {output}");
    }
}

/// An invalid filter must not hide errors. `check` and `run` therefore refuse an invalid filter.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_level_is_an_error_with_the_list() {
    let bench = Bench::embedded();
    let file = bench.write_routes(ECHO);
    for name in ["check", "run"] {
        let output = verb(name, &file, &[("LOG_LEVEL", "VERBOSE")]).arg("--state").arg(bench.state()).output();
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{name}: {text}");
        for wanted in ["TL015", "LOG_LEVEL", "VERBOSE", "warning", "critical", "notset", "debug"] {
            assert!(text.contains(wanted), "{name}: {wanted}: {text}");
        }
    }
}

/// The environment of a pod beside a Kubernetes service named `rabbitmq`, with the variables of conda.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_other_programs_do_not_stop_the_start() {
    let url = BrokerUrl::parse(&trunkline_support::rabbitmq::url()).expect("the URL of the shared broker");
    let (user, password) = (url.user().to_owned(), url.password());
    let service = format!("tcp://10.96.0.12:{}", url.port);
    let bench = Bench::amqp();
    let environment = [
        ("RABBITMQ_HOST", url.host.as_str()),
        ("RABBITMQ_PORT", &service),
        ("RABBITMQ_USER", &user),
        ("RABBITMQ_PASSWORD", password.expose()),
        ("RABBITMQ_SERVICE_HOST", "10.96.0.12"),
        ("HOST", "x86_64-conda-linux-gnu"),
        ("PORT", "tcp://10.96.0.12:80"),
    ];
    let routes = format!("[http]\nlisten = \"127.0.0.1:0\"\n{ECHO}");
    let (is_good, output) = check(&bench, &routes, &environment);
    assert!(is_good, "{output}");
    for wanted in ["warning[TL015]: environment variable HOST", "warning[TL015]: environment variable PORT"] {
        assert!(output.contains(wanted), "{output}");
    }
    assert!(!output.contains("RABBITMQ_PORT"), "the daemon reads the port: {output}");
    let file = bench.write_routes(&routes);
    let mut command = verb("run", &file, &environment);
    command.args(["--log-format", "json", "--state"]).arg(bench.state());
    let daemon = Daemon::launch(command).await.unwrap_or_else(|ended| panic!("{ended:?}"));
    handles_an_event(&daemon).await;
    assert!(daemon.log().contains("is not an IP address; the daemon ignores the variable"), "{}", daemon.log());
    assert!(daemon.terminate().await.success());
}

/// Tools that keep secrets often append a line feed. The daemon and its commands leave the line feed out.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_feed_at_the_end_of_a_token_is_left_out() {
    let bench = Bench::embedded();
    let routes = format!("[http]\ntokens = [{{ env = \"TOKEN\" }}]\n{ECHO}");
    let token = "a-token-of-this-test\r\n";
    let daemon = bench.start_with(&routes, &[("TOKEN", token)]).await;
    let url = format!("{}\n", daemon.url(""));
    // 1 is the code of a refusal, and not of a daemon that cannot be reached.
    for (given, code) in [(token, 0), ("another-token-of-this-test\n", 1), ("\n", 1)] {
        let mut command = Command::new(binary());
        command.args(["rollout", "status"]).env("TRUNKLINE_URL", &url).env("TRUNKLINE_TOKEN", given);
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{given:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(daemon.terminate().await.success());
}
