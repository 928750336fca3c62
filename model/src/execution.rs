//! Who does the work that blocks: threads, or the task that asks.

/// On which threads a part of the service works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    /// Threads of its own, and the runtime's blocking threads: what a service
    /// uses. Writes that wait together are committed together.
    #[default]
    Threads,
    /// The calling task, which blocks its thread meanwhile, and nothing else:
    /// for a seeded simulation that runs everything in one thread, in one
    /// order. Each write is a commit of its own.
    Inline,
}
