//! Emits more bytes than `limits.output` allows.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// Sixteen MiB in one emission.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    Ok(vec![Emission::bytes("shouted", "text/plain", vec![b'x'; 16 << 20])])
}
