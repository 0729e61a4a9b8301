//! `archive` of a route.

use std::time::Duration;

use crate::diagnostics::codes::Code;
use crate::keys::key::{Inner, Key};
use crate::keys::routes::archive::{ACCESS_KEY, DIR, ENDPOINT, MAX_FILE, REGION, SECRET_KEY, URL, WAIT};
use crate::keys::routes::route::ARCHIVE_TABLE;
use crate::keys::section::Listed;
use crate::parse::context::{ReadContext, Text};
use crate::parse::secret::RawSecret;
use crate::parse::table::Table;

const EXAMPLE: &str = "write `archive = { dir = \"archive\" }` or `archive = { url = \"s3://BUCKET/PREFIX\" }`";

#[derive(Debug, Clone)]
pub(crate) struct RawArchive {
    pub(crate) place: RawArchivePlace,
    pub(crate) wait: Option<Duration>,
    pub(crate) file_max_bytes: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum RawArchivePlace {
    Folder(Text),
    Objects(Box<RawObjectStore>),
}

#[derive(Debug, Clone)]
pub(crate) struct RawObjectStore {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) access_key: Option<RawSecret>,
    pub(crate) secret_key: Option<RawSecret>,
}

impl RawArchive {
    /// `{ dir, max-file }`, or `{ url, endpoint, region, access-key, secret-key }`; both with `wait`.
    pub(super) fn read(cx: &mut ReadContext<'_>, route: &Table<'_>) -> Option<Self> {
        let table = route.table(cx, &ARCHIVE_TABLE)?;
        let wait = table.duration(cx, &WAIT).map(|at| at.value);
        let file_max_bytes = table.size(cx, &MAX_FILE).map_or(MAX_FILE.fallback(), |at| at.value);
        let place = match (table.text(cx, &DIR), table.text(cx, &URL)) {
            (Some(dir), None) => {
                let of_url: [&dyn Listed; 4] = [&ENDPOINT, &REGION, &ACCESS_KEY, &SECRET_KEY];
                for key in of_url.into_iter().filter(|key| table.has(*key)) {
                    let message =
                        format!("`{}` has no effect with `dir`: the key is for an archive with `url`", key.name());
                    cx.error(Code::BadArchive, &table.key_place(key), message).help(format!("remove `{}`", key.name()));
                }
                RawArchivePlace::Folder(dir)
            }
            (None, Some(url)) => {
                if table.has(&MAX_FILE) {
                    let message = "`max-file` has no effect with `url`: every object contains one batch";
                    cx.error(Code::BadArchive, &table.key_place(&MAX_FILE), message).help("remove `max-file`");
                }
                RawArchivePlace::Objects(Box::new(RawObjectStore::read(cx, &table, &url)?))
            }
            (Some(_), Some(_)) => {
                let message = format!("{} has both `dir` and `url`", table.title);
                cx.error(Code::BadArchive, &table.place, message).help("remove `dir` or `url`");
                return None;
            }
            (None, None) if table.has(&DIR) || table.has(&URL) => return None,
            (None, None) => {
                let message = format!("{} has neither `dir` nor `url`", table.title);
                cx.error(Code::MissingKey, &table.place, message).help(EXAMPLE);
                return None;
            }
        };
        Some(Self { place, wait, file_max_bytes })
    }
}

impl RawObjectStore {
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>, url: &Text) -> Option<Self> {
        let rest = url.value.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let (bucket, prefix) = match rest {
            Some((bucket, prefix)) if !bucket.is_empty() => (bucket.to_owned(), prefix.trim_matches('/').to_owned()),
            Some(_) | None => {
                let message = format!("`url` is {}, but must be s3://BUCKET/PREFIX", url.shown());
                cx.error(Code::BadArchive, &url.place, message).help("write `url = \"s3://BUCKET/PREFIX\"`");
                return None;
            }
        };
        let endpoint = table.text(cx, &ENDPOINT).filter(|text| {
            let is_url = text.value.starts_with("http://") || text.value.starts_with("https://");
            if !is_url {
                let message = format!("`endpoint` is {}, but must be a URL with http:// or https://", text.shown());
                cx.error(Code::BadArchive, &text.place, message)
                    .help("write the URL of the object storage, such as `endpoint = \"https://s3.example.com\"`");
            }
            is_url
        });
        Some(Self {
            bucket,
            prefix,
            endpoint: endpoint.map(|text| text.value),
            region: table.text(cx, &REGION).map(|text| text.value),
            access_key: secret(cx, table, &ACCESS_KEY),
            secret_key: secret(cx, table, &SECRET_KEY),
        })
    }
}

fn secret(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &'static Key<Inner>) -> Option<RawSecret> {
    let table = table.table(cx, key)?;
    RawSecret::reference(cx, &table, Code::BadSecret, "NAME")
}
