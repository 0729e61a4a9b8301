//! The interface versions, and the one that a component exports. A component must export the handler of exactly one
//! version. Plugins of old versions run beside plugins of new ones.

use wasmtime::component::Component;

use super::{messaging, v0_1};

/// The interface version through which a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    V0_1,
    Messaging,
}

/// Reason why a component matches no interface version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InterfaceMismatch {
    /// The component has no handler. Holds the names of its exports.
    NoHandler(Vec<String>),
    /// The component has the handlers of two versions, so that the daemon would have to guess which one to call.
    SeveralHandlers(Interface, Interface),
}

impl Interface {
    const ALL: [Self; 2] = [Self::V0_1, Self::Messaging];

    /// The one interface of which a component exports the handler.
    pub(crate) fn of(component: &Component, engine: &wasmtime::Engine) -> Result<Self, InterfaceMismatch> {
        let kind = component.component_type();
        Self::of_exports(&kind.exports(engine).map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
    }

    fn of_exports(exports: &[String]) -> Result<Self, InterfaceMismatch> {
        let mut found =
            Self::ALL.into_iter().filter(|interface| exports.iter().any(|name| name == interface.handler()));
        match (found.next(), found.next()) {
            (Some(interface), None) => Ok(interface),
            (Some(one), Some(other)) => Err(InterfaceMismatch::SeveralHandlers(one, other)),
            (None, _) => Err(InterfaceMismatch::NoHandler(exports.to_vec())),
        }
    }

    /// The name of the handler's export, which tells the interfaces apart.
    pub(crate) fn handler(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::HANDLER,
            Self::Messaging => messaging::HANDLER,
        }
    }

    /// Imports that every component of this interface gets, beside those of all plugins.
    pub(crate) fn granted_imports(self) -> &'static [&'static str] {
        match self {
            // Types that a component shares with the interface are imports too.
            Self::V0_1 => &["trunkline:plugin/types@"],
            Self::Messaging => &messaging::GRANTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_matches_exactly_one_interface() {
        let exports = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (own, other) = (v0_1::HANDLER, messaging::HANDLER);
        assert_eq!(Interface::of_exports(&exports(&["trunkline:plugin/metadata@0.1.0", own])), Ok(Interface::V0_1));
        assert_eq!(Interface::of_exports(&exports(&[other])), Ok(Interface::Messaging));
        let both = InterfaceMismatch::SeveralHandlers(Interface::V0_1, Interface::Messaging);
        assert_eq!(Interface::of_exports(&exports(&[other, own])), Err(both));
        assert_eq!(Interface::of_exports(&[]), Err(InterfaceMismatch::NoHandler(Vec::new())));
    }
}
