//! Reads that take all cores.

use super::fault::{Fault, guard};

/// Does the work on the threads that decode; whoever waits may go away meanwhile.
///
/// # Errors
/// Those of the work; [`Fault::Corrupt`] where it panicked.
pub(in crate::store) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        // The reader may have been dropped meanwhile, which is its right.
        let _ = sender.send(guard(work));
    });
    receiver
        .await
        .unwrap_or_else(|_| Err(Fault::Corrupt("the read was abandoned".into())))
}
