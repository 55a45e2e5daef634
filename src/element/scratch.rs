//! Where this process puts the temporary files of matrices stored by column.

use std::ffi::CString;
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
pub(crate) fn scratch_file() -> std::io::Result<File> {
    let place = FOLDER.read().unwrap_or_else(PoisonError::into_inner);
    match place.as_ref() {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    }
}

/// The folder of temporary files, for messages.
pub(crate) fn scratch_folder() -> PathBuf {
    let place = FOLDER.read().unwrap_or_else(PoisonError::into_inner);
    place.clone().unwrap_or_else(std::env::temp_dir)
}

/// Bytes that the folder of temporary files has left; [`None`] where the system does not say.
pub(crate) fn scratch_space() -> Option<u64> {
    let folder = CString::new(scratch_folder().into_os_string().into_encoded_bytes()).ok()?;
    let mut space = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `folder` is a string that ends in zero, `space` is room for what is written there.
    let failed = unsafe { libc::statvfs(folder.as_ptr(), space.as_mut_ptr()) };
    // SAFETY: all zeros are a valid value, and a call that succeeded has replaced them.
    let space = unsafe { space.assume_init() };
    (failed == 0).then(|| {
        let (blocks, size) = (u128::from(space.f_bavail), u128::from(space.f_frsize));
        u64::try_from(blocks * size).unwrap_or(u64::MAX)
    })
}
