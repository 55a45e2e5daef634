//! Where this process puts the temporary files of matrices stored by column.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// One for the process, because open objects, which hold the files, are shared between sessions.
static FOLDER: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Sets the folder for temporary files of objects that are read from now on; without it, the
/// system's (`TMPDIR`, else `/tmp`).
pub fn set_tmpdir(folder: impl Into<PathBuf>) {
    let mut place = FOLDER.write().unwrap_or_else(PoisonError::into_inner);
    *place = Some(folder.into());
}

/// A file without a name: gone when it is closed, however the process ends.
pub(super) fn file() -> std::io::Result<File> {
    let place = FOLDER.read().unwrap_or_else(PoisonError::into_inner);
    match place.as_ref() {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    }
}
