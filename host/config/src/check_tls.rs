//! `[broker] tls`: whom to trust, and what to show of ourselves.

use std::path::{Path, PathBuf};

use super::checked::{Identity, Tls};
use super::codes::Code;
use super::diagnostics::Place;
use super::pem;
use super::walk::{At, Context, Table, Text};

/// Reads the table, and the files it names, so that a mistake shows now and not when the broker is called.
pub(super) fn read(cx: &mut Context<'_>, broker: &Table<'_>, directory: &Path) -> Option<At<Tls>> {
    let table = broker.table(cx, "tls")?;
    table.check_keys(cx, &["ca", "cert", "key"], &[]);
    let certificates = |content: &[u8]| pem::certificates(content).map(drop);
    let ca = file(cx, &table, "ca", directory, certificates);
    let cert = file(cx, &table, "cert", directory, certificates);
    let key = file(cx, &table, "key", directory, |content| pem::private_key(content).map(drop));
    for (one, other, example) in [("cert", "key", "key = \"client.key\""), ("key", "cert", "cert = \"client.pem\"")] {
        if table.has(one) && !table.has(other) {
            cx.error(Code::MissingKey, &table.key_place(one), format!("`{one}` in `tls` has no `{other}` beside it"))
                .help(format!("write `{example}`"));
        }
    }
    let identity = cert.zip(key).map(|(cert, key)| Identity { cert, key });
    Some(At::new(Tls { ca, identity }, table.place))
}

/// The path under that key, absolute; `None` after it was reported that the file is of no use.
fn file(
    cx: &mut Context<'_>,
    table: &Table<'_>,
    key: &str,
    directory: &Path,
    check: impl Fn(&[u8]) -> Result<(), String>,
) -> Option<PathBuf> {
    let text = table.text(cx, key)?;
    let path = directory.join(&text.value);
    let read = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
    let problem = match read.and_then(|content| check(&content)) {
        Ok(()) => return Some(path),
        Err(problem) => problem,
    };
    let finding = cx.error(Code::TlsFile, &text.place, format!("the file of `{key}` {problem}"));
    if problem.contains("encrypted") {
        finding.help("decrypt it with `openssl pkey -in OLD -out NEW`");
    }
    None
}

/// A table that asks for TLS and a URL that goes without it: one of them is not meant, and guessing which would be a
/// connection in clear text.
pub(super) fn refuse_plain(cx: &mut Context<'_>, tls: &At<Tls>, url: &Text) {
    if !url.value.starts_with("amqp://") {
        return;
    }
    let (source, help) = match url.place {
        Place::File(_) => ("`url`", "write amqps:// there (its usual port is 5671), or remove `tls`"),
        Place::Variable("RABBITMQ_HOST") => ("RABBITMQ_HOST", "set RABBITMQ_URL=amqps://USER:PASSWORD@HOST:5671/VHOST"),
        Place::Variable(name) | Place::Flag(name) => (name, "make it amqps:// (its usual port is 5671)"),
    };
    let message = format!("`tls` needs an amqps:// URL, but {source} gives an amqp:// one, which is not encrypted");
    cx.error(Code::BrokerUrl, &tls.place, message).also(&url.place, "not encrypted").help(help);
}
