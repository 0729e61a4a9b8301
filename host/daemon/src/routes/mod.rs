//! The running routes: which routes should run, which run, and the change from one set to the other.

mod restarts;
mod route_set;

pub(crate) use route_set::Routes;
