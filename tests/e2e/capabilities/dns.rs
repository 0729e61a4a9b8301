//! P21: a name is resolved once, and every address of the answer is checked. The daemon asks a name server of the test,
//! because it runs in a mount namespace with another `/etc/resolv.conf`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trunkline_support::Daemon;

use super::answer;
use super::server::Server;
use crate::bench::{Bench, binary};

/// The address of the test's name server.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// An address in `private-networks`, and one that is not.
const LISTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const A: u16 = 1;
const AAAA: u16 = 28;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
retry = { max = 0 }
[routes.$P-fetch]
from = "fetch"
plugin = "fetcher"
[plugins.fetcher]
allow = { http = ["http://*.trap.test:$PORT"], private-networks = ["127.0.0.2"] }
limits = { timeout = "5s" }
"#;

/// The answers to each name, one for each query of a kind. The last answer is repeated.
type Zone = BTreeMap<&'static str, Vec<Vec<IpAddr>>>;

/// A name server, with the queries that it got: name and type.
struct Names(Arc<Mutex<Vec<(String, u16)>>>);

impl Names {
    fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("the port of name servers");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Some(reply) = reply(&buffer[..length], &zone, &mut kept.lock().expect("no panic")) {
                    drop(socket.send_to(&reply, from));
                }
            }
        });
        Self(asked)
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        let asked = self.0.lock().expect("no panic");
        asked.iter().filter(|(asked, of)| asked.starts_with(&format!("{name}.trap.test")) && *of == kind).count()
    }
}

/// A message of RFC 1035: the question, and its answers with a time to live of 0.
fn reply(query: &[u8], zone: &Zone, asked: &mut Vec<(String, u16)>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let name = labels.join(".");
    let earlier = asked.iter().filter(|seen| **seen == (name.clone(), kind)).count();
    asked.push((name, kind));
    let scripted = zone.get(labels.first()?.as_str());
    let addresses = scripted.and_then(|answers| answers.get(earlier.min(answers.len() - 1))).into_iter().flatten();
    let data = addresses.filter_map(|address| match (address, kind) {
        (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
        _ => None,
    });
    let data = data.collect::<Vec<_>>();
    let count = u8::try_from(data.len()).ok()?;
    let mut reply = [&query[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in data {
        // The name of the question, class IN, time to live 0.
        reply.extend([0xc0, 12, 0, u8::try_from(kind).ok()?, 0, 1, 0, 0, 0, 0, 0, u8::try_from(address.len()).ok()?]);
        reply.extend(address);
    }
    Some(reply)
}

/// Two servers on one port, at the two addresses.
fn servers() -> (Server, Server) {
    for _ in 0..20 {
        let listed = Server::at(SocketAddr::new(LISTED, 0)).expect("a port");
        if let Ok(inside) = Server::at(SocketAddr::new(INSIDE, listed.address.port())) {
            return (listed, inside);
        }
    }
    panic!("no port is free at both addresses");
}

async fn start(bench: &Bench, port: u16) -> Daemon {
    let resolver = bench.path("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {NAME_SERVER}\noptions timeout:1 attempts:2\n")).expect("a file");
    let script = bench.path("in-a-namespace");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && exec {} \"$@\"' sh \"$@\"\n",
        resolver.display(),
        binary()
    );
    std::fs::write(&script, text).expect("a file");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let routes = bench.write_routes(&ROUTES.replace("$PORT", &port.to_string()));
    let script = script.display().to_string();
    Daemon::start(&script, &routes, &bench.state(), &bench.broker).await.unwrap_or_else(|ended| panic!("{ended:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_once_and_every_address_of_it_is_checked() {
    let (listed, inside) = servers();
    let v4 = |octets: [u8; 4]| IpAddr::from(octets);
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address"));
    let refused = BTreeMap::from([
        ("loopback", vec![vec![INSIDE]]),
        ("mixed", vec![vec![LISTED, INSIDE]]),
        ("mixed-kinds", vec![vec![LISTED, v6("::1")]]),
        ("metadata", vec![vec![v4([169, 254, 169, 254])]]),
        ("private", vec![vec![v4([10, 0, 0, 1])]]),
        ("shared", vec![vec![v4([100, 64, 0, 1])]]),
        ("zero", vec![vec![v4([0, 0, 0, 0])]]),
        ("mapped", vec![vec![v6("::ffff:127.0.0.1")]]),
        ("translated", vec![vec![v6("64:ff9b::7f00:1")]]),
        ("unique-local", vec![vec![v6("fd00::1")]]),
        ("link-local", vec![vec![v6("fe80::1")]]),
    ]);
    let mut zone = refused.clone();
    zone.insert("plain", vec![vec![LISTED]]);
    zone.insert("rebinding", vec![vec![LISTED], vec![INSIDE]]);
    let names = Names::start(zone);
    let bench = Bench::embedded();
    let port = listed.address.port();
    let daemon = start(&bench, port).await;
    let fetch = async |name: &str| -> Value {
        answer(&daemon, "fetch", None, &json!({ "url": format!("http://{name}.trap.test:{port}/{name}") })).await
    };

    assert_eq!(fetch("plain").await["status"], 200);
    assert_eq!(
        (names.asked("plain", A), listed.heads().len()),
        (1, 1),
        "one look-up, and a connection to a checked address"
    );
    for name in refused.keys() {
        let fetched = fetch(name).await;
        let error = fetched["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("not public"), "{name}: {fetched}");
        assert_eq!((names.asked(name, A), names.asked(name, AAAA)), (1, 1), "{name}");
    }
    // A name that is public or listed when it is checked, and private at a second query, is not queried a second time.
    assert_eq!(fetch("rebinding").await["status"], 200);
    assert_eq!(names.asked("rebinding", A), 1);
    let second = fetch("rebinding").await;
    assert!(second["error"].as_str().is_some_and(|error| error.contains("not public")), "{second}");
    assert_eq!(names.asked("rebinding", A), 2, "each request asks for itself");
    assert_eq!(listed.heads().len(), 2);
    assert!(inside.heads().is_empty(), "{:?}", inside.heads());
    assert!(daemon.terminate().await.success());
}
