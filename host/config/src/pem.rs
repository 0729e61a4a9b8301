//! PEM files (RFC 7468): what TLS takes from them, decoded.
//!
//! Errors say what is wrong with the file and never show what is in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const CERTIFICATE: &str = "CERTIFICATE";
/// PKCS#8, PKCS#1 and SEC 1.
const PRIVATE_KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// The certificates of a file as DER, in its order; one at least.
///
/// # Errors
/// What is wrong with the file.
pub fn certificates(content: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = String::from_utf8_lossy(content);
    let blocks = blocks(&text)?.into_iter().filter(|block| block.label == CERTIFICATE);
    let certificates = blocks.map(|block| block.decode()).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(certificates) }
}

/// The first private key of a file as DER.
///
/// # Errors
/// What is wrong with the file.
pub fn private_key(content: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(content);
    let blocks = blocks(&text)?;
    match blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")) {
        Some(block) if block.is_encrypted() => Err("holds a private key that is encrypted".to_owned()),
        Some(block) if PRIVATE_KEYS.contains(&block.label) => block.decode(),
        Some(_) | None => Err("holds no private key in PEM form".to_owned()),
    }
}

/// What stands between `-----BEGIN label-----` and `-----END label-----`.
struct Block<'t> {
    label: &'t str,
    lines: Vec<&'t str>,
}

impl Block<'_> {
    /// PKCS#8 says so in its label, the older forms in a header.
    fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED ") || self.lines.iter().any(|line| line.starts_with("Proc-Type:"))
    }

    fn decode(&self) -> Result<Vec<u8>, String> {
        STANDARD
            .decode(self.lines.concat())
            .map_err(|_| format!("holds a {} that is damaged", self.label.to_lowercase()))
    }
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut inside = Vec::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) => inside.push(line),
                None => return Err("ends in the middle of a block: it is cut off".to_owned()),
            }
        }
        blocks.push(Block { label, lines: inside });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "subject=/CN=a\n-----BEGIN CERTIFICATE-----\r\nb25l\r\n-----END CERTIFICATE-----\r\n\n\
                         -----BEGIN CERTIFICATE-----\n  dHdv\nZQ==\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_with_text_around_and_lines_of_windows() {
        assert_eq!(certificates(CHAIN.as_bytes()), Ok(vec![b"one".to_vec(), b"twoe".to_vec()]));
    }

    #[test]
    fn keys_of_every_form_after_parameters_and_certificates() {
        for label in PRIVATE_KEYS {
            let parameters = "-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n";
            let text = format!("{CHAIN}{parameters}-----BEGIN {label}-----\na2V5\n-----END {label}-----\n");
            assert_eq!(private_key(text.as_bytes()), Ok(b"key".to_vec()), "{label}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_content() {
        let block = |label: &str, inside: &str| format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n");
        let old_form = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nc2VjcmV0");
        for (text, certificate, key) in [
            (String::new(), "no certificate", "no private key"),
            ("\u{0}\u{1}".to_owned(), "no certificate", "no private key"),
            (CHAIN[..60].to_owned(), "cut off", "cut off"),
            (block("CERTIFICATE", "hunter2!"), "a certificate that is damaged", "no private key"),
            (block("PRIVATE KEY", "hunter2!"), "no certificate", "a private key that is damaged"),
            (block("ENCRYPTED PRIVATE KEY", "c2VjcmV0"), "no certificate", "that is encrypted"),
            (block("OPENSSH PRIVATE KEY", "c2VjcmV0"), "no certificate", "no private key"),
            (old_form, "no certificate", "that is encrypted"),
        ] {
            let problems = [certificates(text.as_bytes()).map(drop), private_key(text.as_bytes()).map(drop)];
            for (problem, expected) in problems.into_iter().zip([certificate, key]) {
                let problem = problem.expect_err(expected);
                assert!(problem.contains(expected) && !problem.contains("hunter2"), "{text}: {problem}");
            }
        }
    }
}
