//! Errors of the HTTP client as error codes of `wasi:http`.

use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::bindings::http::types::{DnsErrorPayload, ErrorCode};

/// The error code of an error that the HTTP client makes. Any other error is a broken connection.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended; the HTTP client makes these")]
pub(crate) fn code(error: &HttpError) -> ErrorCode {
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
