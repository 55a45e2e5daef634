//! Zip archives of a store, whose entries are stored as they are or deflated.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use bytes::Bytes;
use libdeflater::{Crc, Decompressor, crc32};

use super::files::{Files, cut_short, read_at};

/// An archive; its directory is read once.
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

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

impl Entry {
    /// Whether the checksum that was found is the entry's.
    fn check(&self, key: &str, found: u32) -> io::Result<()> {
        match found == self.crc {
            true => Ok(()),
            false => Err(invalid(format!(
                "entry {key} of the archive has the checksum {found:08x}, its directory says {:08x}",
                self.crc
            ))),
        }
    }
}

impl Zip {
    /// Reads an entry to its end.
    ///
    /// # Errors
    /// Where it is not what its checksum says.
    fn check(&self, key: &str) -> io::Result<()> {
        /// Bytes that are read at a time.
        const BLOCK: u64 = 1 << 20;
        let Some(entry) = self.entries.get(key) else {
            return Ok(());
        };
        if entry.deflated {
            return self.read(key, 0, entry.size).map(drop);
        }
        let mut sum = Crc::new();
        let mut at = 0;
        while at < entry.size {
            let len = BLOCK.min(entry.size - at);
            sum.update(&read_at(&self.file, entry.at + at, len)?);
            at += len;
        }
        entry.check(key, sum.sum())
    }

    /// Reads the archive's directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut archive = ::zip::ZipArchive::new(io::BufReader::new(file.try_clone()?))?;
        let mut entries = HashMap::new();
        for i in 0..archive.len() {
            let entry = archive.by_index_raw(i)?;
            let name = entry.name().trim_start_matches('/').to_owned();
            // What archivers of macOS add is no part of what was archived.
            if name.ends_with('/') || name.starts_with("__MACOSX/") {
                continue;
            }
            let deflated = match entry.compression() {
                ::zip::CompressionMethod::Stored => false,
                ::zip::CompressionMethod::DEFLATE => true,
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
        if !entry.deflated {
            let bytes = read_at(&self.file, entry.at + from, len)?;
            if len == entry.size {
                entry.check(key, crc32(&bytes))?;
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
        entry.check(key, crc32(&bytes))?;
        let (from, to) = (usize::try_from(from), usize::try_from(from + len));
        let (Ok(from), Ok(to)) = (from, to) else {
            return Err(io::Error::from(ErrorKind::OutOfMemory));
        };
        Ok(Some(Bytes::from(bytes).slice(from..to)))
    }

    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        Ok(self.folders.get(prefix).cloned().unwrap_or_default())
    }

    fn garbled(&self) -> Vec<(String, String)> {
        let mut keys: Vec<_> = self.entries.keys().collect();
        keys.sort_unstable();
        let bad = |key: &String| self.check(key).err().map(|e| (key.clone(), e.to_string()));
        keys.into_iter().filter_map(bad).collect()
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
