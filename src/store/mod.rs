//! Groups, arrays and attributes of a file, read by row ranges on all cores and written whole or
//! not at all. Has never heard of AnnData.
//!
//! Reading: [`open`] gives a [`Store`], whose arrays are [`ArrayReader`]s. Everything is async and
//! asks for ranges, so that a file on disk, a directory of chunks and an object store look alike.
//! Writing: [`create`] gives a [`StoreWriter`], whose arrays are [`ArrayWriter`]s; nothing stands
//! under the final name before [`StoreWriter::commit`].
//!
//! # Invariants
//! - Values are given and taken in native byte order, flattened row-major, as Arrow arrays of
//!   [`DType::arrow`](crate::model::DType::arrow); no array has nulls.
//! - A length taken from a file is checked against the file's size before memory is reserved.

mod api;
mod references;
mod scatter;
mod decode;
mod encode;
mod output;
mod claim;
mod temporary;
mod member;
mod source;
mod memory;
mod remote;
pub mod h5;
mod zarr;

pub use api::{
    ArrayInfo, ArrayReader, ArraySpec, ArrayWriter, Attributes, Compression, Contradiction, Extent,
    Format, MissingChunks, NodeKind, Pieces, ReadMetrics, Store, StoreWriter, WriteTarget,
    ZarrVersion,
};
pub use references::{ChunkBytes, ChunkFilter, ChunkReference, Located, References};
pub use scatter::{Run, Scattered, gather_runs};
pub(crate) use scatter::{gather_positions, warm};

pub(crate) use claim::Claim;
pub(crate) use decode::largest;
pub(crate) use member::member;
use output::bytes_of;
pub(crate) use output::{
    Inputs, check_name, check_place, folder_of, format_of_name, place_of, refuse, url_of,
};
pub(crate) use remote::{UPLOAD_PART, UPLOAD_ROOM, settle};
pub use remote::{register_object_store, settled};
pub(crate) use zarr::DOCUMENTS as ZARR_DOCUMENTS;

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::model::Location;

/// Opens the file of a location; the fragment is not looked at.
///
/// # Errors
/// [`Error::StoreNotFound`](crate::Error::StoreNotFound) where there is no file or it is of no known
/// kind; [`Error::Store`](crate::Error::Store) where the server of a URL does not answer, or refuses.
pub async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    if location.is_url() {
        return remote::open(location).await;
    }
    let path = Path::new(location.path());
    if zarr::is_zarr(path) {
        return zarr::open(location);
    }
    h5::open(location).await
}

/// What tells the content of a URL from a later one ([`Store::version`]), [`None`] where there is
/// nothing.
///
/// # Errors
/// [`Error::Store`] where its server does not answer.
pub(crate) async fn version(location: &Location) -> Result<Option<String>> {
    remote::version(location).await
}

/// Whether something stands at the place of an output.
///
/// # Errors
/// [`Error::Store`] where the server of a URL does not answer.
pub(crate) async fn is_taken(path: &Path) -> Result<bool> {
    match url_of(path) {
        Some(url) => remote::is_taken(&url).await,
        None => Ok(path.exists()),
    }
}

/// Bytes of an output; 0 where they cannot be told.
pub(crate) async fn bytes_at(path: &Path) -> u64 {
    match url_of(path) {
        Some(url) => remote::bytes(&url).await.unwrap_or(0),
        None => bytes_of(path),
    }
}

/// Starts a store beside `target.path`.
///
/// # Errors
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where the name does not end as the format's
/// do, [`Error::OutputRefused`](crate::Error::OutputRefused) where the output exists and may not be
/// replaced, [`Error::Store`](crate::Error::Store) where it cannot be created.
pub async fn create(target: &WriteTarget) -> Result<Arc<dyn StoreWriter>> {
    check_name(&target.path, target.format)?;
    check_place(&target.path, target.format)?;
    match target.format {
        Format::H5ad => h5::create(target).await,
        Format::Zarr { version, .. } => zarr::create(target, version).await,
    }
}

/// Starts a document of references to the file of `source` beside `target.path`: a zarr store of
/// version 2 as a kerchunk JSON, whose arrays may be [linked](StoreWriter::link) to those of the
/// source.
///
/// # Errors
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where the name does not end in `.json`;
/// otherwise as [`create`].
pub(crate) fn create_references(
    target: &WriteTarget,
    source: &dyn Store,
) -> Result<Arc<dyn StoreWriter>> {
    zarr::create_references(target, source.url())
}
