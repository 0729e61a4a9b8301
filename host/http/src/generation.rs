//! `GET /api/v1/generation`, `POST /api/v1/reload`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::openapi::Answers;

/// What runs, and how the last reloads ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GenerationView {
    /// Counts generations of this process, from 1; 0 while the first is loaded.
    pub number: u64,
    /// When it was taken over, RFC 3339.
    #[schema(format = DateTime)]
    pub since: String,
    /// sha-256 over the texts of the configuration's files.
    pub config: String,
    /// The files that it was read from, and the directories they are looked for in.
    pub files: Vec<String>,
    /// By name.
    pub plugins: BTreeMap<String, PluginView>,
    /// The plugin of each route.
    pub routes: BTreeMap<String, String>,
    /// The last reload, if there was one.
    pub last_reload: Option<ReloadView>,
    /// The last reload that was refused.
    pub last_refusal: Option<ReloadView>,
}

/// A plugin of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PluginView {
    /// `ready`, `orphaned` (its file is gone; it runs on from memory) or `refused`.
    pub state: &'static str,
    /// sha-256 of its file when it was loaded.
    pub digest: Option<String>,
    /// What it says of itself.
    pub version: Option<String>,
    /// Why it does not run.
    pub error: Option<String>,
}

/// How a reload ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReloadView {
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// `watch`, `signal` or `api`
    pub by: &'static str,
    /// `swapped`, `unchanged` or `refused`
    pub result: &'static str,
    /// Why it was refused: each with message and, where known, code, file, line, column, help, plugin.
    pub errors: Vec<serde_json::Value>,
}

/// A reload that was not refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reloaded {
    /// `swapped` or `unchanged`
    pub result: &'static str,
    /// What runs now.
    pub generation: u64,
}

/// What runs
///
/// The number and digests of the generation, and how the last reload and the last refused one ended.
#[utoipa::path(
    get,
    path = "/api/v1/generation",
    tag = "operation",
    operation_id = "getGeneration",
    security((), ("token" = [])),
    responses((status = 200, description = "What runs", body = GenerationView), Answers<401>)
)]
pub(super) async fn show(State(shared): State<Shared>) -> Json<GenerationView> {
    Json(shared.backend.generation())
}

/// Read the files again
///
/// Swaps to what they say if all of it is good; if not, what runs goes on, and `errors` has every reason.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "operation",
    operation_id = "reload",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "Swapped, or nothing has changed", body = Reloaded),
        Answers<401>, Answers<409>, Answers<503>,
    )
)]
pub(super) async fn reload(State(shared): State<Shared>) -> Response {
    match shared.backend.reload().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(problem) => problem.into_response(),
    }
}
