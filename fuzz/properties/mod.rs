//! Properties of the gate in front of lapin that hold for any input. Every property takes the bytes of a fuzzer.

mod inbound;
mod outbound;
mod wire;

pub use inbound::{inbound_bytes, inbound_frames};
pub use outbound::outbound_frames;

/// Panics when the property does not hold.
pub type Property = fn(&[u8]);

/// Every property by name.
pub const ALL: [(&str, Property); 3] =
    [("inbound_frames", inbound_frames), ("inbound_bytes", inbound_bytes), ("outbound_frames", outbound_frames)];
