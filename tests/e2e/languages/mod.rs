//! Plugins in Rust, JavaScript, Python and C. The output of `trunkline new` builds, passes its own tests and runs, and
//! the plugin callback-task gives the same emissions in all four languages.

mod cases;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use trunkline_broker::Publication;
use trunkline_event::Message;
use trunkline_support::Daemon;
use xtask::languages::LANGUAGES;

use crate::bench::{Bench, binary, drain, message, settled};
use cases::{Case, Expect};

/// One queue, route and exchange of emissions for each language. Every language gets all events.
const HEAD: &str = r#"
    [defaults]
    limits = { timeout = "20s" }
    [exchanges.$P-in]
    type = "topic"
    codec = "cloudevents"
"#;
const PER_LANGUAGE: &str = r##"
    [exchanges.$P-out-$L]
    type = "topic"
    codec = "raw"
    [queues.$P-out-$L]
    bind = { exchange = "$P-out-$L", keys = "#" }
    [queues.$P-in-$L]
    bind = { exchange = "$P-in", keys = "call.ended" }
    [routes.$P-$L]
    queue = "$P-in-$L"
    plugin = "$L"
    emit = { exchange = "$P-out-$L" }
    [plugins.$L]
    file = "$FILE"
"##;

fn routes() -> String {
    let one = |language: &str| {
        let file = callback_task(language).display().to_string();
        PER_LANGUAGE.replace("$L", language).replace("$FILE", &file)
    };
    HEAD.to_owned() + &LANGUAGES.map(one).concat()
}

/// The plugin in `plugins/`, or the same in another language: the template with the handler of
/// `plugins/callback-task-LANGUAGE`.
fn callback_task(language: &str) -> PathBuf {
    if language == "rust" {
        return trunkline_support::plugins().join("callback-task.wasm");
    }
    let sources = xtask::root().join("plugins").join(format!("callback-task-{language}"));
    let built = xtask::languages::plugin(Path::new(binary()), language, "callback-task", Some(&sources));
    built.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Compiles the plugins of the routes before a daemon starts. An interpreter takes half a minute, which is longer than
/// the tests wait for a daemon's start.
fn compile(bench: &Bench, routes: &str) {
    let file = bench.write_routes(routes);
    trunkline_support::share_compiled(&bench.state());
    let check = Command::new(binary()).args(["check", "--config"]).arg(file).arg("--state").arg(bench.state()).output();
    let check = check.expect("runs");
    assert!(check.status.success(), "nothing is to be granted: {}", String::from_utf8_lossy(&check.stderr));
}

async fn publish(bench: &Bench, routes: &str, cases: &[Case]) {
    let broker = bench.open(routes).await;
    let batch = cases.iter().map(|case| event(&format!("{}-in", bench.prefix), case)).collect::<Vec<_>>();
    drop(broker.publish(batch).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
}

fn event(exchange: &str, case: &Case) -> Publication {
    let mut publication = message(exchange, "call.ended", case.id, case.data.clone());
    let properties = &mut publication.message_mut().properties;
    // Not named as JSON, so that the codec passes any bytes on.
    properties.content_type = Some("application/octet-stream".to_owned());
    for (name, value) in [("specversion", "1.0"), ("id", case.id), ("source", "/test"), ("type", "call.ended")] {
        properties.headers.set(format!("cloudEvents:{name}"), value);
    }
    if let Some(time) = case.time {
        properties.headers.set("cloudEvents:time", time);
    }
    for (name, value) in [("trunkline-tenant", case.tenant), ("trunkline-user", case.user)] {
        if let Some(value) = value {
            properties.headers.set(name, value);
        }
    }
    publication
}

async fn all_settled(bench: &Bench, daemon: &Daemon, cases: &[Case]) {
    let rejected = cases.iter().filter(|case| matches!(case.expect, Expect::Rejected(_))).count();
    for language in LANGUAGES {
        for (outcome, count) in [("dead_letter", rejected), ("ack", cases.len() - rejected)] {
            crate::bench::metric(daemon, &settled(bench, language, outcome), |value| value == count as f64).await;
        }
    }
}

/// The result of an event, without the names of route and plugin.
#[derive(Debug, PartialEq)]
struct Answer {
    emissions: Vec<BTreeMap<String, String>>,
    /// Reason and text.
    rejected: Option<(String, String)>,
}

async fn answers(bench: &Bench, routes: &str, language: &str, cases: &[Case]) -> Vec<Answer> {
    let count = |expect: fn(&Expect) -> bool| cases.iter().filter(|case| expect(&case.expect)).count();
    let broker = bench.open(routes).await;
    let out = bench.queue(&format!("$P-out-{language}"));
    let emitted = drain(&broker, &out, count(|expect| matches!(expect, Expect::Task(_)))).await;
    let dead = bench.queue(&format!("$P-in-{language}.dlq"));
    let dead = drain(&broker, &dead, count(|expect| matches!(expect, Expect::Rejected(_)))).await;
    broker.close(trunkline_support::patience()).await;
    let answer = |case: &Case| {
        let of_case = |message: &&Message| message.properties.headers.text("trunkline-cause") == Some(case.id);
        let letter = dead.iter().find(|letter| letter.properties.message_id.as_deref() == Some(case.id));
        let header = |letter: &Message, name| letter.properties.headers.text(name).unwrap_or_default().to_owned();
        Answer {
            emissions: emitted.iter().filter(of_case).map(fields).collect(),
            rejected: letter.map(|letter| (header(letter, "trunkline-reason"), header(letter, "trunkline-error"))),
        }
    };
    cases.iter().map(answer).collect()
}

fn fields(message: &Message) -> BTreeMap<String, String> {
    let properties = &message.properties;
    let named = ["trunkline-route", "trunkline-plugin", "trunkline-plugin-digest"];
    let headers = properties.headers.iter().filter(|(name, _)| !named.contains(name));
    let mut fields: BTreeMap<_, _> =
        headers.map(|(name, value)| (format!("header {name}"), format!("{value:?}"))).collect();
    for (name, value) in [
        ("key", message.routing_key.to_string()),
        ("type", format!("{:?}", properties.kind)),
        ("content-type", format!("{:?}", properties.content_type)),
        ("correlation-id", format!("{:?}", properties.correlation_id)),
        ("priority", format!("{:?}", properties.priority)),
        ("body", String::from_utf8_lossy(&message.body).into_owned()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    fields
}

fn compare(cases: &[Case], all: &[(&str, Vec<Answer>)]) {
    let (_, reference) = &all[0];
    for (at, case) in cases.iter().enumerate() {
        check(case, &reference[at]);
        for (language, answers) in &all[1..] {
            let (ours, theirs) = (&reference[at], &answers[at]);
            assert_eq!(ours.emissions, theirs.emissions, "{}: {language} answers otherwise", case.id);
            check(case, theirs);
        }
    }
}

/// Compares each language with the expected result, not only with the others.
fn check(case: &Case, answer: &Answer) {
    match (&case.expect, &answer.rejected) {
        (Expect::Rejected(word), Some((reason, text))) => {
            assert_eq!((reason.as_str(), answer.emissions.len()), ("rejected", 0), "{}", case.id);
            assert!(text.starts_with("call.ended: ") && text.contains(word), "{}: {text}", case.id);
        }
        (Expect::Nothing, None) => assert!(answer.emissions.is_empty(), "{}: {answer:?}", case.id),
        (Expect::Task(words), None) => {
            assert_eq!(answer.emissions.len(), 1, "{}", case.id);
            let body = &answer.emissions[0]["body"];
            assert!(words.iter().all(|word| body.contains(word)), "{}: {body}", case.id);
        }
        (_, rejected) => panic!("{}: {rejected:?}", case.id),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_plugin_in_four_languages_answers_the_same() {
    let (bench, cases, routes) = (Bench::embedded(), cases::all(), routes());
    same(&bench, &cases, &routes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn and_the_same_through_rabbitmq() {
    let (bench, routes) = (Bench::amqp(), routes());
    let cases = cases::all().into_iter().filter(|case| ["transcript", "unknown-outcome"].contains(&case.id));
    same(&bench, &cases.collect::<Vec<_>>(), &routes).await;
}

async fn same(bench: &Bench, cases: &[Case], routes: &str) {
    compile(bench, routes);
    publish(bench, routes, cases).await;
    let daemon = bench.start(routes).await;
    all_settled(bench, &daemon, cases).await;
    for language in LANGUAGES {
        let plugin = |what: &str| {
            format!("trunkline_plugin_invocation_duration_seconds_{what}{{plugin=\"{language}\",variant=\"stable\"}}")
        };
        let (sum, count) = (daemon.metric(&plugin("sum")), daemon.metric(&plugin("count")));
        println!("{language}: {:.2} ms for each of {count} events", sum / count * 1000.0);
    }
    assert!(daemon.terminate().await.success());
    let mut all = Vec::new();
    for language in LANGUAGES {
        all.push((language, answers(bench, routes, language, cases).await));
    }
    compare(cases, &all);
}
