//! The objects below a prefix of an object store, or of a web server.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::files::{Ahead, Files, Piece};
use crate::store::remote::{Got, Part, Parts, Place, Span, Version, changed};
use crate::store::zarr::DOCUMENTS;

/// Versions of shards remembered at most.
const KEEP_VERSIONS: usize = 1 << 16;

/// How long a store that was seen to be what was opened is taken to be still so: of sparse arrays
/// many chunks are missing.
const SAME: Duration = Duration::from_secs(1);

/// Objects by key.
#[derive(Debug)]
pub(super) struct Objects {
    place: Place,
    /// A document of the root, as it was when the store was opened: who writes a store anew writes
    /// it anew.
    root: (&'static str, Version),
    /// When it was last seen to be that still.
    same: Mutex<Option<Instant>>,
    /// Of objects of which a part was read: later parts have to be of the same.
    versions: Mutex<HashMap<String, Version>>,
    /// Sizes of all objects, where somebody asked.
    sizes: OnceLock<Vec<(String, u64)>>,
}

impl Objects {
    /// Those below a place, whose root has a document of this name and version.
    pub(super) fn new(place: Place, root: &'static str, version: Version) -> Self {
        Self {
            place,
            root: (root, version),
            same: Mutex::default(),
            versions: Mutex::default(),
            sizes: OnceLock::new(),
        }
    }

    fn part(&self, key: &str, span: Span) -> Part {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        Part {
            key: key.to_owned(),
            span,
            version: versions.get(key).cloned(),
        }
    }

    /// What is at keys. Where an object is missing or younger than the store, it may be of another
    /// store that is being written in its place, whose missing chunks are no fill values.
    fn fetch(&self, parts: Vec<Part>) -> io::Result<Vec<Option<Got>>> {
        let keys: Vec<String> = parts.iter().map(|part| part.key.clone()).collect();
        let fetched = self.place.fetch(parts)?;
        let is_odd = |(key, got): (&String, &Option<Got>)| match got {
            Some(got) => got.version.is_after(&self.root.1),
            None => !is_document(key),
        };
        if keys.iter().zip(&fetched).any(is_odd) {
            self.check()?;
        }
        Ok(fetched)
    }

    /// Whether the store is the one that was opened.
    fn check(&self) -> io::Result<()> {
        // Who waits here finds the answer.
        let mut same = self.same.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if same.is_some_and(|at| now.duration_since(at) < SAME) {
            return Ok(());
        }
        let (name, opened) = &self.root;
        match self.place.probe(name)? {
            Some(found) if found.agrees(opened) => {
                *same = Some(now);
                Ok(())
            }
            _ => Err(changed("")),
        }
    }

    /// Remembers what a part was of, of which others may follow.
    fn remember(&self, key: &str, got: &Got) {
        if got.bytes.len() as u64 == got.version.size {
            return;
        }
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= KEEP_VERSIONS {
            versions.clear();
        }
        versions
            .entry(key.to_owned())
            .or_insert_with(|| got.version.clone());
    }
}

fn is_document(key: &str) -> bool {
    let name = key.rsplit('/').next();
    name.is_some_and(|name| DOCUMENTS.contains(&name))
}

impl Files for Objects {
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        let found = self.place.head(key)?;
        if found.is_none() && !is_document(key) {
            self.check()?;
        }
        Ok(found.map(|version| version.size))
    }

    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>> {
        if len == 0 {
            return Ok(self.size(key)?.map(|_| Bytes::new()));
        }
        let range = from..from.saturating_add(len);
        let got = self.fetch(vec![self.part(key, Span::Range(range))])?;
        match got.into_iter().next().flatten() {
            Some(got) if got.bytes.len() as u64 == len => Ok(Some(got.bytes)),
            Some(got) => Err(super::files::cut_short(key, from, len, got.version.size)),
            None => Ok(None),
        }
    }

    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        let got = self.fetch(vec![self.part(key, Span::Whole)])?;
        Ok(got.into_iter().next().flatten().map(|got| got.bytes))
    }

    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        self.place.children(prefix)
    }

    fn total(&self, prefix: &str) -> io::Result<u64> {
        let sizes = match self.sizes.get() {
            Some(sizes) => sizes,
            None => {
                let sizes = self.place.sizes("")?;
                self.sizes.get_or_init(|| sizes)
            }
        };
        let below = sizes.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(_, size)| size).sum())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn parts(&self, wanted: &[(String, Span)]) -> io::Result<Vec<Option<Piece>>> {
        let parts = wanted
            .iter()
            .map(|(key, span)| self.part(key, span.clone()));
        let got = self.fetch(parts.collect())?;
        let keys = wanted.iter().map(|(key, _)| key);
        let pieces = keys.zip(got).map(|(key, got)| {
            let got = got?;
            self.remember(key, &got);
            Some(Piece {
                bytes: got.bytes,
                size: got.version.size,
            })
        });
        Ok(pieces.collect())
    }

    fn ahead(self: Arc<Self>, wanted: Vec<(String, Vec<Range<u64>>)>) -> io::Result<Option<Ahead>> {
        let mut requests = Vec::new();
        for (key, ranges) in &wanted {
            match ranges.as_slice() {
                [] => requests.push((key, Span::Whole)),
                ranges => requests.extend(
                    crate::store::remote::join(ranges)
                        .into_iter()
                        .map(|range| (key, Span::Range(range))),
                ),
            }
        }
        let parts = requests
            .iter()
            .map(|(key, span)| self.part(key, span.clone()));
        let got = self.fetch(parts.collect())?;
        let mut bytes = 0;
        let mut values: HashMap<String, Option<Fetched>> = HashMap::new();
        for ((key, _), got) in requests.into_iter().zip(got) {
            let Some(got) = got else {
                values.insert(key.clone(), None);
                continue;
            };
            self.remember(key, &got);
            bytes += got.bytes.len() as u64;
            let value = values
                .entry(key.clone())
                .or_insert_with(|| Some((0, Vec::new())));
            if let Some((size, parts)) = value {
                *size = got.version.size;
                parts.push((got.start, got.bytes));
            }
        }
        let values = values.into_iter().map(|(key, value)| {
            let value = value.map(|(size, parts)| (size, Parts::new(parts)));
            (key, value)
        });
        Ok(Some(Ahead {
            files: Arc::new(Held {
                values: values.collect(),
                base: self,
            }),
            bytes,
        }))
    }
}

/// The size of an object, and parts of it by where they begin.
type Fetched = (u64, Vec<(u64, Bytes)>);

/// Objects of which some are in memory, whole or in parts, or known not to be there.
#[derive(Debug)]
struct Held {
    base: Arc<Objects>,
    values: HashMap<String, Option<(u64, Parts)>>,
}

impl Files for Held {
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        match self.values.get(key) {
            Some(value) => Ok(value.as_ref().map(|(size, _)| *size)),
            None => self.base.size(key),
        }
    }

    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>> {
        match self.values.get(key) {
            Some(None) => Ok(None),
            Some(Some((_, parts))) => match parts.get(from, len) {
                Some(bytes) => Ok(Some(bytes)),
                None => self.base.read(key, from, len),
            },
            None => self.base.read(key, from, len),
        }
    }

    fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        self.base.children(prefix)
    }

    fn total(&self, prefix: &str) -> io::Result<u64> {
        self.base.total(prefix)
    }

    fn is_remote(&self) -> bool {
        true
    }
}
