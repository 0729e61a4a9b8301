//! The JSON Schema Test Suite through the key `schema` of routes. The suite of json-schema.org for all drafts is in the
//! source archive of the package `jsonschema` on PyPI.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trunkline_broker::Publication;
use trunkline_config::schema::Schema;
use trunkline_event::{ExchangeName, Message, Properties, RoutingKey};

use crate::bench::Bench;
use crate::foreign::{python_with, run};

const PACKAGE: &str = "jsonschema";
const VERSION: &str = "4.26.0";

/// The supported drafts, with the `$schema` of their schemas.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// The suite serves further documents at this address. The daemon fetches no schema over a network.
const REMOTE: &str = "localhost:1234";
/// These groups say that a format is only an annotation. The daemon checks formats, as `optional/format` says.
const ANNOTATIONS: (&str, &str) = ("draft2020-12", "format");

/// Writes the groups of an archive as JSON: the required keywords, and the formats.
const READ: &str = r#"
import json, sys, tarfile
groups = []
with tarfile.open(sys.argv[1]) as archive:
    for member in archive.getmembers():
        _, *folders, file = member.name.split("/")
        if folders[:2] != ["json", "tests"] or folders[3:] not in ([], ["optional", "format"]) or not file.endswith(".json"):
            continue
        name = "/".join(folders[3:] + [file.removesuffix(".json")])
        for group in json.load(archive.extractfile(member)):
            groups.append({"draft": folders[2], "file": name, **group})
with open(sys.argv[2], "w") as written:
    json.dump(groups, written)
"#;

/// Every group of the supported drafts: `{draft, file, description, schema, tests}`. Each schema names its draft.
fn groups() -> Vec<Value> {
    let uris = BTreeMap::from(DRAFTS);
    let text = std::fs::read_to_string(suite()).expect("the suite");
    let mut groups: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    groups.retain_mut(|group| {
        let draft = group["draft"].as_str().unwrap_or_default().to_owned();
        let is_annotation = (draft.as_str(), group["file"].as_str().unwrap_or_default()) == ANNOTATIONS;
        let Some(uri) = uris.get(draft.as_str()).filter(|_| !is_annotation) else { return false };
        if let Some(schema) = group["schema"].as_object_mut() {
            schema.entry("$schema").or_insert_with(|| (*uri).into());
        }
        !group["schema"].to_string().contains(REMOTE)
    });
    groups
}

/// The file with the suite, in `target/`, made once.
fn suite() -> PathBuf {
    let python = python_with("aio-pika==10.2.1");
    let home = trunkline_support::plugins().parent().expect("target").join("json-schema-suite");
    std::fs::create_dir_all(&home).expect("a folder");
    // Tests run side by side, and so may several cargo processes.
    let lock = std::fs::File::create(home.join("lock")).expect("a file");
    lock.lock().expect("locked");
    let suite = home.join(format!("{VERSION}.json"));
    if !suite.exists() {
        let package = format!("{PACKAGE}=={VERSION}");
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", "."];
        run(Command::new(&python).args(download).arg(package).current_dir(&home));
        let (archive, unfinished) = (home.join(format!("{PACKAGE}-{VERSION}.tar.gz")), home.join("unfinished"));
        run(Command::new(&python).args(["-c", READ]).arg(archive).arg(&unfinished));
        std::fs::rename(&unfinished, &suite).expect("renamed");
    }
    suite
}

fn cases(group: &Value) -> impl Iterator<Item = &Value> {
    group["tests"].as_array().into_iter().flatten()
}

#[test]
fn every_case_of_the_suite_has_its_outcome() {
    let groups = groups();
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
    for group in &groups {
        let name = format!("{} {}: {}", group["draft"], group["file"], group["description"]);
        match Schema::compile(&group["schema"].to_string(), Path::new("/nowhere")) {
            Err(error) => wrong.push(format!("{name}: the schema {error}")),
            Ok(schema) => {
                for case in cases(group) {
                    *seen.entry(group["draft"].to_string()).or_default() += 1;
                    if schema.check(case["data"].to_string().as_bytes()).is_ok() != case["valid"] {
                        wrong.push(format!("{name}: {}", case["description"]));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen.len() == DRAFTS.len() && seen.values().all(|count| *count > 700), "the suite is incomplete: {seen:?}");
}

/// The first group of each file of the suite has a route of its own. The daemon handles every event of these routes.
#[tokio::test(flavor = "multi_thread")]
async fn cases_of_the_suite_pass_routes() {
    let bench = Bench::embedded();
    let mut groups = groups();
    groups.dedup_by_key(|group| (group["draft"].clone(), group["file"].clone()));
    assert!(groups.len() > 200, "the suite is incomplete: {} files", groups.len());
    let mut routes = "[defaults]\nexchange = { name = \"cases\", type = \"topic\" }\n".to_owned();
    let (mut messages, mut expected) = (Vec::new(), BTreeMap::new());
    for (number, group) in groups.iter().enumerate() {
        std::fs::write(bench.path(&format!("{number}.json")), group["schema"].to_string()).expect("a file");
        routes += &format!(
            "[routes.case-{number}]\nfrom = \"case.{number}\"\nplugin = \"echo\"\nschema = \"{number}.json\"\n"
        );
        for (of_group, case) in cases(group).enumerate() {
            let id = format!("{number}-{of_group}");
            messages.push(message(&format!("case.{number}"), &id, case["data"].to_string()));
            let outcome = if case["valid"] == true { "ack " } else { "dead_letter schema" };
            let name = format!("{} {}: {}", group["draft"], group["file"], case["description"]);
            expected.insert(id, (outcome.to_owned(), name));
        }
    }
    let broker = bench.open(&routes).await;
    for part in messages.chunks(100) {
        drop(broker.publish(part.to_vec()).await.expect("confirmed"));
    }
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(&routes).await;
    trunkline_support::eventually("the last event", || {
        let is_done = daemon.sum("trunkline_messages_settled_total") >= expected.len() as f64;
        async move { is_done.then_some(()) }
    })
    .await;
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let settled = lines.filter(|line| line["message"] == "settled");
    let settled =
        settled.map(|line| (text(&line["event"]), format!("{} {}", text(&line["outcome"]), text(&line["reason"]))));
    let settled: BTreeMap<String, String> = settled.collect();
    let wrong = expected.iter().filter(|(id, (outcome, _))| settled.get(*id) != Some(outcome));
    let wrong = wrong.map(|(id, (outcome, name))| format!("{name}: {outcome}, but {:?}", settled.get(id)));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(daemon.terminate().await.success());
}

fn message(key: &str, id: &str, body: String) -> Publication {
    let properties = Properties {
        message_id: Some(id.to_owned()),
        content_type: Some("application/json".to_owned()),
        ..Properties::default()
    };
    Publication::now(Message {
        exchange: ExchangeName::new("cases").expect("a name"),
        routing_key: RoutingKey::new(key).expect("a key"),
        properties,
        body: body.into(),
    })
}
