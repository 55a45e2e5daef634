//! The two names of an output, and what is left under the first by processes that died.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::store::{WriteTarget, folder_of};

/// The names of a file being written.
#[derive(Debug)]
pub(super) struct Names {
    /// What messages call it.
    pub(super) url: String,
    /// Its final name; for a link, what that points to.
    pub(super) path: PathBuf,
    /// The name it has until then, in the same directory.
    pub(super) temporary: PathBuf,
}

impl Names {
    /// Looks at what stands at the target.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where it exists and may not be replaced, or has no directory.
    pub(super) fn try_new(target: &WriteTarget) -> Result<Self> {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let url = target.path.display().to_string();
        let refuse = |reason: String| Error::OutputRefused {
            path: url.clone(),
            reason,
        };
        let path = match std::fs::symlink_metadata(&target.path) {
            Ok(meta) if meta.is_symlink() => {
                std::fs::canonicalize(&target.path).unwrap_or_else(|_| target.path.clone())
            }
            _ => target.path.clone(),
        };
        let directory = folder_of(&path);
        if !directory.is_dir() {
            return Err(refuse(format!(
                "its directory {} does not exist",
                directory.display()
            )));
        }
        let Some(name) = path.file_name() else {
            return Err(refuse("it has no file name".to_owned()));
        };
        match std::fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => return Err(refuse("it is not a file".to_owned())),
            Ok(_) if !target.overwrite => return Err(refuse(EXISTS.to_owned())),
            _ => {}
        }
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = temporary_prefix(&name.to_string_lossy());
        let temporary = directory.join(format!("{prefix}{}-{count}.tmp", std::process::id()));
        Ok(Self {
            url,
            path,
            temporary,
        })
    }
}

/// Why an output is refused that is there already.
pub(super) const EXISTS: &str = "it exists already; --overwrite replaces it";

/// What temporary names of an output start with; long names are cut, as systems allow 255 bytes.
fn temporary_prefix(name: &str) -> String {
    let cut = (0..=name.len().min(200))
        .rev()
        .find(|i| name.is_char_boundary(*i));
    format!(".{}.", &name[..cut.unwrap_or(0)])
}

/// Removes what dead processes left behind for the same output. Failures are the next one's.
pub(super) fn remove_stale(names: &Names) {
    // What has this name already is of an earlier process of our number: ours count up.
    drop(std::fs::remove_file(&names.temporary));
    let Some(name) = names.path.file_name() else {
        return;
    };
    let prefix = temporary_prefix(&name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(folder_of(&names.path)) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let owner = found
            .to_str()
            .and_then(|found| {
                found
                    .strip_prefix(&prefix)?
                    .strip_suffix(".tmp")?
                    .split_once('-')
            })
            .filter(|(_, count)| count.parse::<u64>().is_ok())
            .and_then(|(pid, _)| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| pid > 0 && !is_alive(pid)) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 is not delivered.
    let status = unsafe { libc::kill(pid, 0) };
    status == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
