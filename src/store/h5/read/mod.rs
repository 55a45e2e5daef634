//! Not written yet.
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Location;
use crate::store::Store;

/// Opens a file.
pub(crate) async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    Err(Error::NotImplemented(location.to_string()))
}
