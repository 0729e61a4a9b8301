//! From text to the raw configuration: TOML with positions, `include`, `${NAME}`, environment variables, secrets.

pub(crate) mod context;
pub(crate) mod environment;
pub(crate) mod include;
pub(crate) mod raw;
pub(crate) mod secret;
pub(crate) mod table;
pub(crate) mod value;
pub(crate) mod variables;
