//! An archive in object storage that speaks S3's protocol. Each batch is one object, because objects cannot be appended to.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};

use super::file_name::{ENDING, file_name};
use super::outcome::ArchiveError;
use trunkline_config as config;

/// Retries of the client library. After them the writer tries again for as long as the route runs.
fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(1), base: 2. };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) }
}

#[derive(Debug)]
pub(super) struct Objects {
    store: AmazonS3,
    prefix: Path,
}

impl Objects {
    /// Makes a client without sending a request. Settings that are absent come from `AWS_*` variables.
    pub(super) fn open(settings: &config::ObjectStore, under: &str) -> Result<Self, ArchiveError> {
        // A process takes only the first provider, and all of them are the same.
        let _was_there = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&settings.bucket).with_retry(retry());
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        for (secret, is_key) in [(&settings.access_key, true), (&settings.secret_key, false)] {
            let Some(secret) = secret else { continue };
            let text = secret.as_ref().map_err(|reason| ArchiveError::Store(reason.clone()))?.expose();
            builder = if is_key { builder.with_access_key_id(text) } else { builder.with_secret_access_key(text) };
        }
        let store = builder.build().map_err(|error| ArchiveError::Store(error.to_string()))?;
        let prefix = Path::parse(format!("{}/{under}", settings.prefix).trim_matches('/'))
            .map_err(|error| ArchiveError::Store(error.to_string()))?;
        Ok(Self { store, prefix })
    }

    /// Stores a batch. The storage has the batch when this returns.
    pub(super) async fn append(&self, batch: Bytes, now: &str) -> Result<(), ArchiveError> {
        let (day, name) = file_name(now);
        let place = self.prefix.clone().join(day).join(name.as_str());
        let put = self.store.put(&place, PutPayload::from(batch)).await;
        put.map(drop).map_err(|error| ArchiveError::Write { place: place.to_string(), reason: error.to_string() })
    }

    /// The names of all batches, in the order of their times.
    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut listed = self.store.list(Some(&self.prefix));
        while let Some(object) = listed.next().await {
            names.push(object.map_err(|error| error.to_string())?.location.to_string());
        }
        names.retain(|name| name.ends_with(ENDING));
        names.sort();
        Ok(names)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Vec<u8>, String> {
        let place = Path::parse(name).map_err(|error| error.to_string())?;
        let object = self.store.get(&place).await.map_err(|error| error.to_string())?;
        Ok(object.bytes().await.map_err(|error| error.to_string())?.to_vec())
    }
}
