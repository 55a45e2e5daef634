//! Zarr v2 and v3 for reading: directories and zip archives of them.
//!
//! [`tree::ZarrStore`] reads the metadata of a node when it is asked for, from its own [`documents`]:
//! consolidated metadata may be older than they are, and is used for what is far away alone. [`dtype`] says how an element lies in a chunk,
//! [`open`](mod@open) understands an array's document, [`array`] reads rows through the
//! codecs of `zarrs`, by bands ([`band`]), [`chunk`] does the same for whole chunks with less around it, [`text`] is what `zarrs` is not
//! trusted with, and [`fill`] bounds what missing
//! chunks cost. [`files`] is where keys lead to: folders, a [`zip`] archive, or [`objects`] of a store; [`storage`] shows
//! one array of them to `zarrs`. [`missing`] counts chunks that are not
//! there, [`consolidated`] compares what is said twice.
//!
//! # Invariants
//! - A missing chunk is fill values; what is read of them is bounded by the chunks that are there.
//! - A chunk is fetched and decoded once per read, and kept while its next rows are likely wanted.
//! - No key leads out of the store, not by a link either.

mod files;
mod zip;
mod objects;
mod documents;
mod storage;
mod dtype;
mod fill;
mod text;
mod undo;
mod blosc;
mod unshuffle;
mod shards;
mod chunk;
mod array;
mod band;
mod ahead;
mod scatter;
mod missing;
mod open;
mod tree;
mod consolidated;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{ElementKey, Location};
use crate::store::Store;
use crate::store::remote::{self, Got, Part, Place};
use crate::store::zarr::DOCUMENTS;

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
    let store = tree::ZarrStore::new(location.path(), files, tree::Root::default());
    if !store.has_root()? {
        return Err(not_found(
            "it has no zarr.json, .zgroup or .zarray, so it is no zarr store".to_owned(),
        ));
    }
    Ok(Arc::new(store))
}

/// Opens the store at a place that is far away; [`None`] where there is none. Waits for answers.
///
/// # Errors
/// [`Error::Store`] where the place does not answer, [`Error::InvalidElement`] where the root's
/// documents do not parse.
pub(in crate::store) fn open_remote(place: &Place) -> Result<Option<Arc<dyn Store>>> {
    let url = place.shown();
    let mut root = tree::Root::default();
    let mut seen = None;
    for (name, got) in root_documents(place).map_err(|e| remote::failed(place, e))? {
        root.tag.get_or_insert_with(|| got.version.tag());
        seen.get_or_insert_with(|| (name, got.version.clone()));
        if name != "zarr.json" && name != ".zmetadata" {
            root.version.get_or_insert(tree::Version::V2);
            continue;
        }
        let document = tree::parse(&got.bytes);
        let document = document
            .map_err(|reason| Error::invalid(url, ElementKey::root(), format!("{name}{reason}")))?;
        let (version, consolidated) = match name {
            "zarr.json" => (tree::Version::V3, documents::Consolidated::v3(&document)),
            _ => (tree::Version::V2, documents::Consolidated::v2(&document)),
        };
        if *root.version.get_or_insert(version) == version {
            root.consolidated = consolidated;
        }
    }
    Ok(seen.map(|(name, version)| {
        let files = Arc::new(objects::Objects::new(place.clone(), name, version));
        Arc::new(tree::ZarrStore::new(url, files, root)) as Arc<dyn Store>
    }))
}

/// What tells the content of a store that is far away from another.
///
/// # Errors
/// Where the place does not answer.
pub(in crate::store) fn remote_tag(place: &Place) -> io::Result<Option<String>> {
    let mut refused = None;
    for name in DOCUMENTS {
        match place.probe(name) {
            Ok(Some(version)) => return Ok(Some(version.tag())),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused = Some(e),
            Err(e) => return Err(e),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// The documents that a root has, by name. Where objects that are not there are refused, as of
/// buckets that may not be listed, those are the ones that are not.
fn root_documents(place: &Place) -> io::Result<Vec<(&'static str, Got)>> {
    let all = place.fetch(DOCUMENTS.iter().copied().map(Part::whole).collect());
    let got = match all {
        Ok(got) => got,
        Err(refused) if refused.kind() == io::ErrorKind::PermissionDenied => {
            let one = |name: &&str| {
                let got = place.fetch(vec![Part::whole(*name)]);
                got.map_or(None, |mut got| got.pop().flatten())
            };
            let got: Vec<_> = DOCUMENTS.iter().map(one).collect();
            if got.iter().all(Option::is_none) {
                return Err(refused);
            }
            got
        }
        Err(error) => return Err(error),
    };
    let named = DOCUMENTS.into_iter().zip(got);
    Ok(named.filter_map(|(name, got)| Some((name, got?))).collect())
}
