//! Where inner chunks lie in shards.
//!
//! The index is read here, because `zarrs` 0.23 looks for an inner chunk that is not there at the
//! end of the address space.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use zarrs::array::Array;
use zarrs::storage::byte_range::ByteRange;
use zarrs::storage::{ReadableStorageTraits, StoreKey};

use super::files::Piece;
use super::storage::{Counted, Wanted};
use crate::store::decode::Fault;
use crate::store::remote::Span;
use crate::store::zarr::shard::{ENTRY_BYTES, Entry, MISSING, decode, locate};

/// Entries of indexes kept at most, of 16 bytes each.
const KEEP_ENTRIES: usize = 1 << 20;

/// An index: where every inner chunk lies.
#[derive(Debug, Clone)]
struct Index {
    entries: Arc<[Entry]>,
    /// Bytes of the shard.
    size: u64,
}

/// The shards of an array.
#[derive(Debug)]
pub(super) struct Shards {
    /// Inner chunks of a shard along each axis.
    per_shard: Vec<u64>,
    n_chunks: usize,
    at_end: bool,
    has_checksum: bool,
    /// Indexes read so far; [`None`] of shards that are not there.
    indexes: Mutex<HashMap<Vec<u64>, Option<Index>>>,
}

impl Shards {
    /// The shards of `sharding_indexed`, whose configuration is given; [`None`] where the index is
    /// encoded in any but the usual way.
    pub(super) fn of(configuration: &Value, shard: &[u64], inner: &[u64]) -> Option<Self> {
        let codecs = configuration.get("index_codecs")?.as_array()?;
        let name = |codec: &Value| Some(codec.get("name")?.as_str()?.to_owned());
        let endian = codecs.first()?.get("configuration")?.get("endian")?;
        let (first, rest) = codecs.split_first()?;
        let has_checksum = match rest {
            [] => false,
            [codec] if name(codec)? == "crc32c" => true,
            _ => return None,
        };
        if name(first)? != "bytes" || endian.as_str()? != "little" || shard.len() != inner.len() {
            return None;
        }
        let axes = shard.iter().zip(inner);
        let per_shard: Vec<u64> = axes.map(|(shard, inner)| shard / inner).collect();
        let n_chunks = per_shard.iter().try_fold(1u64, |p, n| p.checked_mul(*n))?;
        n_chunks.checked_mul(16).filter(|bytes| *bytes > 0)?;
        Some(Self {
            n_chunks: usize::try_from(n_chunks).ok()?,
            per_shard,
            at_end: configuration.get("index_location").and_then(Value::as_str) != Some("start"),
            has_checksum,
            indexes: Mutex::default(),
        })
    }

    /// The encoded inner chunk at a place, [`None`] where there is none.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where the index contradicts its checksum or the shard's size.
    pub(super) fn read(
        &self,
        array: &Array<Counted>,
        place: &[u64],
    ) -> Result<Option<Bytes>, Fault> {
        let (shard, inner) = locate(place, &self.per_shard);
        let key = array.chunk_key(&shard);
        let Some(index) = self.index(array, &shard, &key)? else {
            return Ok(None);
        };
        let entry = usize::try_from(inner)
            .ok()
            .and_then(|inner| index.entries.get(inner));
        let (offset, len) = match entry {
            None => return Err(Fault::Corrupt(format!("shard {key} has no chunk {inner}"))),
            Some(&MISSING) => return Ok(None),
            Some(entry) => *entry,
        };
        let range = ByteRange::FromStart(offset, Some(len));
        let bytes = array.storage().get_partial(&key, range);
        bytes.map_err(|e| Fault::Corrupt(format!("{}: {e}", self.name(array, place))))
    }

    /// What messages call the inner chunk at a place.
    pub(super) fn name(&self, array: &Array<Counted>, place: &[u64]) -> String {
        let (shard, inner) = locate(place, &self.per_shard);
        format!("chunk {inner} of shard {}", array.chunk_key(&shard))
    }

    fn index(
        &self,
        array: &Array<Counted>,
        shard: &[u64],
        key: &StoreKey,
    ) -> Result<Option<Index>, Fault> {
        if let Some(index) = self.lock().get(shard) {
            return Ok(index.clone());
        }
        let mut loaded = self.load(array, &[(shard.to_vec(), key.clone())])?;
        Ok(loaded.pop().flatten())
    }

    /// Where the inner chunks at these places are: the keys of their shards, and ranges of bytes
    /// there. Reads the indexes of shards that were not read yet, several at once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn ranges(
        &self,
        array: &Array<Counted>,
        places: &[Vec<u64>],
    ) -> Result<Wanted, Fault> {
        let mut by_shard: BTreeMap<Vec<u64>, Vec<u64>> = BTreeMap::new();
        for place in places {
            let (shard, inner) = locate(place, &self.per_shard);
            by_shard.entry(shard).or_default().push(inner);
        }
        let missing: Vec<_> = {
            let indexes = self.lock();
            let missing = by_shard
                .keys()
                .filter(|shard| !indexes.contains_key(*shard));
            missing
                .map(|shard| (shard.clone(), array.chunk_key(shard)))
                .collect()
        };
        // What was just loaded may be gone from those kept.
        let loaded = self.load(array, &missing)?;
        let loaded: HashMap<_, _> = missing
            .into_iter()
            .map(|(shard, _)| shard)
            .zip(loaded)
            .collect();
        let mut ranges = Vec::with_capacity(by_shard.len());
        for (shard, chunks) in by_shard {
            let key = array.chunk_key(&shard);
            let index = match loaded.get(&shard) {
                Some(index) => index.clone(),
                None => self.index(array, &shard, &key)?,
            };
            let Some(index) = index else { continue };
            let entries = chunks.iter().filter_map(|inner| {
                let entry = index.entries.get(usize::try_from(*inner).ok()?)?;
                (*entry != MISSING).then_some(entry)
            });
            // What leads out of the shard is refused where it is read.
            let of_shard: Vec<_> = entries
                .filter_map(|(offset, len)| Some(*offset..offset.checked_add(*len)?))
                .filter(|range| range.start < range.end && range.end <= index.size)
                .collect();
            if !of_shard.is_empty() {
                ranges.push((key, of_shard));
            }
        }
        Ok(ranges)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u64>, Option<Index>>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads indexes, and keeps them.
    fn load(
        &self,
        array: &Array<Counted>,
        shards: &[(Vec<u64>, StoreKey)],
    ) -> Result<Vec<Option<Index>>, Fault> {
        let len = (self.n_chunks * ENTRY_BYTES) as u64 + if self.has_checksum { 4 } else { 0 };
        let span = match self.at_end {
            true => Span::End(len),
            false => Span::Range(0..len),
        };
        let keys = shards.iter().map(|(_, key)| key);
        let pieces = array.storage().parts(keys, &span)?;
        let mut loaded = Vec::with_capacity(shards.len());
        for ((_, key), piece) in shards.iter().zip(pieces) {
            loaded.push(match piece {
                Some(piece) => Some(self.parse(key, len, &piece)?),
                None => None,
            });
        }
        let mut indexes = self.lock();
        if indexes.len().saturating_mul(self.n_chunks) > KEEP_ENTRIES {
            indexes.clear();
        }
        for ((shard, _), index) in shards.iter().zip(&loaded) {
            indexes.insert(shard.clone(), index.clone());
        }
        Ok(loaded)
    }

    fn parse(&self, key: &StoreKey, len: u64, piece: &Piece) -> Result<Index, Fault> {
        let corrupt = |reason: String| Fault::Corrupt(format!("shard {key}: {reason}"));
        let Piece { bytes, size } = piece;
        if len > *size {
            return Err(corrupt(format!(
                "it has {size} bytes, and an index of {} chunks takes {len}",
                self.n_chunks
            )));
        }
        let (entries, checksum) = bytes
            .as_ref()
            .split_at_checked(self.n_chunks * ENTRY_BYTES)
            .filter(|_| bytes.len() as u64 == len)
            .ok_or_else(|| corrupt(format!("its index has {} of {len} bytes", bytes.len())))?;
        if let Ok(checksum) = <[u8; 4]>::try_from(checksum) {
            let (said, found) = (u32::from_le_bytes(checksum), crc32c::crc32c(entries));
            if said != found {
                return Err(corrupt(format!(
                    "the index at the {} of its {size} bytes has the checksum {found:08x} and says \
                     {said:08x}, so it is garbled, or the shard is cut short",
                    if self.at_end { "end" } else { "start" }
                )));
            }
        }
        Ok(Index {
            entries: decode(entries).collect(),
            size: *size,
        })
    }
}
