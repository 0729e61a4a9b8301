//! Emits a routing key that AMQP does not allow.

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One good emission and one bad.
#[handler]
fn handle(_event: Event) -> Result<Vec<Emission>, Failure> {
    let good = Emission::bytes("fine", "text/plain", Vec::new());
    Ok(vec![good.clone(), good.routing_key("k".repeat(300))])
}
