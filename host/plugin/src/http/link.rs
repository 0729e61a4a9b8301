//! The interface in a plugin's linker.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::bindings::http::types::{DnsErrorPayload, ErrorCode, IoError};

use crate::host::Host;

/// As wasmtime-wasi-http 48 defines it; a test that reads a body which stops notices when that changes.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Links `outgoing-handler` and `types`. One function of theirs is our own: when a body breaks off, theirs looks for an
/// error of the interface where there is one of the library, and the plugin would never hear why.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let error_code = |store: StoreContextMut<'_, Host>, (error,): (Resource<IoError>,)| {
        let error = store.data().table.get(&error)?;
        Ok((error.downcast_ref::<ErrorCode>().cloned().or_else(|| error.downcast_ref().map(code)),))
    };
    linker.instance(TYPES)?.func_wrap("http-error-code", error_code)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What a request or a body of ours ends with, in the words of the interface; anything else is a broken connection.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended; ours are these")]
pub(super) fn code(error: &HttpError) -> ErrorCode {
    match error {
        HttpError::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        HttpError::DnsTimeout => ErrorCode::DnsTimeout,
        HttpError::DnsError { rcode, info_code } => {
            ErrorCode::DnsError(DnsErrorPayload { rcode: rcode.clone(), info_code: *info_code })
        }
        HttpError::DestinationNotFound => ErrorCode::DestinationNotFound,
        HttpError::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        HttpError::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        HttpError::ConnectionRefused => ErrorCode::ConnectionRefused,
        HttpError::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        HttpError::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        HttpError::TlsProtocolError => ErrorCode::TlsProtocolError,
        HttpError::TlsCertificateError => ErrorCode::TlsCertificateError,
        HttpError::ConfigurationError => ErrorCode::ConfigurationError,
        HttpError::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        HttpError::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(*bytes),
        HttpError::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(*bytes),
        HttpError::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        HttpError::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        _ => ErrorCode::HttpResponseIncomplete,
    }
}
