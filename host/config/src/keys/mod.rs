//! The one table of keys of routes.toml.
//!
//! Each section has a file with a static for each key. The parser reads a value with that static, so the table and the
//! parser cannot differ in a name, a range or a default. Hints for misspelt keys, the reference page and the lists of keys
//! that a section accepts come from the same table.

pub(crate) mod broker;
pub(crate) mod defaults;
pub(crate) mod http;
pub(crate) mod key;
pub(crate) mod plugins;
pub(crate) mod reference;
pub(crate) mod routes;
pub(crate) mod secret;
pub(crate) mod section;
pub(crate) mod shape;
pub(crate) mod table;
pub(crate) mod top;
pub(crate) mod topology;
