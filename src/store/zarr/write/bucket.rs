//! Values as objects below a prefix of an object store, the documents of the root last.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::values::{Value, Values};
use crate::error::Result;
use crate::store::remote::{self, Place, Upload, Uploads, in_background};
use crate::store::temporary::EXISTS;
use crate::store::zarr::DOCUMENTS;
use crate::store::{WriteTarget, refuse};

/// Bytes by key, in an order.
type Documents = Vec<(String, Vec<u8>)>;

/// Objects of a store being written.
///
/// An object store names nothing anew, so values go to their final keys at once: what makes them a
/// store is the root's document, which comes last. A store that is replaced is removed before the
/// first value of the new one is stored, its root's documents first: until the new ones are there, a
/// reader finds no store rather than parts of two. What fails before that leaves it alone.
#[derive(Debug)]
pub(super) struct Bucket {
    uploads: Uploads,
    /// Whether nothing is there that is to be replaced.
    is_clear: Mutex<bool>,
    /// Documents of the root, in the order in which they are stored in the end.
    last: Arc<Mutex<Documents>>,
}

impl Bucket {
    /// Prepares the place that `target.path` names as a URL.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where there is something that may not be replaced, and for places
    /// that cannot be written to; [`Error::Store`] where the store does not answer, or refuses.
    pub(super) async fn create(target: &WriteTarget) -> Result<Self> {
        let text = target.path.to_string_lossy();
        let place = Place::parse(&text)?;
        if !place.has_path() {
            return Err(refuse(
                &target.path,
                "the bucket's name is followed by no name of a store",
            ));
        }
        let uploads = Uploads::new(place.clone());
        let (overwrite, shown) = (target.overwrite, place.clone());
        let refused = in_background(move || match overwrite {
            true => stranger(&place),
            false => Ok(place.is_taken()?.then(|| EXISTS.to_owned())),
        });
        let refused = refused.await.flatten();
        match refused.map_err(|e| remote::failed(&shown, e))? {
            Some(reason) => Err(refuse(&target.path, &reason)),
            None => Ok(Self {
                uploads,
                is_clear: Mutex::new(!overwrite),
                last: Arc::default(),
            }),
        }
    }

    /// Removes the store that is replaced, or what is left of one whose writing was ended, where
    /// that was not done. Others wait: what they store would be removed with it.
    fn clear(&self) -> io::Result<()> {
        let mut is_clear = self.is_clear.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_clear {
            let place = self.uploads.place();
            if let Some(reason) = stranger(place)? {
                return Err(io::Error::other(reason));
            }
            place.delete_all(&DOCUMENTS)?;
            *is_clear = true;
        }
        Ok(())
    }
}

/// Why what is there is not replaced: there is no store, and something else.
fn stranger(place: &Place) -> io::Result<Option<String>> {
    let keys = place.sizes("")?;
    let keys = || keys.iter().map(|(key, _)| key.as_str());
    if keys().any(|key| DOCUMENTS.contains(&key)) {
        return Ok(None);
    }
    Ok(keys().find(|key| !is_of_store(key)).map(|stranger| {
        format!("there is no zarr store but {stranger}, which --overwrite does not remove")
    }))
}

/// Whether a key is one of a document, or of a chunk in either version.
fn is_of_store(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    DOCUMENTS.contains(&name) || name == "c" || name.split('.').all(is_number)
}

impl Values for Bucket {
    fn url(&self) -> &str {
        self.uploads.place().shown()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn Value>> {
        if DOCUMENTS.contains(&key) {
            return Ok(Box::new(Last {
                key: key.to_owned(),
                bytes: Vec::new(),
                to: Arc::clone(&self.last),
            }));
        }
        self.clear()?;
        Ok(Box::new(self.uploads.begin(key)?))
    }

    fn close(&self) -> io::Result<()> {
        self.uploads.flush()
    }

    fn publish(&self) -> Result<()> {
        let cleared = self.clear();
        cleared.map_err(|e| remote::failed(self.uploads.place(), e))?;
        let last = std::mem::take(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner));
        let stored = last.into_iter().try_for_each(|(key, bytes)| {
            let mut upload = self.uploads.begin(&key)?;
            upload.write(&bytes)?;
            upload.finish()?;
            // One after the other: the last one says that all others are there.
            self.uploads.flush()
        });
        stored.map_err(|e| remote::failed(self.uploads.place(), e))
    }

    fn cancel(&self) {
        self.uploads.cancel();
    }

    fn discard(&self) {
        self.uploads.discard();
    }
}

impl Value for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::write(self, bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Self::finish(*self)
    }
}

/// A value that is kept until the end.
#[derive(Debug)]
struct Last {
    key: String,
    bytes: Vec<u8>,
    to: Arc<Mutex<Documents>>,
}

impl Value for Last {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let mut last = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        last.push((self.key, self.bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_store_is_told_by_its_keys() {
        for key in [
            "X/data/c/0",
            "X/data/0.12",
            "obs/.zattrs",
            "uns/a/c",
            "zarr.json",
        ] {
            assert!(is_of_store(key), "{key}");
        }
        for key in ["mine.txt", "X/data/0.csv", "notes/c.1", "a/"] {
            assert!(!is_of_store(key), "{key}");
        }
    }
}
