//! `GET /api/v1/generation`, `POST /api/v1/reload`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Shared;

/// What runs, and how the last reloads ended.
#[derive(Debug, Clone, Serialize)]
pub struct GenerationView {
    /// Counts generations of this process, from 1; 0 while the first is loaded.
    pub number: u64,
    /// When it was taken over, RFC 3339.
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
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
pub struct ReloadView {
    /// When, RFC 3339.
    pub at: String,
    /// `watch`, `signal` or `api`
    pub by: &'static str,
    /// `swapped`, `unchanged` or `refused`
    pub result: &'static str,
    /// Why it was refused: each with message and, where known, code, file, line, column, help, plugin.
    pub errors: Vec<serde_json::Value>,
}

/// A reload that was not refused.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    /// `swapped` or `unchanged`
    pub result: &'static str,
    /// What runs now.
    pub generation: u64,
}

pub(super) async fn show(State(shared): State<Shared>) -> Json<GenerationView> {
    Json(shared.backend.generation())
}

pub(super) async fn reload(State(shared): State<Shared>) -> Response {
    match shared.backend.reload().await {
        Ok(reloaded) => Json(reloaded).into_response(),
        Err(problem) => problem.into_response(),
    }
}
