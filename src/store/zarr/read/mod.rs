//! Zarr v2 and v3 for reading: directories and zip archives of them.
//!
//! [`tree::ZarrStore`] reads the metadata of a node when it is asked for, from its own documents:
//! consolidated metadata may be older than they are. [`dtype`] says how an element lies in a chunk,
//! [`open`](mod@open) understands an array's document, [`array`] reads rows through the
//! codecs of `zarrs`, [`chunk`] does the same for whole chunks with less around it, [`text`] is what `zarrs` is not
//! trusted with, and [`fill`] bounds what missing
//! chunks cost. [`files`] is where keys lead to: folders, or a [`zip`] archive; [`storage`] shows
//! one array of them to `zarrs`. [`consolidated`] compares what is said twice.
//!
//! # Invariants
//! - A missing chunk is fill values; what is read of them is bounded by the chunks that are there.
//! - A chunk is fetched and decoded once per read, and kept while its next rows are likely wanted.
//! - No key leads out of the store, not by a link either.

mod files;
mod zip;
mod storage;
mod dtype;
mod fill;
mod text;
mod undo;
mod blosc;
mod shards;
mod chunk;
mod array;
mod open;
mod tree;
mod consolidated;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Location;
use crate::store::Store;

/// What a zip archive starts with.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Whether a path is a zarr store rather than anything else: a directory, or a zip archive.
pub(in crate::store) fn is_zarr(path: &Path) -> bool {
    use std::io::Read;
    if path.is_dir() {
        return true;
    }
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == ZIP_MAGIC
}

/// Opens a store.
///
/// # Errors
/// [`Error::StoreNotFound`] where there is nothing, or nothing of zarr.
pub(in crate::store) fn open(location: &Location) -> Result<Arc<dyn Store>> {
    let path = Path::new(location.path());
    let not_found = |reason: String| Error::StoreNotFound {
        url: location.path().to_owned(),
        reason,
    };
    let files: Arc<dyn files::Files> = if path.is_dir() {
        Arc::new(files::Directory::new(path))
    } else {
        Arc::new(zip::Zip::open(path).map_err(|e| not_found(e.to_string()))?)
    };
    let store = tree::ZarrStore::new(location.path(), files);
    if !store.has_root()? {
        return Err(not_found(
            "it has no zarr.json, .zgroup or .zarray, so it is no zarr store".to_owned(),
        ));
    }
    Ok(Arc::new(store))
}
