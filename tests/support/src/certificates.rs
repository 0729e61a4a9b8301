//! Certificates for the tests, made by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Complete settings of `openssl`, independent of the machine's own file.
const SETTINGS: &str = "
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth, clientAuth
";

/// A CA: `NAME.pem` and `NAME.key` in a directory, and the certificates that it issues beside them.
pub struct CertificateAuthority {
    dir: PathBuf,
    name: String,
}

impl CertificateAuthority {
    /// Makes a CA. Names are words without white space.
    ///
    /// # Panics
    /// When `openssl` cannot be run or fails.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        std::fs::write(dir.join("openssl.cnf"), SETTINGS).expect("a file");
        let authority = Self { dir: dir.to_owned(), name: name.to_owned() };
        authority.key(name);
        authority.openssl(&format!(
            "req -x509 -days 2 -config openssl.cnf -extensions ca -subj /CN={name} -key {name}.key -out {name}.pem"
        ));
        authority
    }

    /// Makes `NAME.pem` and `NAME.key`, for a server on `localhost` and `127.0.0.1` or for a client.
    ///
    /// # Panics
    /// When `openssl` fails.
    pub fn issue(&self, name: &str) {
        self.issue_for(name, "DNS:localhost,IP:127.0.0.1", 2);
    }

    /// Like [`CertificateAuthority::issue`], for one host (`DNS:NAME`) and a number of days. A negative number makes an expired
    /// certificate.
    ///
    /// # Panics
    /// When `openssl` fails.
    pub fn issue_for(&self, name: &str, host: &str, days: i32) {
        let ca = &self.name;
        let leaf = format!("{name}.cnf");
        let settings = SETTINGS.replace("DNS:localhost, IP:127.0.0.1", host);
        std::fs::write(self.dir.join(&leaf), settings).expect("a file");
        self.key(name);
        self.openssl(&format!("req -new -config openssl.cnf -subj /CN={name} -key {name}.key -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -days {days} -extfile {leaf} -extensions leaf -in {name}.csr -CA {ca}.pem -CAkey {ca}.key \
             -CAcreateserial -out {name}.pem"
        ));
    }

    fn key(&self, name: &str) {
        self.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.dir).output();
        let output = output.expect("the openssl command can be run");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
