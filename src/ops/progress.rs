//! How an operation tells of its progress.

/// Told of progress by an operation; called from its threads, a few times a second.
pub trait Progress: Send + Sync {
    /// Work begins on `total` cells.
    fn start(&self, what: &str, total: u64);
    /// So many cells are done.
    fn update(&self, done: u64);
    /// Something the user should read although nothing failed.
    fn warn(&self, message: &str);
    /// Work is over.
    fn finish(&self);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _what: &str, _total: u64) {}
    fn update(&self, _done: u64) {}
    fn warn(&self, _message: &str) {}
    fn finish(&self) {}
}
