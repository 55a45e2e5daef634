//! Where the keys of a store lead, and the files of a directory.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::decode::Room;
use crate::store::remote::Span;
use crate::store::source::read_exact_uninit;

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

    /// Values that are not what a checksum of theirs says, and what is wrong.
    fn garbled(&self) -> Vec<(String, String)> {
        Vec::new()
    }

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
    /// What its files are known by among those that stay open.
    number: u64,
}

/// A file that stays open.
#[derive(Debug)]
struct Opened {
    directory: u64,
    key: String,
    file: File,
    /// Its bytes when it was opened.
    size: u64,
}

/// Files that were read last, of all directories: a shard is read in many parts.
static OPENED: Mutex<Vec<Arc<Opened>>> = Mutex::new(Vec::new());
/// How many are kept at most.
const MOST_OPENED: usize = 32;
/// Directories that were opened.
static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

fn opened() -> MutexGuard<'static, Vec<Arc<Opened>>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Directory {
    fn drop(&mut self) {
        opened().retain(|file| file.directory != self.number);
    }
}

/// Folders that are remembered at most.
const MOST_FOLDERS: usize = 1 << 16;

impl Directory {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            real: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            inside: Mutex::default(),
            number: DIRECTORIES.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The file of a key, which has the bytes of a range unless no file there has; [`None`] where there
    /// is none. It stays open where there is more of it to be read.
    fn open(&self, key: &str, range: &Range<u64>) -> io::Result<Option<Arc<Opened>>> {
        let is_it = |file: &Arc<Opened>| file.directory == self.number && file.key == key;
        {
            let mut opened = opened();
            let at = opened.iter().rposition(is_it);
            if let Some(file) = at.map(|at| opened.remove(at))
                && range.end <= file.size
            {
                opened.push(Arc::clone(&file));
                return Ok(Some(file));
            }
        }
        let Some(file) = found(File::open(self.path(key)?))? else {
            return Ok(None);
        };
        let file = Arc::new(Opened {
            directory: self.number,
            key: key.to_owned(),
            size: file.metadata()?.len(),
            file,
        });
        if range.end - range.start < file.size {
            let mut opened = opened();
            opened.retain(|other| !is_it(other));
            opened.push(Arc::clone(&file));
            if opened.len() > MOST_OPENED {
                opened.remove(0);
            }
        }
        Ok(Some(file))
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
        let range = from..from.saturating_add(len);
        let Some(opened) = self.open(key, &range)? else {
            return Ok(None);
        };
        // A length that the file does not have is refused before memory is reserved for it.
        if range.end > opened.size {
            return Err(cut_short(key, from, len, opened.size));
        }
        read_at(&opened.file, from, len).map(Some)
    }

    /// As the file is now, whatever was read of it before.
    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        let Some(file) = found(File::open(self.path(key)?))? else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => read_at(&file, 0, metadata.len()).map(Some),
            false => Ok(None),
        }
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

/// Bytes of a file, in memory that is used again; who asks has compared the length with the file's.
pub(super) fn read_at(file: &File, from: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    let mut bytes = Room::with_capacity(len);
    bytes.try_reserve_exact(len)?;
    read_exact_uninit(file, from, &mut bytes.spare_capacity_mut()[..len])?;
    // SAFETY: the line above filled so many.
    unsafe { bytes.set_len(len) };
    Ok(Bytes::from_owner(bytes))
}

pub(super) fn cut_short(key: &str, from: u64, len: u64, size: u64) -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        format!("{key}: {len} bytes from {from} are asked for, it has {size}"),
    )
}
