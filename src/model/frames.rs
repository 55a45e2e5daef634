//! Data frames of genes by content, for columns whose genes no open object describes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::RecordBatch;
use twox_hash::XxHash3_128;

/// The frames this process has met, by id: `var` as a Parquet file brought it along.
///
/// The first column holds the names, as text; fields say what they say in `var`.
#[derive(Debug, Default)]
pub struct FrameRegistry {
    frames: Mutex<HashMap<String, Arc<RecordBatch>>>,
}

static GLOBAL: LazyLock<FrameRegistry> = LazyLock::new(FrameRegistry::default);

impl FrameRegistry {
    /// The registry of this process. Ids are content hashes, so sharing it is safe.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Adds a frame under the id it is given back with: a hash of its serialized form.
    pub fn register(&self, frame: RecordBatch, serialized: &[u8]) -> String {
        let id = format!("{:032x}", XxHash3_128::oneshot(serialized));
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.entry(id.clone()).or_insert_with(|| Arc::new(frame));
        id
    }

    /// The frame of an id.
    pub fn get(&self, id: &str) -> Option<Arc<RecordBatch>> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.get(id).map(Arc::clone)
    }
}
