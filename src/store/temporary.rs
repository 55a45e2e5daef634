//! The two names of an output, and what is left under the first by processes that died.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{WriteTarget, ZARR_DOCUMENTS, folder_of, refuse};
use crate::error::{Error, Result};
use crate::model::shown_path;

/// Why an output is refused that is there already.
pub(super) const EXISTS: &str =
    "it exists already; --overwrite (of COPY, the option 'overwrite') replaces it";

/// Why a folder is not replaced: what goes with it would go without a trace.
const NO_STORE: &str = "it is a folder, but no zarr store";

/// What an output is to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One file.
    File,
    /// A folder of files.
    Folder,
}

/// The names of an output being written.
#[derive(Debug)]
pub(super) struct Names {
    kind: Kind,
    /// What messages call it.
    pub(super) url: String,
    /// Its final name; for a link, what that points to.
    path: PathBuf,
    /// The name it has until then, in the same directory.
    pub(super) temporary: PathBuf,
}

impl Names {
    /// Looks at what stands at the target, and removes what dead processes left behind for it.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where it exists and may not be
    /// replaced, or has no directory.
    pub(super) fn try_new(target: &WriteTarget, kind: Kind) -> Result<Self> {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let refused = |reason: &str| refuse(&target.path, reason);
        let path = match std::fs::symlink_metadata(&target.path) {
            Ok(meta) if meta.is_symlink() => {
                std::fs::canonicalize(&target.path).unwrap_or_else(|_| target.path.clone())
            }
            _ => target.path.clone(),
        };
        let directory = folder_of(&path);
        if !directory.is_dir() {
            let reason = format!("its directory {} does not exist", directory.display());
            return Err(refused(&reason));
        }
        let Some(name) = path.file_name() else {
            return Err(refused("it has no file name"));
        };
        match (std::fs::metadata(&path), kind) {
            (Ok(meta), Kind::File) if !meta.is_file() => return Err(refused("it is not a file")),
            (Ok(meta), Kind::Folder) if !meta.is_dir() => {
                return Err(refused("it is not a folder"));
            }
            (Ok(_), _) if !target.overwrite => return Err(refused(EXISTS)),
            (Ok(_), Kind::Folder) if !is_store(&path) => return Err(refused(NO_STORE)),
            _ => {}
        }
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = temporary_prefix(&name.to_string_lossy());
        let temporary = directory.join(format!("{prefix}{}-{count}.tmp", std::process::id()));
        remove_stale(directory, &prefix);
        // What has this name already is of an earlier process of our number: ours count up.
        drop(remove(&temporary));
        Ok(Self {
            kind,
            url: shown_path(&target.path),
            path,
            temporary,
        })
    }

    /// Gives the output its final name.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where something has appeared there meanwhile that may not be
    /// replaced, [`Error::Store`] where renaming fails.
    pub(super) fn publish(&self, overwrite: bool, fsync: bool) -> Result<()> {
        let failure = |e| Error::store("file system", &self.url, e);
        let is_there = self.path.exists();
        if is_there && !overwrite {
            return Err(refuse(&self.path, EXISTS));
        }
        if is_there && self.kind == Kind::Folder {
            if !is_store(&self.path) {
                return Err(refuse(&self.path, NO_STORE));
            }
            let old = self.replace_folder().map_err(failure)?;
            if fsync {
                sync(folder_of(&self.path)).map_err(failure)?;
            }
            drop(remove(&old));
            return Ok(());
        } else {
            // Of a folder that appears now, this fails unless it is empty.
            std::fs::rename(&self.temporary, &self.path).map_err(failure)?;
        }
        match fsync {
            true => sync(folder_of(&self.path)).map_err(failure),
            false => Ok(()),
        }
    }

    /// Puts the folder in the place of an older one, and says where that is now, to be removed. That it
    /// cannot be removed whole is no reason to say that the new one failed.
    fn replace_folder(&self) -> io::Result<PathBuf> {
        match exchange(&self.temporary, &self.path) {
            Ok(()) => Ok(self.temporary.clone()),
            // Not every file system can (NFS, some overlays).
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                let mut aside = self.temporary.clone().into_os_string();
                aside.push(".old");
                let aside = PathBuf::from(aside);
                std::fs::rename(&self.path, &aside)?;
                if let Err(e) = std::fs::rename(&self.temporary, &self.path) {
                    std::fs::rename(&aside, &self.path)?;
                    return Err(e);
                }
                Ok(aside)
            }
            Err(e) => Err(e),
        }
    }

    /// Removes what was written.
    pub(super) fn remove(&self) {
        drop(remove(&self.temporary));
    }
}

/// Has the names in a folder on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether a folder may be replaced by a store: it is one, or empty.
fn is_store(folder: &Path) -> bool {
    let mut documents = ZARR_DOCUMENTS.iter();
    documents.any(|name| folder.join(name).exists())
        || folder.read_dir().is_ok_and(|mut all| all.next().is_none())
}

/// Swaps two folders, so that at every moment one of them has each name.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let one = CString::new(one.as_os_str().as_bytes())?;
    let other = CString::new(other.as_os_str().as_bytes())?;
    // SAFETY: both names end in NUL and live until the call returns.
    let status = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes a file, or a folder with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path)?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

/// What temporary names of an output start with; long names are cut, as systems allow 255 bytes.
fn temporary_prefix(name: &str) -> String {
    let cut = (0..=name.len().min(200))
        .rev()
        .find(|i| name.is_char_boundary(*i));
    format!(".{}.", &name[..cut.unwrap_or(0)])
}

/// Removes what dead processes left behind for the same output. Failures are the next one's.
fn remove_stale(directory: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let owner = found
            .to_str()
            .and_then(|found| {
                found
                    .strip_prefix(prefix)?
                    .strip_suffix(".tmp")?
                    .split_once('-')
            })
            .filter(|(_, count)| count.parse::<u64>().is_ok())
            .and_then(|(pid, _)| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| pid > 0 && !is_alive(pid)) {
            drop(remove(&entry.path()));
        }
    }
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 is not delivered.
    let status = unsafe { libc::kill(pid, 0) };
    status == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
