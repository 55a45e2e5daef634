//! Our own descriptor of the file, beside the library's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// A descriptor for writing at places the library has given.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// Writers of one file wait here: the kernel lets one at a time into a file, and has the others
    /// spin for it (8% of a slice's time went there). [`None`] once it is closed.
    file: Mutex<Option<File>>,
    /// Another past the page cache, for the bulk of a file that asks for it.
    direct: RwLock<Option<File>>,
}

impl Descriptor {
    pub(super) fn new(file: File, direct: Option<File>) -> Self {
        Self {
            file: Mutex::new(Some(file)),
            direct: RwLock::new(direct),
        }
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let file = self.file();
        file.as_ref().ok_or_else(closed)?.write_all_at(bytes, at)
    }

    /// Whether bulk goes past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        let direct = self.direct.read().unwrap_or_else(PoisonError::into_inner);
        direct.is_some()
    }

    /// Writes whole blocks from aligned memory to a multiple of their size.
    pub(super) fn write_blocks_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let direct = self.direct.read().unwrap_or_else(PoisonError::into_inner);
        let done = direct.as_ref().map(|file| file.write_all_at(bytes, at));
        match done {
            // A device of larger blocks refuses ours.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {}
            Some(done) => return done,
            None => {}
        }
        self.write_all_at(bytes, at)
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.file().as_ref().ok_or_else(closed)?.sync_all()
    }

    /// Gives the system's descriptors back: outputs that are complete wait for the others, and may
    /// be many.
    pub(super) fn close(&self) {
        self.file().take();
        let mut direct = self.direct.write().unwrap_or_else(PoisonError::into_inner);
        direct.take();
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> io::Error {
    io::Error::other("the file is closed")
}
