//! The OpenAPI document and the pages that show it.

pub(crate) mod document;
pub(crate) mod pages;
pub(crate) mod problem_response;
