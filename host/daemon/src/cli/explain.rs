//! `trunkline explain`

use trunkline_config as config;

use super::exit;

/// Prints the paragraph of a code.
pub(super) fn run(code: &str) -> u8 {
    match config::explain(code).or_else(|| trunkline_http::explain(code)) {
        Some(text) => {
            println!("{code}: {text}");
            exit::OK
        }
        None => {
            eprintln!("error: the code {code:?} does not exist; write a code such as TL012");
            exit::USAGE
        }
    }
}
