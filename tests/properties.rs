//! The properties of `fuzz/properties`, which `cargo fuzz` searches for hours, for a minute in all on stable.
//!
//! A failure prints its seed; `TRUNKLINE_PROPERTY_SEED` runs that one alone, and `TRUNKLINE_PROPERTY_SECONDS` searches longer.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// For each property.
const SECONDS: u64 = 20;
/// Of the bytes that a seed gives.
const BYTES_MAX: usize = 4096;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn check(name: &str, property: properties::Property, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut data = vec![0; random.usize(..BYTES_MAX)];
    random.fill(&mut data);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(&data))) {
        eprintln!("{name} failed with TRUNKLINE_PROPERTY_SEED={seed}");
        resume_unwind(panic);
    }
}

/// Tries seeds until the time is over; the first seed is another one each time.
fn search(name: &str) {
    let (_, property) = properties::ALL.iter().find(|(known, _)| *known == name).expect("a property");
    if let Some(seed) = number("TRUNKLINE_PROPERTY_SEED") {
        return check(name, *property, seed);
    }
    let first = fastrand::u64(..);
    let end = Instant::now() + Duration::from_secs(number("TRUNKLINE_PROPERTY_SECONDS").unwrap_or(SECONDS));
    let mut tried = 0;
    while Instant::now() < end {
        check(name, *property, first.wrapping_add(tried));
        tried += 1;
    }
    println!("{name}: {tried} seeds from {first}");
    assert!(tried > 100, "only {tried} seeds were tried: the search shows nothing");
}

#[test]
fn frames_of_a_broker_pass_or_are_mended() {
    search("inbound_frames");
}

#[test]
fn any_bytes_of_a_broker_are_survived() {
    search("inbound_bytes");
}

#[test]
fn frames_of_ours_pass_while_their_channel_is_open() {
    search("outbound_frames");
}
