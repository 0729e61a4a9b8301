//! Emits the time and random numbers, which differ between any two calls.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use trunkline_plugin::json::json;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// One `drawn`.
#[handler(description = "Draws lots", emits = ["drawn"])]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos().to_string()).ok();
    let drawn = json!({ "times": [now(), now()], "hash": RandomState::new().hash_one(1).to_string(), "lots": lots() });
    Ok(vec![Emission::json("drawn", &drawn)?])
}

#[cfg(target_family = "wasm")]
mod host {
    wit_bindgen::generate!({
        inline: "
            package acme:dicer;
            world dicer { import wasi:random/random@0.2.0; }
            package wasi:random@0.2.0 {
                interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }
            }
        ",
        generate_all,
    });
}

#[cfg(target_family = "wasm")]
fn lots() -> [String; 2] {
    use host::wasi::random::random::get_random_u64;
    [get_random_u64(), get_random_u64()].map(|lot| lot.to_string())
}

#[cfg(not(target_family = "wasm"))]
fn lots() -> [String; 2] {
    Default::default()
}
