//! The path under which the daemon counts a request, if the handler knows a better path than the router.

/// The path of a hook in routes.toml, in the extensions of a response. The path of the request has no effect on this path.
#[derive(Debug, Clone)]
pub(crate) struct MeasuredPath(pub(crate) String);
