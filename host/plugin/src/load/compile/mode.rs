//! The kinds of machine code, and the modes in which a component is compiled.

/// Smallest component, in bytes, that gets quick code first. Optimised code of 1 MiB takes about 2 s of processor time, so
/// the optimised code of a smaller component is ready soon enough.
const LARGE_MIN_BYTES: usize = 2 << 20;

/// Kind of a component's machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// Code without optimisation. The compilation is shorter, and the code may be slower.
    Quick,
    /// Optimised code.
    Optimised,
}

impl CodeKind {
    /// The kind of the first code for a component of this length.
    pub(crate) fn first_for(component_bytes: usize) -> Self {
        if component_bytes < LARGE_MIN_BYTES { Self::Optimised } else { Self::Quick }
    }

    /// The name in log lines and in the HTTP API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Optimised => "optimised",
        }
    }
}

/// The kind of code that a compiler makes, and its share of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileMode {
    /// Quick code for a plugin that waits for the code.
    Quick,
    /// Optimised code for a plugin that waits for the code.
    Optimised,
    /// Optimised code for a plugin that serves with quick code meanwhile.
    Background,
}

impl CompileMode {
    const ALL: [Self; 3] = [Self::Quick, Self::Optimised, Self::Background];

    /// The mode for the first code of this kind.
    pub(crate) const fn first(code: CodeKind) -> Self {
        match code {
            CodeKind::Quick => Self::Quick,
            CodeKind::Optimised => Self::Optimised,
        }
    }

    /// The mode of this name.
    ///
    /// # Errors
    /// When no mode has the name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == name);
        found.ok_or_else(|| {
            format!("`{name}` is not a compile mode; the modes are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Optimised => "optimised",
            Self::Background => "background",
        }
    }

    pub(crate) const fn code(self) -> CodeKind {
        match self {
            Self::Quick => CodeKind::Quick,
            Self::Optimised | Self::Background => CodeKind::Optimised,
        }
    }

    /// Number of the compiler's threads. Few, because the arena and the stack of each count as memory. A compiler in the
    /// background leaves the other processors to the routes.
    pub(crate) const fn threads(self) -> &'static str {
        match self {
            Self::Quick | Self::Optimised => "2",
            Self::Background => "1",
        }
    }

    /// Priority of the compiler, below the daemon's threads.
    pub(crate) const fn niceness(self) -> i32 {
        match self {
            Self::Quick | Self::Optimised => 10,
            Self::Background => 19,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_components_get_quick_code_first() {
        assert_eq!(CodeKind::first_for(200 << 10), CodeKind::Optimised);
        assert_eq!(CodeKind::first_for(LARGE_MIN_BYTES - 1), CodeKind::Optimised);
        assert_eq!(CodeKind::first_for(12 << 20), CodeKind::Quick);
    }

    #[test]
    fn a_mode_has_the_name_that_a_child_reads() {
        for mode in CompileMode::ALL {
            assert_eq!(CompileMode::parse(mode.as_str()), Ok(mode));
            assert!(mode.niceness() > 0, "the routes go first");
        }
        assert!(CompileMode::parse("fast").is_err());
    }
}
