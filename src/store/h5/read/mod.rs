//! HDF5 for reading: metadata by a memory-safe parser, bytes by our own parallel decode.
//!
//! [`tree::H5Store`] walks groups and attributes through `hdf5-pure` (over [`source`], which [`follow`]s
//! what is far away) and hands out
//! [`array::H5Array`]s. An array knows where its bytes are ([`storage`]), fetches those of the
//! selected rows ([`fetch`], [`grid`]), undoes the filters on all cores ([`filter`], [`lzf`]) and wraps them
//! as Arrow (`store::decode`, [`heap`]). What the parser cannot do is asked of the reference library
//! ([`library`]): object references, soft links, rare filters and the newest layouts.
//!
//! # Invariants
//! - No length, address or count of a file is believed before it was held against the file's size:
//!   what is not compressed asks for no more memory than the file is long, what is compressed for
//!   no more than its filter can have made of it.
//! - Opening reads kilobytes: chunk tables are read with the first rows and kept.

mod source;
mod follow;
mod tree;
mod attributes;
mod dtype;
mod storage;
mod filter;
mod lzf;
mod fetch;
mod grid;
mod array;
mod scatter;
mod references;
mod heap;
mod library;

use std::sync::Arc;

use crate::error::Result;
use crate::model::Location;
use crate::store::Store;
use crate::store::remote::Object;

/// Opens a file.
///
/// # Errors
/// [`Error::StoreNotFound`](crate::Error::StoreNotFound) where there is no file, it is not HDF5 or
/// it was cut short.
pub(crate) async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(tree::H5Store::open(location.path())?))
}

/// Opens a file that is an object of a store. Waits for answers.
///
/// # Errors
/// As [`open`], and [`Error::Store`](crate::Error::Store) where the store does not answer.
pub(in crate::store) fn open_object(url: &str, object: Object) -> Result<Arc<dyn Store>> {
    let tag = Some(object.version().tag());
    let store = tree::H5Store::open_in(url, None, tag, Arc::new(object))?;
    Ok(Arc::new(store))
}
