//! Tries every way to the network and to files, and emits each refusal.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One emission with the refusals.
#[handler(description = "Tries to get out", emits = ["dialed"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let address: String = event.json()?;
    let kind = |error: std::io::Error| format!("{:?}", error.kind());
    let answers = [
        std::net::TcpStream::connect(&address).map_or_else(kind, |_| "connected".to_owned()),
        std::net::TcpListener::bind("127.0.0.1:0").map_or_else(kind, |_| "listening".to_owned()),
        std::net::UdpSocket::bind("127.0.0.1:0").map_or_else(kind, |_| "bound".to_owned()),
        std::net::TcpStream::connect("localhost:80").map_or_else(kind, |_| "resolved".to_owned()),
        std::fs::read_dir("/").map_or_else(kind, |_| "files".to_owned()),
    ];
    let environment = std::env::vars().count() + std::env::args().count();
    Ok(vec![Emission::json("dialed", &(answers, environment))?])
}
