//! The problem document of one status, as a response of a path.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Type};

use crate::problem;

/// The problem document of the status `STATUS`.
pub(crate) enum ProblemResponse<const STATUS: u16> {}

impl<const STATUS: u16> IntoResponses for ProblemResponse<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let (title, meaning) = problem::code_of(STATUS).map_or(("", ""), |known| (known.title, known.meaning));
        let example = serde_json::json!({
            "type": format!("urn:trunkline:problem:TL{STATUS}"),
            "title": title,
            "status": STATUS,
            "detail": "the error of this request",
            "code": format!("TL{STATUS}"),
        });
        let schema = Some(Ref::from_schema_name("Problem"));
        let content = ContentBuilder::new().schema(schema).example(Some(example)).build();
        let mut response = ResponseBuilder::new()
            .description(format!("TL{STATUS}, {title}. {meaning}"))
            .content("application/problem+json", content);
        let header = |kind: Type, text: &str| {
            let schema = ObjectBuilder::new().schema_type(kind).build();
            HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
        };
        if STATUS == 401 {
            response = response.header("WWW-Authenticate", header(Type::String, "`Bearer`"));
        }
        if STATUS == 415 {
            let text = "Codings that the daemon decodes, if `Content-Encoding` is the cause";
            response = response.header("Accept-Encoding", header(Type::String, text));
        }
        if matches!(STATUS, 503 | 507) {
            response = response.header("Retry-After", header(Type::Integer, "Seconds until another try may succeed"));
        }
        BTreeMap::from([(STATUS.to_string(), response.build().into())])
    }
}
