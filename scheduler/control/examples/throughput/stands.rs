//! What the audit log of the program stands on, as much of it as a measurement needs.

/// Failures: a measurement stops at the first one.
pub(crate) mod exit {
    /// What happened, and what to do.
    #[derive(Debug)]
    pub(crate) struct Failure(#[expect(dead_code, reason = "it is shown when a measurement stops")] String);

    impl Failure {
        pub(crate) fn new(what: impl std::fmt::Display) -> Self {
            Self(what.to_string())
        }

        pub(crate) fn safe(self, _: &str) -> Self {
            self
        }

        pub(crate) fn next(self, _: &str) -> Self {
            self
        }
    }
}

/// Directories.
pub(crate) mod files {
    use super::exit::Failure;

    pub(crate) fn make_directory(path: &std::path::Path) -> Result<(), Failure> {
        std::fs::create_dir_all(path).map_err(Failure::new)
    }
}

/// What goes wrong beside the work.
pub(crate) mod output {
    pub(crate) fn trouble(what: impl std::fmt::Display) {
        eprintln!("{what}");
    }
}
