//! How much a plugin may keep: `kv` of `[plugins.NAME.allow]`, checked, and as `plugins.lock` has it.

use serde::{Deserialize, Serialize};

/// `allow.kv`: what a plugin may keep for each tenant, and for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Keys and values of a tenant together, in bytes.
    pub bytes: u64,
    /// Keys of a tenant.
    pub keys: u64,
    /// Keys and values of all tenants together, with the tenant's name beside each key, in bytes.
    pub total_bytes: u64,
    /// Tenants that have a key. Anybody who may publish may name a tenant.
    pub tenants: u64,
}

impl Quota {
    /// Of one that says nothing of all tenants: room for many, and for one that uses all it may.
    #[must_use]
    pub const fn per_tenant(bytes: u64, keys: u64) -> Self {
        const TOTAL_BYTES: u64 = 4 << 30;
        let total_bytes = if bytes > TOTAL_BYTES { bytes } else { TOTAL_BYTES };
        Self { bytes, keys, total_bytes, tenants: 100_000 }
    }

    /// As it stands in `plugins.lock`.
    pub(super) fn written(self) -> WrittenQuota {
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
    /// Bytes.
    pub quota: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes over all tenants, when it is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Tenants, when it is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u64>,
}
