//! Waiting for a future where DataFusion's interface is not async.

use std::future::Future;
use std::sync::mpsc;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use tokio::runtime::{Builder, Handle};

/// Runs a future to its end on a thread of its own, with the current runtime if there is one: the
/// calling thread may be one of the runtime's workers, which must not block on their own tasks.
pub(super) fn block_on<T, F>(future: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let handle = Handle::try_current();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let result = match handle {
            Ok(handle) => handle.block_on(future),
            Err(_) => match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(future),
                Err(error) => Err(DataFusionError::from(error)),
            },
        };
        // The receiver waits for it.
        let _ = sender.send(result);
    });
    receiver
        .recv()
        .map_err(|_| exec_datafusion_err!("a file could not be opened"))?
}
