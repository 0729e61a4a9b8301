//! Gives its secret away in every possible way.

use trunkline_plugin::{Emission, Event, Failure, config, handler, log};

/// Logs and prints the secret, and then follows the event's data.
#[handler(description = "Tells its secret", emits = ["told"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let secret = config::get("TOKEN").ok_or_else(|| Failure::reject("there is no TOKEN"))?;
    let key = config::get("KEY").unwrap_or_default();
    log::info(&format!("the token is {secret} and {secret:?}, the key {key}"));
    println!("out {secret}");
    println!("{key}");
    eprintln!("err {secret}");
    let way: String = event.json()?;
    match way.as_str() {
        "reject" => Err(Failure::reject(format!("no, because {secret}"))),
        "retry" => Err(Failure::retry(format!("later, because {secret}"))),
        "long" => Err(Failure::reject(format!("{}{secret}", "x".repeat(1010)))),
        "panic" => panic!("because {secret}"),
        "flood" => {
            // The kept end of the log begins within one of these lines.
            (0..300).for_each(|_| eprintln!("{secret}"));
            panic!("flooded")
        }
        "key" => Ok(vec![Emission::bytes("told", "text/plain", Vec::new()).routing_key(format!("k.{secret}"))]),
        "name" => Ok(vec![Emission::bytes("told", "text/plain", Vec::new()).attribute(secret, "x")]),
        _ => Ok(vec![Emission::bytes("told", "text/plain", secret.len().to_string().into_bytes())]),
    }
}
