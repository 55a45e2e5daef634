//! Objects this process has open, held weakly, by what identifies a file, or an object of a store,
//! and its version.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use crate::element::AnnData;
use crate::error::Result;
use crate::model::Location;
use crate::store::{self, ZARR_DOCUMENTS};

/// A version of a file, as far as the system tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileKey {
    location: Location,
    dev: u64,
    ino: u64,
    mtime: i64,
    mtime_nsec: i64,
    size: u64,
}

static OPEN: LazyLock<Mutex<HashMap<FileKey, Weak<AnnData>>>> = LazyLock::new(Mutex::default);

/// The object of a location: the one already open, or what `open` gives.
pub(super) async fn open<F>(location: &Location, open: impl FnOnce() -> F) -> Result<Arc<AnnData>>
where
    F: Future<Output = Result<AnnData>>,
{
    if location.is_url() {
        return open_url(location, open).await;
    }
    let Some(key) = key_of(location) else {
        return Ok(Arc::new(open().await?));
    };
    if let Some(object) = lock().get(&key).and_then(Weak::upgrade) {
        return Ok(object);
    }
    let object = Arc::new(open().await?);
    // A file that was replaced while it was being opened is not remembered under its old name.
    if key_of(location).as_ref() == Some(&key) {
        let mut cache = lock();
        cache.retain(|_, object| object.strong_count() > 0);
        cache.insert(key, Arc::downgrade(&object));
    }
    Ok(object)
}

/// Objects of URLs, with the version that was opened.
type Opened = HashMap<Location, (String, Weak<AnnData>)>;

static OPEN_URLS: LazyLock<Mutex<Opened>> = LazyLock::new(Mutex::default);

/// The same for a URL: one that is open costs a request that says whether it still is what it was.
async fn open_url<F>(location: &Location, open: impl FnOnce() -> F) -> Result<Arc<AnnData>>
where
    F: Future<Output = Result<AnnData>>,
{
    let urls = || OPEN_URLS.lock().unwrap_or_else(PoisonError::into_inner);
    let held = urls().get(location).cloned();
    if let Some((version, object)) = held
        && let Some(object) = object.upgrade()
        // Who refuses to say so may still be read: opening it says what is wrong.
        && matches!(store::version(location).await, Ok(Some(now)) if now == version)
    {
        return Ok(object);
    }
    let object = Arc::new(open().await?);
    if let Some(version) = object.store().version() {
        let entry = (version.to_owned(), Arc::downgrade(&object));
        let mut urls = urls();
        urls.retain(|_, (_, object)| object.strong_count() > 0);
        urls.insert(location.clone(), entry);
    }
    Ok(object)
}

fn key_of(location: &Location) -> Option<FileKey> {
    let path = Path::new(location.path());
    let metadata = std::fs::metadata(path).ok()?;
    let metadata = match metadata.is_dir() {
        // Who writes a store anew writes what describes its root.
        true => ZARR_DOCUMENTS
            .iter()
            .find_map(|name| std::fs::metadata(path.join(name)).ok())?,
        false => metadata,
    };
    Some(FileKey {
        location: location.clone(),
        dev: metadata.dev(),
        ino: metadata.ino(),
        mtime: metadata.mtime(),
        mtime_nsec: metadata.mtime_nsec(),
        size: metadata.size(),
    })
}

fn lock() -> std::sync::MutexGuard<'static, HashMap<FileKey, Weak<AnnData>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
