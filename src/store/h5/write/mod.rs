//! Not written yet.
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::{StoreWriter, WriteTarget};

/// Starts a file.
pub(crate) async fn create(target: &WriteTarget) -> Result<Arc<dyn StoreWriter>> {
    Err(Error::NotImplemented(target.path.display().to_string()))
}
