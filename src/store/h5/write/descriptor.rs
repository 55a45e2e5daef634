//! Our own descriptor of the file, beside the library's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// A descriptor for writing at places the library has given.
#[derive(Debug)]
pub(super) struct Descriptor {
    file: File,
    /// Another past the page cache, for the bulk of a file that asks for it.
    direct: Option<File>,
    /// Writers of one file wait here: the kernel lets one at a time into a file, and has the others
    /// spin for it (8% of a slice's time went there).
    turn: Mutex<()>,
}

impl Descriptor {
    pub(super) fn new(file: File, direct: Option<File>) -> Self {
        Self {
            file,
            direct,
            turn: Mutex::new(()),
        }
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, at)
    }

    /// Whether bulk goes past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Writes whole blocks from aligned memory to a multiple of their size.
    pub(super) fn write_blocks_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let done = self.direct.as_ref().map(|f| f.write_all_at(bytes, at));
        match done {
            // A device of larger blocks refuses ours.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {}
            Some(done) => return done,
            None => {}
        }
        self.write_all_at(bytes, at)
    }

    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
