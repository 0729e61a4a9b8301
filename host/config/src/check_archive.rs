//! `archive` of a route: where its events are kept, instead of a plugin that runs.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::check_grants;
use super::checked_routes::{Archive, ArchivePlace, ObjectStore};
use super::codes::Code;
use super::grants::Secret;
use super::walk::{Context, Table, Text};

const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);
/// An object a batch: a bucket with an object for every event would be slow to read and dear to keep.
const OBJECTS_WAIT: Duration = Duration::from_secs(5);
const FILE: RangeInclusive<u64> = 64 << 10..=64 << 30;
const FILE_MAX_BYTES: u64 = 64 << 20;
const EXAMPLE: &str = "write { dir = \"archive\" } or { url = \"s3://BUCKET/PREFIX\" }";

/// `{dir = "archive", max-file = "64MiB"}`, or `{url = "s3://BUCKET/PREFIX", endpoint, region, access-key, secret-key}`;
/// both with `wait`.
pub(super) fn read(cx: &mut Context<'_>, route: &Table<'_>, directory: &Path) -> Option<Archive> {
    let table = route.table(cx, "archive")?;
    let keys = ["dir", "max-file", "url", "endpoint", "region", "access-key", "secret-key", "wait"];
    table.check_keys(cx, &keys, &[]);
    let wait = table.duration(cx, "wait", &WAIT).map(|at| at.value);
    let file_max_bytes = table.size(cx, "max-file", &FILE).map_or(FILE_MAX_BYTES, |at| at.value);
    let place = match (table.text(cx, "dir"), table.text(cx, "url")) {
        (Some(dir), None) => {
            for key in ["endpoint", "region", "access-key", "secret-key"].into_iter().filter(|key| table.has(key)) {
                let message = format!("`{key}` belongs to `url`, not to `dir`");
                cx.error(Code::BadArchive, &table.key_place(key), message).help("remove it");
            }
            ArchivePlace::Folder(directory.join(dir.value))
        }
        (None, Some(url)) => {
            if table.has("max-file") {
                let message = "`max-file` belongs to `dir`: each object is one batch";
                cx.error(Code::BadArchive, &table.key_place("max-file"), message).help("remove it");
            }
            ArchivePlace::Objects(objects(cx, &table, &url, directory)?)
        }
        (Some(_), Some(_)) => {
            let message = format!("{} has both `dir` and `url`", table.title);
            cx.error(Code::BadArchive, &table.place, message).help("keep one");
            return None;
        }
        (None, None) if table.has("dir") || table.has("url") => return None,
        (None, None) => {
            let message = format!("{} has neither `dir` nor `url`", table.title);
            cx.error(Code::MissingKey, &table.place, message).help(EXAMPLE);
            return None;
        }
    };
    let default = match &place {
        ArchivePlace::Folder(_) => Duration::ZERO,
        ArchivePlace::Objects(_) => OBJECTS_WAIT,
    };
    Some(Archive { place, wait: wait.unwrap_or(default), file_max_bytes })
}

fn objects(cx: &mut Context<'_>, table: &Table<'_>, url: &Text, directory: &Path) -> Option<ObjectStore> {
    let (bucket, prefix) = match url.value.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    {
        Some((bucket, prefix)) if !bucket.is_empty() => (bucket.to_owned(), prefix.trim_matches('/').to_owned()),
        Some(_) | None => {
            let message = format!("`url` is {}, not s3://BUCKET/PREFIX", url.shown());
            cx.error(Code::BadArchive, &url.place, message).help(EXAMPLE);
            return None;
        }
    };
    let endpoint = table.text(cx, "endpoint").filter(|text| {
        let is_url = text.value.starts_with("http://") || text.value.starts_with("https://");
        if !is_url {
            let message = format!("`endpoint` is {}, not an http or https URL", text.shown());
            cx.error(Code::BadArchive, &text.place, message).help("write \"https://s3.example.com\"");
        }
        is_url
    });
    let mut key = |name: &str| -> Option<Result<Secret, String>> {
        let source = table.table(cx, name)?;
        check_grants::secret(cx, &source, directory)
    };
    let (access_key, secret_key) = (key("access-key"), key("secret-key"));
    let region = table.text(cx, "region").map(|text| text.value);
    Some(ObjectStore { bucket, prefix, endpoint: endpoint.map(|text| text.value), region, access_key, secret_key })
}
