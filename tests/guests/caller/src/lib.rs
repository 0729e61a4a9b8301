//! Calls the host without end. The body names the call.

use std::io::Write;
use std::time::{Instant, SystemTime};

use trunkline_plugin::{Emission, Event, Failure, config, handler, log};

/// Never returns.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let call: fn() = match String::from_utf8_lossy(&event.data).trim_matches('"') {
        "clock" => || _ = std::hint::black_box((Instant::now(), SystemTime::now())),
        "random" => || drop(std::hint::black_box(random(8))),
        "random-bytes" => || drop(std::hint::black_box(random(1 << 20))),
        "config" => || drop(std::hint::black_box(config::get("nothing"))),
        "log" => || log::info(""),
        "long-log" => || log::info(&"x".repeat(1 << 20)),
        "huge-log" => || log::info(&"x".repeat(24 << 20)),
        "print" => || println!("a line of no use"),
        "flush" => || drop(std::io::stderr().flush()),
        "nap" => || std::thread::sleep(std::time::Duration::from_nanos(1)),
        other => return Err(Failure::reject(format!("there is no call {other:?}"))),
    };
    loop {
        call();
    }
}

#[cfg(target_family = "wasm")]
mod host {
    wit_bindgen::generate!({
        inline: "
            package acme:caller;
            world caller { import wasi:random/random@0.2.0; }
            package wasi:random@0.2.0 {
                interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }
            }
        ",
        generate_all,
    });
}

#[cfg(target_family = "wasm")]
fn random(bytes: u64) -> Vec<u8> {
    host::wasi::random::random::get_random_bytes(bytes)
}

#[cfg(not(target_family = "wasm"))]
fn random(_: u64) -> Vec<u8> {
    Vec::new()
}
