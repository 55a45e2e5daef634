//! Where the keys of a store lead: files of a directory, or entries of a zip archive.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use libdeflater::{Decompressor, crc32};
use zarrs::storage::byte_range::{ByteRange, ByteRangeIterator};
use zarrs::storage::{
    MaybeBytes, MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey,
};

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
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The path of a key; a key does not leave the directory.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        if key.split('/').any(|part| part == "..") {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("the key {key:?} leads out of the store"),
            ));
        }
        Ok(self.root.join(key))
    }
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
            let metadata = entry.metadata()?;
            total += match metadata.is_dir() {
                true => self.total(&format!("{prefix}{}/", entry.file_name().to_string_lossy()))?,
                false => metadata.len(),
            };
        }
        Ok(total)
    }
}

fn read_at(file: &File, from: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

fn cut_short(key: &str, from: u64, len: u64, size: u64) -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        format!("{key}: {len} bytes from {from} are asked for, it has {size}"),
    )
}

/// A zip archive, whose entries are stored as they are or deflated.
#[derive(Debug)]
pub(super) struct Zip {
    file: File,
    len: u64,
    entries: HashMap<String, Entry>,
    /// Children of every folder, which ends in `/` unless it is the root.
    folders: HashMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    stored: u64,
    size: u64,
    deflated: bool,
    /// Checksum of all bytes, compared where all of them are read.
    crc: u32,
}

impl Zip {
    /// Reads the archive's directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut archive = zip::ZipArchive::new(io::BufReader::new(file.try_clone()?))?;
        let mut entries = HashMap::new();
        for i in 0..archive.len() {
            let entry = archive.by_index_raw(i)?;
            let name = entry.name().trim_start_matches('/').to_owned();
            // What archivers of macOS add is no part of what was archived.
            if name.ends_with('/') || name.starts_with("__MACOSX/") {
                continue;
            }
            let deflated = match entry.compression() {
                zip::CompressionMethod::Stored => false,
                zip::CompressionMethod::DEFLATE => true,
                other => {
                    return Err(io::Error::new(
                        ErrorKind::Unsupported,
                        format!("entry {name} of the archive is compressed by {other}"),
                    ));
                }
            };
            let at = entry.data_start();
            let place = Entry {
                at,
                stored: entry.compressed_size(),
                size: entry.size(),
                deflated,
                crc: entry.crc32(),
            };
            if at.checked_add(place.stored).is_none_or(|end| end > len)
                || (!deflated && place.size != place.stored)
            {
                return Err(cut_short(&name, at, place.stored, len));
            }
            entries.insert(name, place);
        }
        let entries = below_one_folder(entries);
        let mut folders: HashMap<String, BTreeSet<String>> = HashMap::new();
        for name in entries.keys() {
            // Of an entry and its folders, each is a child of the one before it.
            let mut rest = name.as_str();
            let mut folder = String::new();
            while let Some((first, later)) = rest.split_once('/') {
                let children = folders.entry(folder.clone()).or_default();
                children.insert(first.to_owned());
                folder = format!("{folder}{first}/");
                rest = later;
            }
            folders.entry(folder).or_default().insert(rest.to_owned());
        }
        Ok(Self {
            file,
            len,
            entries,
            folders,
        })
    }
}

/// Where everything is in one folder, as when a folder was archived and not its content, that folder
/// is the root.
fn below_one_folder(entries: HashMap<String, Entry>) -> HashMap<String, Entry> {
    let folder = entries.keys().next().and_then(|name| name.split_once('/'));
    let Some(folder) = folder.map(|(folder, _)| format!("{folder}/")) else {
        return entries;
    };
    if !entries.keys().all(|name| name.starts_with(&folder)) {
        return entries;
    }
    let stripped = entries.into_iter();
    stripped
        .map(|(name, entry)| (name[folder.len()..].to_owned(), entry))
        .collect()
}

impl Files for Zip {
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        Ok(self.entries.get(key).map(|entry| entry.size))
    }

    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>> {
        /// What deflate can make of a byte at most, and a bit.
        const RATIO: u64 = 1100;
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        if from.checked_add(len).is_none_or(|end| end > entry.size) {
            return Err(cut_short(key, from, len, entry.size));
        }
        let invalid = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
        let check = |bytes: &[u8]| match crc32(bytes) {
            found if found == entry.crc => Ok(()),
            found => Err(invalid(format!(
                "entry {key} of the archive has the checksum {found:08x}, its directory says {:08x}",
                entry.crc
            ))),
        };
        if !entry.deflated {
            let bytes = read_at(&self.file, entry.at + from, len)?;
            if len == entry.size {
                check(&bytes)?;
            }
            return Ok(Some(bytes));
        }
        if entry.size > entry.stored.saturating_mul(RATIO) {
            return Err(invalid(format!(
                "entry {key} claims {} bytes, deflated to {}",
                entry.size, entry.stored
            )));
        }
        let stored = read_at(&self.file, entry.at, entry.stored)?;
        let size = usize::try_from(entry.size).map_err(|e| invalid(e.to_string()))?;
        let mut bytes = vec![0; size];
        let n = Decompressor::new()
            .deflate_decompress(&stored, &mut bytes)
            .map_err(|e| invalid(format!("entry {key} of the archive: {e}")))?;
        if n != size {
            return Err(invalid(format!("entry {key} has {n} bytes of {size}")));
        }
        check(&bytes)?;
        let (from, to) = (usize::try_from(from), usize::try_from(from + len));
        let (Ok(from), Ok(to)) = (from, to) else {
            return Err(io::Error::from(ErrorKind::OutOfMemory));
        };
        Ok(Some(Bytes::from(bytes).slice(from..to)))
    }

    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        Ok(self.folders.get(prefix).cloned().unwrap_or_default())
    }

    fn total(&self, prefix: &str) -> io::Result<u64> {
        if prefix.is_empty() {
            return Ok(self.len);
        }
        let below = self
            .entries
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(_, entry)| entry.stored).sum())
    }
}

/// Values of one array for `zarrs`, which says how many bytes were taken. The array is the root to
/// it: names such as `__categories` are none that it takes.
#[derive(Debug)]
pub(super) struct Counted {
    files: Arc<dyn Files>,
    /// What keys of the array begin with.
    prefix: String,
    bytes: AtomicU64,
}

impl Counted {
    pub(super) fn new(files: Arc<dyn Files>, prefix: String) -> Self {
        Self {
            files,
            prefix,
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes read since this was last asked.
    pub(super) fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl ReadableStorageTraits for Counted {
    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        byte_ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let key = self.key(key);
        let Some(size) = self.files.size(&key)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(byte_ranges.map(move |range| {
            let bytes = self.range(&key, range, size)?;
            bytes.ok_or_else(|| StorageError::Other(format!("{key} has gone")))
        }))))
    }

    fn get_partial(&self, key: &StoreKey, range: ByteRange) -> Result<MaybeBytes, StorageError> {
        let key = self.key(key);
        match self.files.size(&key)? {
            Some(size) => self.range(&key, range, size),
            None => Ok(None),
        }
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        Ok(self.files.size(&self.key(key))?)
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}

impl Counted {
    fn key(&self, key: &StoreKey) -> String {
        format!("{}{key}", self.prefix)
    }

    fn range(&self, key: &str, range: ByteRange, size: u64) -> Result<MaybeBytes, StorageError> {
        let (from, len) = match range {
            ByteRange::FromStart(from, Some(len)) => (from, len),
            ByteRange::FromStart(from, None) => (from, size.saturating_sub(from)),
            ByteRange::Suffix(len) => (size.saturating_sub(len), len.min(size)),
        };
        self.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(self.files.read(key, from, len)?)
    }
}
