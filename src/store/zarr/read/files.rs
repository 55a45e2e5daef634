//! Where the keys of a store lead, and the files of a directory.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::store::remote::Span;

/// Values by key, listed by prefix.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Bytes of a value, [`None`] where there is none.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;

    /// A part of a value, [`None`] where there is no value.
    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>>;

    /// Names that follow a prefix (empty, or ended by `/`), up to their next `/`, in order.
    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>>;

    /// Bytes of all values below a prefix.
    fn total(&self, prefix: &str) -> io::Result<u64>;

    /// A whole value.
    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        match self.size(key)? {
            Some(len) => self.read(key, 0, len),
            None => Ok(None),
        }
    }

    /// Whether values come over a network, so that calls wait long and belong on threads that may.
    fn is_remote(&self) -> bool {
        false
    }

    /// Parts of values, in the order asked for; [`None`] where there is no value. Of a value that is
    /// shorter than what is asked for at its end, all of it.
    fn parts(&self, wanted: &[(String, Span)]) -> io::Result<Vec<Option<Piece>>> {
        let part = |(key, span): &(String, Span)| {
            let Some(size) = self.size(key)? else {
                return Ok(None);
            };
            let range = match span {
                Span::Whole => 0..size,
                Span::Range(range) => range.start.min(size)..range.end.min(size),
                Span::End(len) => size.saturating_sub(*len)..size,
            };
            let bytes = self.read(key, range.start, range.end.saturating_sub(range.start))?;
            Ok(bytes.map(|bytes| Piece { bytes, size }))
        };
        wanted.iter().map(part).collect()
    }

    /// The same values with these parts at hand, fetched together; [`None`] where asking for one
    /// after the other costs nothing.
    fn ahead(
        self: Arc<Self>,
        _wanted: Vec<(String, Vec<Range<u64>>)>,
    ) -> io::Result<Option<Ahead>> {
        Ok(None)
    }
}

/// A part of a value.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Bytes of the whole value.
    pub(super) size: u64,
}

/// Values at hand.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The files that have them.
    pub(super) files: Arc<dyn Files>,
    /// How many bytes were transferred.
    pub(super) bytes: u64,
}

/// A directory. What links in it lead to outside of it is refused: a store that somebody sent would
/// be read with the files of whoever opens it.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// The same without links.
    real: PathBuf,
    /// Folders seen to be inside, by their keys.
    inside: Mutex<HashSet<PathBuf>>,
}

/// Folders that are remembered at most.
const MOST_FOLDERS: usize = 1 << 16;

impl Directory {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            real: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            inside: Mutex::default(),
        }
    }

    /// The path of a key; a key does not leave the directory, neither by its name nor by a link.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        if key.split('/').any(|part| part == "..") {
            return Err(leads_out(key));
        }
        if key.is_empty() {
            return Ok(self.root.clone());
        }
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        if folder != self.root && !self.is_inside(folder)? {
            return Err(leads_out(key));
        }
        let is_link = path.symlink_metadata().is_ok_and(|m| m.is_symlink());
        if is_link
            && !path
                .canonicalize()
                .is_ok_and(|to| to.starts_with(&self.real))
        {
            return Err(leads_out(key));
        }
        Ok(path)
    }

    /// Whether a folder is in the directory, or not there at all.
    fn is_inside(&self, folder: &Path) -> io::Result<bool> {
        let lock = || self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().contains(folder) {
            return Ok(true);
        }
        let Some(real) = found(folder.canonicalize())? else {
            return Ok(true);
        };
        if !real.starts_with(&self.real) {
            return Ok(false);
        }
        let mut inside = lock();
        if inside.len() >= MOST_FOLDERS {
            inside.clear();
        }
        inside.insert(folder.to_owned());
        Ok(true)
    }
}

fn leads_out(key: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("the key {key:?} leads out of the store"),
    )
}

/// Nothing, where there is nothing.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Files for Directory {
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        let metadata = found(self.path(key)?.metadata())?;
        Ok(metadata.filter(std::fs::Metadata::is_file).map(|m| m.len()))
    }

    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>> {
        let Some(file) = found(File::open(self.path(key)?))? else {
            return Ok(None);
        };
        // A length that the file does not have is refused before memory is reserved for it.
        let size = file.metadata()?.len();
        if from.checked_add(len).is_none_or(|end| end > size) {
            return Err(cut_short(key, from, len, size));
        }
        read_at(&file, from, len).map(Some)
    }

    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        let Some(entries) = found(self.path(prefix)?.read_dir())? else {
            return Ok(BTreeSet::new());
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn total(&self, prefix: &str) -> io::Result<u64> {
        let Some(entries) = found(self.path(prefix)?.read_dir())? else {
            return Ok(0);
        };
        let mut total = 0;
        for entry in entries {
            let entry = entry?;
            // Not what a link leads to, which may be a folder above.
            let metadata = entry.metadata()?;
            total += match metadata.is_dir() {
                true => self.total(&format!("{prefix}{}/", entry.file_name().to_string_lossy()))?,
                false => metadata.len(),
            };
        }
        Ok(total)
    }
}

/// Bytes of a file; who asks has compared the length with the file's.
pub(super) fn read_at(file: &File, from: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

pub(super) fn cut_short(key: &str, from: u64, len: u64, size: u64) -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        format!("{key}: {len} bytes from {from} are asked for, it has {size}"),
    )
}
