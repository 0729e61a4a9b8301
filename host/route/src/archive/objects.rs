//! An archive in object storage that speaks S3's protocol: an object a batch, since objects cannot be appended to.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};

use super::Error;
use super::writer::file_name;
use trunkline_config as config;

/// What the client tries again by itself, before it tells us: we go on for as long as the route runs.
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
    /// A client; nothing is asked of the other side yet. What the settings leave out comes from `AWS_*` variables.
    pub(super) fn open(settings: &config::ObjectStore, under: &str) -> Result<Self, Error> {
        // Only the first one in a process is taken, and they are all the same.
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
            let text = secret.as_ref().map_err(|reason| Error::Store(reason.clone()))?.expose();
            builder = if is_key { builder.with_access_key_id(text) } else { builder.with_secret_access_key(text) };
        }
        let store = builder.build().map_err(|error| Error::Store(error.to_string()))?;
        let prefix = Path::parse(format!("{}/{under}", settings.prefix).trim_matches('/'))
            .map_err(|error| Error::Store(error.to_string()))?;
        Ok(Self { store, prefix })
    }

    /// Stores a batch; the other side has it when this returns.
    pub(super) async fn append(&self, batch: Bytes, now: &str) -> Result<(), Error> {
        let (day, name) = file_name(now);
        let place = self.prefix.clone().join(day).join(name.as_str());
        let put = self.store.put(&place, PutPayload::from(batch)).await;
        put.map(drop).map_err(|error| Error::Write { place: place.to_string(), reason: error.to_string() })
    }

    /// The names of all batches, in the order of their times.
    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut listed = self.store.list(Some(&self.prefix));
        while let Some(object) = listed.next().await {
            names.push(object.map_err(|error| error.to_string())?.location.to_string());
        }
        names.retain(|name| name.ends_with(super::writer::ENDING));
        names.sort();
        Ok(names)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Vec<u8>, String> {
        let place = Path::parse(name).map_err(|error| error.to_string())?;
        let object = self.store.get(&place).await.map_err(|error| error.to_string())?;
        Ok(object.bytes().await.map_err(|error| error.to_string())?.to_vec())
    }
}
