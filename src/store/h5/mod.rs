//! Not written yet.
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Location;
use crate::store::{Store, StoreWriter, WriteTarget};

/// Opens a file.
pub(super) async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    Err(Error::NotImplemented(location.to_string()))
}

/// Starts a file.
pub(super) async fn create(target: &WriteTarget) -> Result<Arc<dyn StoreWriter>> {
    Err(Error::NotImplemented(target.path.display().to_string()))
}
