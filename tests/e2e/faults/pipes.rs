//! H16: nobody reads stdout and stderr any more, and signals that mean nothing come.

use std::process::{Child, Command, ExitStatus, Stdio};

use trunkline_support::eventually;
use trunkline_support::rabbitmq::free_port;

use crate::bench::{Bench, binary, drain};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;

/// A daemon whose stdout and stderr nobody reads; ended when it is dropped.
struct Unheard {
    child: Child,
    url: String,
}

impl Unheard {
    async fn start(bench: &Bench) -> Self {
        let port = free_port().expect("a port");
        let routes = bench.write_routes(ROUTES);
        let mut child = Command::new(binary())
            .args(["run", "--broker", &bench.broker, "--listen", &format!("127.0.0.1:{port}"), "--config"])
            .arg(routes)
            .arg("--state")
            .arg(bench.state())
            .env("LOG_LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon's binary runs");
        // Both pipes have no reader from here on: the first line that is logged fails.
        drop((child.stdout.take(), child.stderr.take()));
        let unheard = Self { child, url: format!("http://127.0.0.1:{port}") };
        eventually("readiness", || {
            let ready = ureq::get(format!("{}/readyz", unheard.url)).call().is_ok();
            async move { ready.then_some(()) }
        })
        .await;
        unheard
    }

    fn publish(&self, kind: &str) {
        let body = format!(r#"{{"type":"{kind}","data":1}}"#);
        let request = ureq::post(format!("{}/api/v1/events", self.url)).header("content-type", "application/json");
        assert_eq!(request.send(body).expect("an answer").status(), 202);
    }

    fn metrics(&self) -> String {
        let mut response = ureq::get(format!("{}/metrics", self.url)).call().expect("an answer");
        response.body_mut().read_to_string().expect("a text")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success(), "it is still there");
    }

    async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end", || {
            let ended = child.try_wait().expect("the process can be asked");
            async move { ended }
        })
        .await
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_pipes_do_not_end_it() {
    let bench = Bench::embedded();
    let daemon = Unheard::start(&bench).await;
    for _ in 0..20 {
        daemon.publish("echo");
    }
    daemon.signal("HUP");
    daemon.signal("PIPE");
    let done = format!("{{route=\"{}-echo\",outcome=\"ack\"}} 20\n", bench.prefix);
    eventually("all are handled", || {
        let found = daemon.metrics().contains(&done);
        async move { found.then_some(()) }
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let broker = bench.open(ROUTES).await;
    assert_eq!(drain(&broker, &bench.queue("$P-out"), 20).await.len(), 20);
}
