//! W17: the series of a removed route, plugin or hook leave `/metrics`, and come back with the name.

use trunkline_support::{Daemon, eventually};

use super::{Plugins, STAYS, handled, reached, rewrite, start};
use crate::bench::{Bench, metric, on_both_brokers, settled};

const GOES: &str = r#"
[routes.$P-goes]
from = "goes"
plugin = "parrot"
[hooks.goes]
path = "/hooks/goes"
key = "elsewhere"
"#;

/// The labels of everything that is removed.
fn labels(bench: &Bench) -> [String; 4] {
    [
        format!("route=\"{}-goes\"", bench.prefix),
        "plugin=\"parrot\"".to_owned(),
        "hook=\"goes\"".to_owned(),
        "path=\"/hooks/goes\"".to_owned(),
    ]
}

/// The series with a label.
fn series(daemon: &Daemon, label: &str) -> Vec<String> {
    daemon.get("/metrics").1.lines().filter(|line| line.contains(label)).map(str::to_owned).collect()
}

async fn series_leave_with_their_name_and_come_back(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("echo", "echo", "");
    plugins.put("parrot", "echo", "another file");
    let both = format!("{STAYS}{GOES}");
    let daemon = start(&bench, &both).await;
    for name in ["stays", "goes"] {
        assert_eq!(handled(&daemon, name, name).await["outcome"], "ack");
    }
    assert_eq!(daemon.post("/hooks/goes", "{}").0, 202);
    for label in labels(&bench) {
        assert!(!series(&daemon, &label).is_empty(), "{label} has no series:\n{}", daemon.get("/metrics").1);
    }

    rewrite(&bench, STAYS);
    reached(&daemon, 2).await;
    for label in labels(&bench) {
        eventually(&format!("{label} has left"), || {
            let left = series(&daemon, &label);
            async move { left.is_empty().then_some(()) }
        })
        .await;
    }
    assert_eq!(daemon.metric(&settled(&bench, "stays", "ack")), 1.0, "the other route keeps its series");
    assert_eq!(series(&daemon, "trunkline_config_info{").len(), 1, "only the running configuration");
    let (_, health) = daemon.get("/health");
    assert!(!health.contains("-goes"), "no condition is left of the route: {health}");

    rewrite(&bench, &both);
    reached(&daemon, 3).await;
    let up = format!("trunkline_route_up{{route=\"{}-goes\"}}", bench.prefix);
    metric(&daemon, &up, |up| up == 1.0).await;
    assert_eq!(handled(&daemon, "goes", "again").await["outcome"], "ack");
    metric(&daemon, &settled(&bench, "goes", "ack"), |count| count == 2.0).await;
    for label in labels(&bench) {
        assert!(!series(&daemon, &label).is_empty(), "{label} has no series again");
    }
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    series_leave_with_their_name_and_come_back,
}
