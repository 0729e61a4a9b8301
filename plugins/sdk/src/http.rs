//! Requests to the origins of `allow.http` in `[plugins.NAME]` (`wasi:http/outgoing-handler`). The host follows no
//! redirects, and the plugin gets the 3xx response. The host checks a request that follows a redirect like any other
//! request.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, for example `GET` or `POST`.
    pub method: String,
    /// URL with scheme, host, path and query, and with the port if the port is not the default.
    pub url: String,
    /// Names and values of headers. The host sets `host` and the headers of the connection, and refuses these headers
    /// here.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body: Vec<u8>,
    /// Time limit for connecting, for the first byte, and between bytes. The time limit of the call also holds.
    pub timeout: Option<Duration>,
}

/// An HTTP response of any status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names of headers in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body, at most `limits.http-body`.
    pub body: Vec<u8>,
}

/// Reason why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request is not granted or not valid. Every attempt would fail.
    Refused(String),
    /// The response did not arrive in time.
    Timeout,
    /// The body of the response is larger than `limits.http-body`.
    TooLarge,
    /// The network, TLS or the server failed.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the request is refused: {why}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLarge => f.write_str("larger than limits.http-body"),
            Self::Failed(why) => write!(f, "the request failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    /// `Refused` and `TooLarge` become rejections. All other errors become retries.
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(_) | Error::TooLarge => Self::reject(error.to_string()),
            Error::Timeout | Error::Failed(_) => Self::retry(error.to_string()),
        }
    }
}

impl Request {
    /// Creates a request without headers and body.
    #[must_use]
    pub fn new(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Creates a `GET` request.
    #[must_use]
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// Creates a `POST` request.
    #[must_use]
    pub fn post(url: &str) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body and its media type.
    #[must_use]
    pub fn body(self, content_type: &str, body: Vec<u8>) -> Self {
        Self { body, ..self }.header("content-type", content_type)
    }

    /// Sets a value as the JSON body.
    ///
    /// # Errors
    /// Returns a rejection when the value has no JSON form.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| Failure::reject(format!("{}: {error}", self.url)))?;
        Ok(self.body("application/json", body))
    }

    /// Sets the time limit of each step.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends the request and reads the whole response.
    ///
    /// # Errors
    /// Returns the reason why the request has no response. A response of any status is not an error.
    pub fn send(&self) -> Result<Response, Error> {
        backend::send(self)
    }
}

impl Response {
    /// Returns the value of a header, by the header's name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Deserialises the body.
    ///
    /// # Errors
    /// Returns a retry when the body is not JSON of the type, because the server may be repaired.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // Some servers write a byte order mark before JSON.
        serde_json::from_slice(self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body))
            .map_err(|error| Failure::retry(format!("the answer is not the expected JSON: {error}")))
    }

    /// Returns the response if its status is 2xx.
    ///
    /// # Errors
    /// Returns a retry for the status 408, 425, 429 or 5xx, with the wait of `retry-after`. Returns a rejection for any
    /// other status.
    pub fn ok(self) -> Result<Self, Failure> {
        let said = format!("the server answered {}", self.status);
        match self.status {
            200..=299 => Ok(self),
            _ if self.is_passing() => Err(Failure::Retry { reason: said, after: self.retry_after() }),
            _ => Err(Failure::reject(said)),
        }
    }

    /// Returns whether the status is 408, 425, 429 or 5xx. The server may answer the same request later with another
    /// status.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..=599)
    }

    /// Returns the wait that the server requests in `retry-after`. The function reads only seconds, not dates.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

/// Sends a `GET` request and reads a JSON response.
///
/// # Errors
/// Fails as [`Request::send`], [`Response::ok`] and [`Response::json`] do.
pub fn get_json<T: DeserializeOwned>(url: &str, timeout: Duration) -> Result<T, Failure> {
    Request::get(url).header("accept", "application/json").timeout(timeout).send()?.ok()?.json()
}

/// Sends a `POST` request with a JSON body and reads a JSON response.
///
/// # Errors
/// Fails as [`get_json`] does.
pub fn post_json<T: Serialize, A: DeserializeOwned>(url: &str, value: &T, timeout: Duration) -> Result<A, Failure> {
    Request::post(url).json(value)?.header("accept", "application/json").timeout(timeout).send()?.ok()?.json()
}

#[cfg(target_family = "wasm")]
mod backend {
    use wasip2::http::outgoing_handler;
    use wasip2::http::types::{
        ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
        Scheme, http_error_code,
    };
    use wasip2::io::streams::StreamError;

    use super::{Error, Request, Response};

    /// The largest write that `wasi:io` allows.
    const WRITE_MAX_BYTES: usize = 4096;
    const READ_BYTES: u64 = 64 * 1024;

    fn error(code: &ErrorCode) -> Error {
        match code {
            ErrorCode::HttpRequestDenied => Error::Refused("the origin is not granted".to_owned()),
            ErrorCode::DestinationIpProhibited => Error::Refused("the address is not public".to_owned()),
            ErrorCode::HttpRequestBodySize(_) | ErrorCode::HttpResponseBodySize(_) => Error::TooLarge,
            ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout
            | ErrorCode::DnsTimeout => Error::Timeout,
            other => Error::Failed(format!("{other:?}")),
        }
    }

    fn refused(why: &str) -> Error {
        Error::Refused(why.to_owned())
    }

    fn stream(problem: StreamError) -> Error {
        match problem {
            StreamError::Closed => Error::Failed("the connection closed".to_owned()),
            StreamError::LastOperationFailed(cause) => match http_error_code(&cause) {
                Some(code) => error(&code),
                None => Error::Failed(cause.to_debug_string()),
            },
        }
    }

    fn method(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        }
    }

    /// Scheme, authority, and path with query.
    fn parts(url: &str) -> Result<(Scheme, &str, &str), Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("a URL without a scheme"))?;
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            other => Scheme::Other(other.to_owned()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        Ok((scheme, &rest[..end], &rest[end..]))
    }

    fn outgoing(request: &Request) -> Result<OutgoingRequest, Error> {
        let fields = Fields::new();
        for (name, value) in &request.headers {
            fields
                .append(name, value.as_bytes())
                .map_err(|problem| Error::Refused(format!("header {name}: {problem}")))?;
        }
        let length = request.body.len();
        if length > 0 {
            let value = length.to_string();
            fields.append("content-length", value.as_bytes()).map_err(|problem| Error::Refused(problem.to_string()))?;
        }
        let (scheme, authority, path) = parts(&request.url)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let outgoing = OutgoingRequest::new(fields);
        outgoing.set_method(&method(&request.method)).map_err(|()| refused("no method"))?;
        outgoing.set_scheme(Some(&scheme)).map_err(|()| refused("no scheme"))?;
        outgoing.set_authority(Some(authority)).map_err(|()| refused("no host"))?;
        outgoing.set_path_with_query(Some(&path)).map_err(|()| refused("no path"))?;
        Ok(outgoing)
    }

    pub(super) fn send(request: &Request) -> Result<Response, Error> {
        let outgoing = outgoing(request)?;
        let options = RequestOptions::new();
        if let Some(timeout) = request.timeout {
            let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            let set = options
                .set_connect_timeout(Some(nanoseconds))
                .and_then(|()| options.set_first_byte_timeout(Some(nanoseconds)))
                .and_then(|()| options.set_between_bytes_timeout(Some(nanoseconds)));
            set.map_err(|()| refused("timeouts are not supported"))?;
        }
        let body = outgoing.body().map_err(|()| refused("no body"))?;
        let future = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| error(&code))?;
        // An answer that came before the whole body was sent says more than the failed write.
        let written = write(body, &request.body);
        future.subscribe().block();
        match future.get() {
            Some(Ok(Ok(response))) => read(&response),
            Some(Ok(Err(code))) => Err(error(&code)),
            Some(Err(())) | None => Err(written.err().unwrap_or_else(|| Error::Failed("no answer".to_owned()))),
        }
    }

    fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), Error> {
        {
            let out = body.write().map_err(|()| refused("no body"))?;
            for part in bytes.chunks(WRITE_MAX_BYTES) {
                out.blocking_write_and_flush(part).map_err(stream)?;
            }
        }
        OutgoingBody::finish(body, None).map_err(|code| error(&code))
    }

    fn read(response: &IncomingResponse) -> Result<Response, Error> {
        let headers = response.headers().entries();
        let headers = headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
        let headers = headers.collect();
        let status = response.status();
        let body: IncomingBody = response.consume().map_err(|()| refused("the body is gone"))?;
        let mut bytes = Vec::new();
        let input = body.stream().map_err(|()| refused("the body is gone"))?;
        loop {
            match input.blocking_read(READ_BYTES) {
                Ok(part) => bytes.extend_from_slice(&part),
                Err(StreamError::Closed) => break,
                Err(problem) => return Err(stream(problem)),
            }
        }
        Ok(Response { status, headers, body: bytes })
    }
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::server as backend;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Value, json};
    use crate::testing;

    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn the_fake_answers() {
        assert!(matches!(Request::get("http://a.example/").send(), Err(Error::Refused(_))), "no fake server is set");
        testing::set_http(|request| match request.url.as_str() {
            "http://a.example/echo" => Ok(Response { status: 200, body: request.body.clone(), ..Response::default() }),
            "http://a.example/busy" => Ok(Response { status: 503, ..Response::default() }),
            "http://a.example/flood" => {
                let headers = vec![("retry-after".to_owned(), "7".to_owned())];
                Ok(Response { status: 429, headers, ..Response::default() })
            }
            "http://a.example/gone" => Ok(Response { status: 410, ..Response::default() }),
            _ => Err(Error::Timeout),
        });
        let answer = post_json::<_, Value>("http://a.example/echo", &json!({ "n": 1 }), SOON);
        assert_eq!(answer, Ok(json!({ "n": 1 })));
        let failure = |path: &str| get_json::<Value>(&format!("http://a.example/{path}"), SOON).expect_err(path);
        assert_eq!(failure("busy"), Failure::retry("the server answered 503"));
        assert_eq!(failure("flood"), Failure::retry_after("the server answered 429", Duration::from_secs(7)));
        assert_eq!(failure("gone"), Failure::reject("the server answered 410"));
        assert_eq!(failure("slow"), Failure::retry("no answer in time"));
    }
}
