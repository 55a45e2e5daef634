//! Opening what a URL names: a file, or a zarr store below a prefix.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::client::in_background;
use super::object::Object;
use super::place::Place;
use crate::error::{Error, Result};
use crate::model::Location;
use crate::store::source::ByteSource;
use crate::store::{Store, h5, zarr};

/// What messages call these stores.
const STORE: &str = "object store";

/// What a file begins with that is an archive.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Opens the file or the store of a URL.
///
/// # Errors
/// [`Error::StoreNotFound`] where there is nothing, or nothing that is read; [`Error::Store`] where
/// the server does not answer, or refuses.
pub(in crate::store) async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    let place = Place::parse(location.path())?;
    let shown = place.clone();
    let opened = in_background(move || open_at(&place)).await;
    opened.map_err(|e| failed(&shown, e)).flatten()
}

/// What tells the content of a URL from a later one, [`None`] where there is nothing.
///
/// # Errors
/// [`Error::Store`] where the server does not answer.
pub(in crate::store) async fn version(location: &Location) -> Result<Option<String>> {
    let place = Place::parse(location.path())?;
    let shown = place.clone();
    let asked = in_background(move || {
        if !is_zarr_name(&place)
            && let Some(version) = place.probe("")?
        {
            return Ok(Some(version.tag()));
        }
        zarr::remote_tag(&place)
    });
    asked.await.flatten().map_err(|e| failed(&shown, e))
}

/// Whether objects can be written below a URL; asks nobody.
///
/// # Errors
/// [`Error::InvalidOption`] where the URL makes no sense.
pub(in crate::store) fn is_writable(url: &str) -> Result<bool> {
    Ok(Place::parse(url)?.is_writable())
}

/// Whether there are objects below a URL, or one under it.
///
/// # Errors
/// [`Error::Store`] where the server does not answer.
pub(in crate::store) async fn is_taken(url: &str) -> Result<bool> {
    let place = Place::parse(url)?;
    let shown = place.clone();
    let asked = in_background(move || place.is_taken()).await;
    asked.flatten().map_err(|e| failed(&shown, e))
}

/// Bytes of all objects below a URL.
///
/// # Errors
/// [`Error::Store`] where the server does not answer.
pub(in crate::store) async fn bytes(url: &str) -> Result<u64> {
    let place = Place::parse(url)?;
    let shown = place.clone();
    let asked = in_background(move || place.sizes("")).await;
    let sizes = asked.flatten().map_err(|e| failed(&shown, e))?;
    Ok(sizes.iter().map(|(_, size)| size).sum())
}

fn open_at(place: &Place) -> Result<Arc<dyn Store>> {
    let zarr_first = is_zarr_name(place);
    if zarr_first && let Some(store) = zarr::open_remote(place)? {
        return Ok(store);
    }
    if place.has_path()
        && let Some(object) = Object::open(place).map_err(|e| failed(place, e))?
    {
        if object.first().starts_with(ZIP_MAGIC) {
            return Err(Error::NotImplemented(format!(
                "{}: an archive in an object store; read a copy of it on a disk",
                place.shown()
            )));
        }
        // Web servers answer for folders, with a page; so do some stores, with nothing.
        if !zarr_first || object.len() > 0 {
            return h5::open_object(place.shown(), object);
        }
    }
    if !zarr_first && let Some(store) = zarr::open_remote(place)? {
        return Ok(store);
    }
    Err(Error::StoreNotFound {
        url: place.shown().to_owned(),
        reason:
            "there is no such object, and no zarr store (zarr.json, .zgroup or .zarray) below it"
                .to_owned(),
    })
}

/// Whether a name is that of a zarr store, and not of a file.
fn is_zarr_name(place: &Place) -> bool {
    place.shown().ends_with(".zarr")
}

/// The public error of a request.
pub(in crate::store) fn failed(place: &Place, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::StoreNotFound {
            url: place.shown().to_owned(),
            reason: error.to_string(),
        },
        _ => Error::store(STORE, place.shown(), error),
    }
}
