//! The collection being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::object::ObjectSink;
use super::options::{ObjectSize, SinkOptions};
use crate::element::encoding;
use crate::error::{Error, Result};
use crate::model::{ElementKey, shown_path};
use crate::store::{self, StoreWriter};

/// Writes objects side by side as the members of one collection: a zarr group whose attributes say
/// `annbatch-preshuffled`, without consolidated metadata, and in it a whole object per member.
///
/// The layout is annbatch's (`DatasetCollection` of 0.3.1). The collection is one store, so it
/// appears as a whole: [`FinishedObject::commit`](super::FinishedObject::commit) of a member does
/// nothing, and what is dropped before [`commit`](Self::commit) leaves nothing.
#[derive(Debug)]
pub struct CollectionSink {
    store: Arc<dyn StoreWriter>,
    path: PathBuf,
}

impl CollectionSink {
    /// Starts a collection beside `path`, which must end as the format's names do.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where it exists and may not be replaced, otherwise those of the store.
    pub async fn create(path: &Path, options: &SinkOptions) -> Result<Self> {
        let store = store::create(&options.collection(path)).await?;
        let attributes = encoding("annbatch-preshuffled", "0.1.0");
        store
            .set_attributes(&ElementKey::root(), &attributes)
            .await?;
        Ok(Self {
            store,
            path: path.to_owned(),
        })
    }

    /// Starts the member that lies at `path`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where that is not directly below the collection; those of
    /// [`ObjectSink::create`].
    pub async fn member(
        &self,
        path: &Path,
        schema: &SchemaRef,
        size: &ObjectSize,
        options: &SinkOptions,
    ) -> Result<ObjectSink> {
        let name = path.strip_prefix(&self.path).ok();
        let Some(name) = name.and_then(Path::to_str) else {
            let reason = format!("it is no member of {}", shown_path(&self.path));
            return Err(Error::option(shown_path(path), reason));
        };
        let writer = store::member(&self.store, name).await?;
        ObjectSink::start(writer, path, schema, size, options).await
    }

    /// Gives the collection its name. All members must be finished.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where something has appeared there meanwhile; [`Error::Store`] where
    /// writing or renaming fails.
    pub async fn commit(&self) -> Result<()> {
        self.store.close().await?;
        self.store.commit().await
    }
}
