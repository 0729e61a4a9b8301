//! PEM files (RFC 7468), read with the reader of rustls.
//!
//! Errors name the problem and never show the content.

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use trunkline_event::without_byte_order_mark;

/// Header of an encrypted key in the forms before PKCS#8 (RFC 1421).
const ENCRYPTED_HEADER: &str = "Proc-Type: 4,ENCRYPTED";

/// The certificates of a file in its order, at least one.
///
/// # Errors
/// The problem, as the end of a sentence that begins with the file.
pub fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let content = trimmed(content);
    // The reader fails once for the header of each encrypted key, and reads on. Every other failure is a damaged block.
    let mut encrypted_keys = content.matches(ENCRYPTED_HEADER).count();
    let mut certificates = Vec::new();
    for read in CertificateDer::pem_slice_iter(content.as_bytes()) {
        match read {
            Ok(certificate) => certificates.push(certificate),
            Err(Error::Base64Decode(_)) if encrypted_keys > 0 => encrypted_keys -= 1,
            Err(error) => return Err(problem(&error, "certificate")),
        }
    }
    if certificates.is_empty() { Err(problem(&Error::NoItemsFound, "certificate")) } else { Ok(certificates) }
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC 1.
///
/// # Errors
/// The problem, as the end of a sentence that begins with the file.
pub fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let content = trimmed(content);
    PrivateKeyDer::from_pem_slice(content.as_bytes()).map_err(|error| match is_encrypted(&content) {
        true => "contains an encrypted private key; decrypt the key with `openssl pkey -in OLD -out NEW`".to_owned(),
        false => problem(&error, "private key"),
    })
}

/// The lines without spaces around them: the reader takes a block only at the beginning of a line, and files are pasted with an
/// indent.
fn trimmed(content: &[u8]) -> String {
    String::from_utf8_lossy(without_byte_order_mark(content)).lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// PKCS#8 names the encryption in its label, the older forms in a header.
fn is_encrypted(content: &str) -> bool {
    content.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || content.contains(ENCRYPTED_HEADER)
}

fn problem(error: &Error, wanted: &str) -> String {
    match error {
        Error::MissingSectionEnd { .. } => "ends in the middle of a PEM block; copy the complete file again".to_owned(),
        Error::IllegalSectionStart { .. } | Error::Base64Decode(_) => {
            "contains a damaged PEM block; copy the complete file again".to_owned()
        }
        Error::Io(_) | Error::NoItemsFound | Error::SectionTooLarge | _ => {
            let label = wanted.to_uppercase();
            format!("contains no {wanted} in the PEM format; name a file with a line such as -----BEGIN {label}-----")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "subject=/CN=a\n-----BEGIN CERTIFICATE-----\r\nb25l\r\n-----END CERTIFICATE-----\r\n\n\
                         -----BEGIN CERTIFICATE-----\n  dHdv\nZQ==\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_with_text_around_and_lines_of_windows() {
        let read = certificates(CHAIN.as_bytes()).expect("two certificates");
        let read = read.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>();
        assert_eq!(read, [&b"one"[..], b"twoe"]);
    }

    #[test]
    fn an_indented_file_is_read() {
        let indented = CHAIN.lines().map(|line| format!("    {line}\n")).collect::<String>();
        assert_eq!(certificates(indented.as_bytes()).expect("two certificates").len(), 2);
        let key = "  -----BEGIN PRIVATE KEY-----\n  a2V5\n  -----END PRIVATE KEY-----\n";
        assert_eq!(private_key(key.as_bytes()).expect("a key").secret_der(), b"key");
    }

    /// A chain must not get shorter in silence.
    #[test]
    fn an_encrypted_key_hides_no_damaged_certificate() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nc2VjcmV0\n\
                   -----END RSA PRIVATE KEY-----\n";
        assert_eq!(certificates(format!("{key}{CHAIN}").as_bytes()).expect("two certificates").len(), 2);
        let damaged = "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n";
        for text in [format!("{key}{CHAIN}{damaged}"), format!("{CHAIN}{damaged}{key}")] {
            let problem = certificates(text.as_bytes()).expect_err("a damaged certificate");
            assert!(problem.contains("a damaged PEM block"), "{problem}");
        }
    }

    #[test]
    fn keys_of_every_form_after_parameters_and_certificates() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let parameters = "-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n";
            let text = format!("{CHAIN}{parameters}-----BEGIN {label}-----\na2V5\n-----END {label}-----\n");
            assert_eq!(private_key(text.as_bytes()).expect(label).secret_der(), b"key", "{label}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_content() {
        let block = |label: &str, inside: &str| format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n");
        let old_form = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nc2VjcmV0");
        for (text, certificate, key) in [
            (String::new(), "contains no certificate", "contains no private key"),
            ("\u{0}\u{1}".to_owned(), "contains no certificate", "contains no private key"),
            (CHAIN[..60].to_owned(), "in the middle of a PEM block", "in the middle of a PEM block"),
            (block("CERTIFICATE", "hunter2!"), "a damaged PEM block", "a damaged PEM block"),
            (block("PRIVATE KEY", "hunter2!"), "a damaged PEM block", "a damaged PEM block"),
            (block("ENCRYPTED PRIVATE KEY", "c2VjcmV0"), "no certificate", "an encrypted private key"),
            (block("OPENSSH PRIVATE KEY", "c2VjcmV0"), "contains no certificate", "contains no private key"),
            (old_form, "no certificate", "an encrypted private key"),
        ] {
            let problems = [certificates(text.as_bytes()).map(drop), private_key(text.as_bytes()).map(drop)];
            for (problem, expected) in problems.into_iter().zip([certificate, key]) {
                let problem = problem.expect_err(expected);
                assert!(problem.contains(expected) && !problem.contains("hunter2"), "{text}: {problem}");
            }
        }
    }
}
