//! Changes of routes.toml and its included files while events flow.

use trunkline_support::eventually;

use super::{Plugins, STAYS, generation, handled, number, publish, reached, refused, rewrite, start};
use crate::bench::{Bench, on_both_brokers};

fn with(more: &str) -> String {
    format!("{STAYS}\n{more}")
}

fn subscriptions(daemon: &trunkline_support::Daemon, route: &str) -> usize {
    let is_meant = |line: &&str| line.contains("route consumes") && line.contains(route);
    daemon.log().lines().filter(is_meant).count()
}

async fn flows_are_rewired_without_touching_the_others(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "echo", "");
    let moving = |key: &str| with(&format!("[routes.$P-moves]\nfrom = \"{key}\"\nplugin = \"echo\"\n"));
    let daemon = start(&bench, &moving("before")).await;
    assert_eq!(handled(&daemon, "before", "a").await["outcome"], "ack");
    assert!(!publish(&daemon, "after", "b"), "no queue is bound to it yet");

    rewrite(&bench, &moving("after"));
    reached(&daemon, 2).await;
    assert_eq!(handled(&daemon, "after", "c").await["outcome"], "ack");
    assert!(!publish(&daemon, "before", "d"), "the old binding is gone");

    let added = with("[routes.$P-new]\nfrom = \"new\"\nplugin = \"echo\"\n");
    rewrite(&bench, &added);
    reached(&daemon, 3).await;
    eventually("the new route", || {
        let is_up = subscriptions(&daemon, "-new") == 1;
        async move { is_up.then_some(()) }
    })
    .await;
    assert_eq!(handled(&daemon, "new", "e").await["outcome"], "ack");
    let routes = generation(&daemon)["routes"].clone();
    assert_eq!(routes.as_object().map(serde_json::Map::len), Some(2), "{routes}");
    assert_eq!(handled(&daemon, "stays", "f").await["outcome"], "ack");
    assert_eq!(subscriptions(&daemon, "-stays"), 1, "its consumer was never touched");
    assert!(daemon.terminate().await.success());
}

async fn a_bad_file_is_refused_whole(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "echo", "");
    let daemon = start(&bench, STAYS).await;
    let cases = [
        ("[routes.$P-x]\nfrom = \"x\"\nplugn = \"echo\"\n", "did you mean `plugin`"),
        ("[routes.$P-x]\nfrom = \"x\"\nplugin = \"not-there\"\n", "cannot be read"),
        ("[broker]\nprefetch = 7\n[http]\nlisten = \"127.0.0.1:1\"\n[routes.$P-x]\nfrom = [", "TL002"),
        ("[http]\nmax-body = \"2MiB\"\n", "restart"),
    ];
    for (more, why) in cases {
        let before = generation(&daemon)["last_refusal"].clone();
        rewrite(&bench, &with(more));
        let reasons = refused(&daemon, &before).await;
        assert!(reasons.contains(why), "{why}: {reasons}");
        assert_eq!(number(&daemon), 1);
        assert_eq!(handled(&daemon, "stays", why).await["outcome"], "ack");
    }
    let (status, problem) = daemon.post("/api/v1/reload", "");
    assert_eq!((status, &problem["code"]), (409, &"TL409".into()), "{problem}");
    assert!(problem["errors"].to_string().contains("restart"), "{problem}");
    rewrite(&bench, STAYS);
    let (status, answer) = daemon.post("/api/v1/reload", "");
    assert_eq!((status, &answer["result"], &answer["generation"]), (200, &"unchanged".into(), &1.into()), "{answer}");
    rewrite(&bench, &with("[routes.$P-x]\nfrom = \"x\"\nplugin = \"echo\"\n"));
    let (status, answer) = daemon.post("/api/v1/reload", "");
    let result = answer["result"].as_str().unwrap_or_default().to_owned();
    assert!(status == 200 && ["swapped", "unchanged"].contains(&result.as_str()), "{answer}");
    assert_eq!(answer["generation"], 2, "{answer}");
    assert_eq!(handled(&daemon, "x", "at once").await["outcome"], "ack");
    daemon.signal("HUP");
    // The watcher may reload after the signal.
    daemon.logged("\"by\":\"signal\"").await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_included_come_and_go() {
    let bench = Bench::embedded();
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "echo", "");
    let folder = bench.path("routes.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        std::fs::write(bench.path("written"), text.replace("$P", &bench.prefix)).expect("a file");
        std::fs::rename(bench.path("written"), folder.join(name)).expect("renamed");
    };
    file("10-a.toml", "[routes.$P-a]\nfrom = \"a\"\nplugin = \"echo\"\n");
    let daemon = start(&bench, &format!("include = [\"routes.d/*.toml\"]\n{STAYS}")).await;
    assert_eq!(handled(&daemon, "a", "1").await["outcome"], "ack");
    file("20-b.toml", "[routes.$P-b]\nfrom = \"b\"\nplugin = \"echo\"\n");
    reached(&daemon, 2).await;
    assert_eq!(handled(&daemon, "b", "2").await["outcome"], "ack");
    for (text, why, line) in [
        ("\n[routes.$P-a]\nfrom = \"c\"\nplugin = \"echo\"\n", "two files define", 2),
        ("[http]\nlisten = \"127.0.0.1:9\"\n", "is not allowed in an included file", 1),
        ("\n\n[routes.$P-c]\nfrm = \"c\"\nplugin = \"echo\"\n", "did you mean `from`", 4),
    ] {
        let before = generation(&daemon)["last_refusal"].clone();
        file("30-c.toml", text);
        refused(&daemon, &before).await;
        let refusal = generation(&daemon)["last_refusal"].clone();
        assert!(refusal.to_string().contains(why), "{refusal}");
        let told = refusal["errors"].as_array().expect("errors").clone();
        let is_there = |error: &serde_json::Value| {
            error["file"].as_str().is_some_and(|file| file.ends_with("30-c.toml")) && error["line"] == line
        };
        assert!(told.iter().any(is_there), "{refusal}");
        assert_eq!(number(&daemon), 2);
    }
    std::fs::remove_file(folder.join("30-c.toml")).expect("removed");
    std::fs::remove_file(folder.join("20-b.toml")).expect("removed");
    reached(&daemon, 3).await;
    assert!(!publish(&daemon, "b", "3"), "its route is gone, and its binding is the embedded broker's to keep or not");
    assert_eq!(handled(&daemon, "a", "4").await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_comes_during_an_outage_runs_when_the_broker_is_back() {
    let node = xtask::rabbitmq::RabbitmqNode::start().expect("a private node");
    let bench = Bench::on(node.url());
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "echo", "");
    let daemon = start(&bench, STAYS).await;
    daemon.runs().await;
    assert_eq!(handled(&daemon, "stays", "a").await["outcome"], "ack");
    node.kill().expect("killed");
    eventually("the outage", || {
        let gone = daemon.get("/health/rabbitmq").0 == 503;
        async move { gone.then_some(()) }
    })
    .await;
    rewrite(&bench, &with("[routes.$P-late]\nfrom = \"late\"\nplugin = \"echo\"\n"));
    reached(&daemon, 2).await;
    node.restart().expect("restarted");
    eventually("the new route", || {
        let is_up = subscriptions(&daemon, "-late") >= 1;
        async move { is_up.then_some(()) }
    })
    .await;
    assert_eq!(handled(&daemon, "late", "b").await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    flows_are_rewired_without_touching_the_others,
    a_bad_file_is_refused_whole,
}
