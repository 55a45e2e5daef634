//! Work that takes long.

/// Runs work on a thread that may block, where there is a runtime that has one.
pub(in crate::store) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is cancelled only when the runtime goes, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
