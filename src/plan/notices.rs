//! What writes of a session could not keep, for whoever runs its statements.

use std::sync::{Mutex, PoisonError};

/// An extension of a session's configuration that gathers what its writes have to say: a
/// statement's own result is the number of rows.
#[derive(Debug, Default)]
pub struct Notices(Mutex<Vec<String>>);

impl Notices {
    /// Takes what was gathered since the last call; one sentence each.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, warnings: &[String]) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notices.extend_from_slice(warnings);
    }
}
