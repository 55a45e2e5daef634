//! Where the values of a store go: files of a folder beside its final name.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::references::ReferenceFile;
use crate::error::Result;
use crate::store::temporary::{Kind, Names};
use crate::store::{WriteTarget, folder_of};

/// Values being written under keys, none of which is there for a reader before they are published.
pub(super) trait Values: fmt::Debug + Send + Sync {
    /// What messages call the store.
    fn url(&self) -> &str;

    /// Whether values go over a network, so that calls wait long and belong on threads that may.
    fn is_remote(&self) -> bool {
        false
    }

    /// Makes room for the values of a node.
    fn make_node(&self, _key: &str) -> io::Result<()> {
        Ok(())
    }

    /// Begins a value.
    fn create(&self, key: &str) -> io::Result<Box<dyn Value>>;

    /// Waits until all values are stored for good.
    fn close(&self) -> io::Result<()>;

    /// Gives the values their place.
    fn publish(&self) -> Result<()>;

    /// Says that the values will be [discarded](Self::discard), to whoever still writes some.
    fn cancel(&self) {}

    /// Removes the values.
    fn discard(&self);

    /// The document of references that they stand in, where that is what the store is.
    fn references(&self) -> Option<&ReferenceFile> {
        None
    }
}

/// A value being written, front to back.
pub(super) trait Value: fmt::Debug + Send {
    /// Adds bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the value.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    names: Names,
    overwrite: bool,
    fsync: bool,
}

impl Folder {
    /// Makes a folder beside `target.path`.
    ///
    /// # Errors
    /// [`Error::OutputRefused`](crate::Error::OutputRefused) where the output exists and may not be
    /// replaced, or has no directory; [`Error::Store`](crate::Error::Store) where the folder cannot be
    /// made.
    pub(super) fn create(target: &WriteTarget) -> Result<Self> {
        let names = Names::try_new(target, Kind::Folder)?;
        let made = std::fs::create_dir(&names.temporary);
        made.map_err(|e| crate::Error::store(super::store::STORE, &names.url, e))?;
        Ok(Self {
            names,
            overwrite: target.overwrite,
            fsync: target.fsync,
        })
    }
}

impl Values for Folder {
    fn url(&self) -> &str {
        &self.names.url
    }

    fn make_node(&self, key: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.names.temporary.join(key))
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn Value>> {
        let path = self.names.temporary.join(key);
        let file = match File::create_new(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder_of(&path))?;
                File::create_new(&path)
            }
            made => made,
        };
        Ok(Box::new(FileValue {
            file: file?,
            fsync: self.fsync,
        }))
    }

    fn close(&self) -> io::Result<()> {
        match self.fsync {
            true => sync_folders(&self.names.temporary),
            false => Ok(()),
        }
    }

    fn publish(&self) -> Result<()> {
        self.names.publish(self.overwrite, self.fsync)
    }

    fn discard(&self) {
        self.names.remove();
    }
}

/// Flushes the entries of folders.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

#[derive(Debug)]
struct FileValue {
    file: File,
    fsync: bool,
}

impl Value for FileValue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        match self.fsync {
            true => self.file.sync_all(),
            false => Ok(()),
        }
    }
}
