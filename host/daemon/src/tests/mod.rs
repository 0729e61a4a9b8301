//! Reference pages whose facts come from several crates. `TRUNKLINE_WRITE_REFERENCE=1 cargo test -p trunkline --lib` writes
//! the pages.

mod headers;
mod page;
mod reasons;
mod wit;
