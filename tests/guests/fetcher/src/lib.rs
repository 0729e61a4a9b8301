//! Makes the HTTP requests that the event lists, and emits the results.

use std::time::Duration;

use serde::Deserialize;
use trunkline_plugin::http::Request;
use trunkline_plugin::json::json;
use trunkline_plugin::{Emission, Event, Failure, handler};

#[derive(Deserialize)]
struct Wish {
    url: String,
    method: Option<String>,
    headers: Option<Vec<(String, String)>>,
    upload_bytes: Option<usize>,
    timeout_ms: Option<u64>,
    /// Follows this many redirects in the plugin.
    follow: Option<u32>,
    /// Returns the error of the request as the plugin's own failure.
    fail: Option<bool>,
    /// Opens this many requests at a time.
    burst: Option<u32>,
}

/// One `fetched` for each listed request.
#[handler(description = "Makes requests", emits = ["fetched"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let wish: Wish = event.json()?;
    if let Some(count) = wish.burst {
        return Ok(vec![Emission::json("fetched", &json!({ "burst": burst(&wish.url, count) }))?]);
    }
    let mut request = Request::new(wish.method.as_deref().unwrap_or("GET"), &wish.url);
    for (name, value) in wish.headers.iter().flatten() {
        request = request.header(name, value);
    }
    if let Some(length) = wish.upload_bytes {
        request = request.body("text/plain", vec![b'u'; length]);
    }
    if let Some(ms) = wish.timeout_ms {
        request = request.timeout(Duration::from_millis(ms));
    }
    let mut left = wish.follow.unwrap_or(0);
    let answer = loop {
        let answer = request.send();
        let next = answer.as_ref().ok().filter(|answer| (300..400).contains(&answer.status) && left > 0);
        let Some(location) = next.and_then(|answer| answer.header("location")) else { break answer };
        left -= 1;
        request.url = location.to_owned();
    };
    let told = match answer {
        Ok(answer) => json!({
            "status": answer.status,
            "bytes": answer.body.len(),
            "body": String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]),
        }),
        Err(error) if wish.fail == Some(true) => return Err(error.into()),
        Err(error) => json!({ "error": error.to_string() }),
    };
    Ok(vec![Emission::json("fetched", &told)?])
}

/// The number of requests that were accepted while all are open, and the number that were not.
#[cfg(target_family = "wasm")]
fn burst(url: &str, count: u32) -> [u32; 2] {
    use wasip2::http::outgoing_handler;
    use wasip2::http::types::{Fields, OutgoingRequest, Scheme};
    let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let open = (0..count).map(|_| {
        let request = OutgoingRequest::new(Fields::new());
        request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
        request.set_authority(Some(authority)).expect("an authority");
        request.set_path_with_query(Some("/")).expect("a path");
        outgoing_handler::handle(request, None).expect("a request")
    });
    let (mut taken, mut refused, mut answers) = (0, 0, Vec::new());
    for future in open.collect::<Vec<_>>() {
        future.subscribe().block();
        match future.get() {
            Some(Ok(Ok(answer))) => {
                taken += 1;
                answers.push(answer);
            }
            _ => refused += 1,
        }
    }
    [taken, refused]
}

#[cfg(not(target_family = "wasm"))]
fn burst(_: &str, _: u32) -> [u32; 2] {
    [0, 0]
}
