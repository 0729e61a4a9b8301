//! The quota of a plugin's state.

use serde::{Deserialize, Serialize};

/// `allow.kv`: what a plugin may keep for each tenant and for all tenants together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Keys and values of one tenant together, in bytes.
    pub bytes: u64,
    /// The largest number of keys of one tenant.
    pub keys: u64,
    /// Keys and values of all tenants together, with the tenant's name beside each key, in bytes.
    pub total_bytes: u64,
    /// The largest number of tenants that have a key. Every publisher can name a new tenant, so the number of tenants
    /// needs a bound.
    pub tenants: u64,
}

impl Quota {
    /// Default of `total`, in bytes.
    pub(crate) const TOTAL_BYTES: u64 = 4 << 30;
    /// Default of `tenants`.
    pub(crate) const TENANTS: u64 = 100_000;

    /// A quota with the defaults for all tenants together. One tenant may use all of its own quota.
    #[must_use]
    pub const fn per_tenant(bytes: u64, keys: u64) -> Self {
        let total_bytes = if bytes > Self::TOTAL_BYTES { bytes } else { Self::TOTAL_BYTES };
        Self { bytes, keys, total_bytes, tenants: Self::TENANTS }
    }

    /// As it stands in `plugins.lock`.
    pub(crate) fn written(self) -> WrittenQuota {
        let Self { bytes, keys, total_bytes, tenants } = self;
        let default = Self::per_tenant(bytes, keys);
        WrittenQuota {
            quota: bytes,
            keys,
            total: (total_bytes != default.total_bytes).then_some(total_bytes),
            tenants: (tenants != default.tenants).then_some(tenants),
        }
    }
}

/// A quota in `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenQuota {
    /// Bytes of one tenant.
    pub quota: u64,
    /// The largest number of keys of one tenant.
    pub keys: u64,
    /// Bytes of all tenants, unless the default holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Tenants, unless the default holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u64>,
}
