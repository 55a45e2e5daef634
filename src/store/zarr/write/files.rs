//! Where encoded chunks go: a value each, or shards.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::values::{Value, Values};
use crate::store::ZarrVersion;
use crate::store::zarr::shard::{Entry, MISSING, encode, locate};

/// Bytes of a shard that are written at once.
const BLOCK: usize = 1 << 20;
/// Bytes of a chunk from which on it is written by itself: to copy it to others costs more than a call.
const LARGE: usize = 1 << 16;

/// The values of one array's chunks.
#[derive(Debug)]
pub(super) struct ChunkFiles {
    values: Arc<dyn Values>,
    /// The array's path.
    array: String,
    version: ZarrVersion,
    /// Chunks of a shard along each axis.
    per_shard: Option<Vec<u64>>,
    /// Shards that may get more, by their place.
    open: BTreeMap<Vec<u64>, Shard>,
}

impl ChunkFiles {
    pub(super) fn new(
        values: Arc<dyn Values>,
        array: &str,
        version: ZarrVersion,
        per_shard: Option<&[u64]>,
    ) -> Self {
        Self {
            values,
            array: array.to_owned(),
            version,
            per_shard: per_shard.map(<[u64]>::to_vec),
            open: BTreeMap::new(),
        }
    }

    /// Stores the chunk at a place; chunks come band by band, from the first on.
    pub(super) fn put(&mut self, place: &[u64], chunk: &[u8]) -> io::Result<()> {
        let Some(per_shard) = &self.per_shard else {
            let mut value = self.create(place)?;
            value.write(chunk)?;
            return value.finish();
        };
        let (shard_place, inner) = locate(place, per_shard);
        // Whoever is in an earlier row of shards gets no more.
        let row = shard_place.first().copied().unwrap_or(0);
        if self
            .open
            .keys()
            .any(|open| open.first().is_some_and(|r| *r < row))
        {
            let later = self.open.split_off(&vec![row]);
            let ended = std::mem::replace(&mut self.open, later);
            ended.into_values().try_for_each(Shard::finish)?;
        }
        if !self.open.contains_key(&shard_place) {
            let n_chunks = self.per_shard.iter().flatten().product();
            let shard = Shard::new(self.create(&shard_place)?, n_chunks)?;
            self.open.insert(shard_place.clone(), shard);
        }
        match self.open.get_mut(&shard_place) {
            Some(shard) => shard.put(inner, chunk),
            None => Ok(()),
        }
    }

    /// Ends what is open.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        open.into_values().try_for_each(Shard::finish)
    }

    /// Begins the value of a chunk or a shard.
    fn create(&self, place: &[u64]) -> io::Result<Box<dyn Value>> {
        self.values
            .create(&chunk_key(&self.array, self.version, place))
    }
}

/// The key of a chunk or a shard of an array, as `default` and `v2` of the specification's chunk key
/// encodings have it, with `/` and `.`.
pub(super) fn chunk_key(array: &str, version: ZarrVersion, place: &[u64]) -> String {
    let names: Vec<String> = place.iter().map(u64::to_string).collect();
    match version {
        ZarrVersion::V3 if names.is_empty() => format!("{array}/c"),
        ZarrVersion::V3 => format!("{array}/c/{}", names.join("/")),
        ZarrVersion::V2 if names.is_empty() => format!("{array}/0"),
        ZarrVersion::V2 => format!("{array}/{}", names.join(".")),
    }
}

/// A shard being written: chunks one after the other, then the index of where they are
/// (`sharding_indexed`, `index_location` end).
#[derive(Debug)]
struct Shard {
    value: Box<dyn Value>,
    /// Bytes so far.
    len: u64,
    /// Those of them that are not written yet.
    waiting: Vec<u8>,
    /// Where every chunk lies.
    index: Vec<Entry>,
}

impl Shard {
    fn new(value: Box<dyn Value>, n_chunks: u64) -> io::Result<Self> {
        let n_chunks = usize::try_from(n_chunks).map_err(io::Error::other)?;
        Ok(Self {
            value,
            len: 0,
            waiting: Vec::new(),
            index: vec![MISSING; n_chunks],
        })
    }

    fn put(&mut self, inner: u64, chunk: &[u8]) -> io::Result<()> {
        let len = chunk.len() as u64;
        let slot = usize::try_from(inner).ok();
        match slot.and_then(|slot| self.index.get_mut(slot)) {
            Some(slot) => *slot = (self.len, len),
            None => return Err(io::Error::other(format!("a shard has no chunk {inner}"))),
        }
        self.len += len;
        let is_large = chunk.len() > LARGE;
        if is_large || self.waiting.len() + chunk.len() > BLOCK {
            self.value.write(&self.waiting)?;
            self.waiting.clear();
        }
        match is_large {
            true => self.value.write(chunk),
            false => {
                self.waiting.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.waiting.extend(encode(&self.index));
        self.value.write(&self.waiting)?;
        self.value.finish()
    }
}
