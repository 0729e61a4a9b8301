//! Emits an event that AMQP cannot carry. The body says which field is too long.

use std::time::Duration;

use trunkline_plugin::{Emission, Event, Failure, handler};

/// One valid emission and one invalid one.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let good = Emission::bytes("fine", "text/plain", Vec::new());
    let long = "k".repeat(300);
    let bad = match String::from_utf8_lossy(&event.data).trim_matches('"') {
        "type" => Emission::bytes(&long, "text/plain", Vec::new()),
        "no-type" => Emission::bytes("", "text/plain", Vec::new()),
        "content-type" => Emission::bytes("long", &long, Vec::new()),
        "routing-key" => good.clone().routing_key(long),
        "attribute-name" => good.clone().attribute(long, "value"),
        "reserved-name" => good.clone().attribute("x-death", "value"),
        "huge-name" => good.clone().attribute("n".repeat(4 << 20), "value"),
        "attributes" => good.clone().attribute("a", "v".repeat(200_000)),
        "subject" => good.clone().subject("s".repeat(200_000)),
        "many-attributes" => (0..5_000).fold(good.clone(), |some, n| some.attribute(format!("a{n}"), "v".repeat(20))),
        "dedupe-key" => return Ok(vec![good.clone().dedupe_key("same"), good.dedupe_key("same")]),
        "deliver-after" => good.clone().deliver_after(Duration::from_secs(31 * 24 * 3600)),
        "reason" => return Err(Failure::reject("r".repeat(4 << 20))),
        other => return Err(Failure::reject(format!("there is no field {other:?}"))),
    };
    Ok(vec![good, bad])
}
