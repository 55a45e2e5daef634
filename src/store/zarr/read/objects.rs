//! The objects below a prefix of an object store, or of a web server.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::files::{Ahead, Files, Piece};
use crate::store::remote::{Got, Part, Parts, Place, Span, Version};

/// Versions of shards remembered at most.
const KEEP_VERSIONS: usize = 1 << 16;

/// Objects by key.
#[derive(Debug)]
pub(super) struct Objects {
    place: Place,
    /// Of objects of which a part was read: later parts have to be of the same.
    versions: Mutex<HashMap<String, Version>>,
    /// Sizes of all objects, where somebody asked.
    sizes: OnceLock<Vec<(String, u64)>>,
}

impl Objects {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
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

impl Files for Objects {
    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        Ok(self.place.head(key)?.map(|version| version.size))
    }

    fn read(&self, key: &str, from: u64, len: u64) -> io::Result<Option<Bytes>> {
        if len == 0 {
            return Ok(self.size(key)?.map(|_| Bytes::new()));
        }
        let range = from..from.saturating_add(len);
        let got = self.place.fetch(vec![self.part(key, Span::Range(range))])?;
        match got.into_iter().next().flatten() {
            Some(got) if got.bytes.len() as u64 == len => Ok(Some(got.bytes)),
            Some(got) => Err(super::files::cut_short(key, from, len, got.version.size)),
            None => Ok(None),
        }
    }

    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        let got = self.place.fetch(vec![self.part(key, Span::Whole)])?;
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
        let got = self.place.fetch(parts.collect())?;
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
        let got = self.place.fetch(parts.collect())?;
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
