//! Counts its calls in a static, so every call must be the first.

use trunkline_plugin::{Emission, Event, Failure, handler};

use std::sync::atomic::{AtomicU32, Ordering};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Emits the count.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(vec![Emission::bytes("counted", "text/plain", calls.to_string().into_bytes())])
}
