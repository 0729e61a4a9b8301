//! Constants that the daemon and its compiler children share.

/// Hidden verb of the command line under which the program compiles one component.
pub const COMPILE_VERB: &str = "compile-component";

/// First bytes of a complete answer on the child's stdout. Machine code follows.
pub(crate) const CODE_HEADER: &[u8; 8] = b"TLCODE01";
/// Exit code of a child that refuses the component.
pub(crate) const EXIT_REFUSED: u8 = 65;
