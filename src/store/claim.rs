//! Folders that are changed by one process at a time.

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::refuse;
use crate::error::Result;

/// A folder that nobody else who asks may have, until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Claim {
    _folder: File,
}

impl Claim {
    /// Claims a folder, which stays what it is; [`None`] where there is none, or its file system has no
    /// locks.
    ///
    /// # Errors
    /// [`Error::OutputRefused`](crate::Error::OutputRefused) where another has it, for the reason given.
    pub(crate) fn of(folder: &Path, reason: &str) -> Result<Option<Self>> {
        loop {
            let Ok(file) = File::open(folder) else {
                return Ok(None);
            };
            match file.try_lock() {
                Ok(()) if is_at(&file, folder) => return Ok(Some(Self { _folder: file })),
                // Who had it has put another in its place meanwhile.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(refuse(folder, reason)),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }
}

/// Whether what was opened is what is there, or nothing is.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let opened = file.metadata().map(place);
    path.metadata()
        .map(place)
        .map_or(true, |there| opened.is_ok_and(|opened| opened == there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_a_folder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let claim = || Claim::of(folder.path(), "it is taken");
        let first = claim().unwrap();
        assert!(first.is_some());
        assert!(claim().unwrap_err().to_string().contains("it is taken"));
        drop(first);
        assert!(claim().unwrap().is_some());
        let opened = File::open(folder.path()).unwrap();
        assert!(is_at(&opened, folder.path()));
        let moved = folder.path().with_extension("moved");
        std::fs::rename(folder.path(), &moved).unwrap();
        std::fs::create_dir(folder.path()).unwrap();
        assert!(!is_at(&opened, folder.path()));
        std::fs::remove_dir(moved).unwrap();
        assert!(
            Claim::of(&folder.path().join("none"), "")
                .unwrap()
                .is_none()
        );
    }
}
