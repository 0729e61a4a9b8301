//! `tls` of `[broker]`: the files are read now, so that a mistake does not show at the first connection only.

use std::path::PathBuf;

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::model::broker::connection::{ClientCertificate, Tls};
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::raw::broker::RawTls;
use crate::pem;

pub(super) fn check(cx: &mut ReadContext<'_>, raw: &At<RawTls>) -> At<Tls> {
    let certificates = |content: &[u8]| pem::certificates(content).map(drop);
    let RawTls { ca, cert, key } = &raw.value;
    let ca = file(cx, ca.as_ref(), "ca", certificates);
    let cert = file(cx, cert.as_ref(), "cert", certificates);
    let key = file(cx, key.as_ref(), "key", |content| pem::private_key(content).map(drop));
    let identity = cert.zip(key).map(|(cert, key)| ClientCertificate { cert, key });
    At::new(Tls { ca, identity }, raw.place.clone())
}

/// The path, absolute; `None` after it was reported that the file cannot be used.
fn file(
    cx: &mut ReadContext<'_>,
    text: Option<&Text>,
    key: &str,
    check: impl Fn(&[u8]) -> Result<(), String>,
) -> Option<PathBuf> {
    let text = text?;
    let path = cx.path(&text.value);
    let read = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
    let problem = match read.and_then(|content| check(&content)) {
        Ok(()) => return Some(path),
        Err(problem) => problem,
    };
    cx.problem(Code::TlsFile, &text.place, &format!("the file of `{key}`"), &problem)
        .or_help("write a path such as \"tls/ca.pem\": a relative path is resolved from the directory of routes.toml");
    None
}

/// Refuses a table that asks for TLS together with a URL that goes without it. A guess which of them is meant could be a
/// connection in clear text.
pub(super) fn refuse_plain(cx: &mut ReadContext<'_>, tls: &At<Tls>, url: &Text) {
    if !url.value.starts_with("amqp://") {
        return;
    }
    let (source, help) = match url.place {
        ValuePlace::File(_) => ("`url`", "write `url = \"amqps://USER:PASSWORD@HOST:5671/VHOST\"`, or remove `tls`"),
        ValuePlace::Variable("RABBITMQ_HOST") => {
            ("RABBITMQ_HOST", "set RABBITMQ_URL=amqps://USER:PASSWORD@HOST:5671/VHOST")
        }
        ValuePlace::Variable(name) | ValuePlace::Flag(name) => (name, "write amqps://USER:PASSWORD@HOST:5671/VHOST"),
    };
    let message = format!("`tls` needs an amqps:// URL, but {source} has an amqp:// URL without encryption");
    cx.error(Code::BrokerUrl, &tls.place, message).also(&url.place, "not encrypted").help(help);
}
