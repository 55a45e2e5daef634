//! Where encoded chunks go: a file each, or shards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::store::zarr::shard::{Entry, MISSING, encode, locate};
use crate::store::{ZarrVersion, folder_of};

/// Bytes of a shard that are written at once.
const BLOCK: usize = 1 << 20;

/// Where the encoded chunks of one array go.
pub(super) trait PutChunks: std::fmt::Debug + Send + Sync {
    /// Stores the chunk at a place; chunks come band by band, from the first on.
    fn put(&mut self, place: &[u64], chunk: &[u8]) -> io::Result<()>;

    /// Ends what is open.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What version 2 calls the chunk at a place (the specification's `v2` chunk key encoding with `.`).
pub(super) fn v2_key(place: &[u64]) -> String {
    match place {
        [] => "0".to_owned(),
        place => {
            let names: Vec<String> = place.iter().map(u64::to_string).collect();
            names.join(".")
        }
    }
}

/// The files of one array's chunks.
#[derive(Debug)]
pub(super) struct ChunkFiles {
    /// The array's folder.
    folder: PathBuf,
    version: ZarrVersion,
    fsync: bool,
    /// Chunks of a shard along each axis.
    per_shard: Option<Vec<u64>>,
    /// Shards that may get more, by their place.
    open: BTreeMap<Vec<u64>, Shard>,
}

impl ChunkFiles {
    pub(super) fn new(
        folder: PathBuf,
        version: ZarrVersion,
        fsync: bool,
        per_shard: Option<&[u64]>,
    ) -> Self {
        Self {
            folder,
            version,
            fsync,
            per_shard: per_shard.map(<[u64]>::to_vec),
            open: BTreeMap::new(),
        }
    }

    fn close(&self, shard: Shard) -> io::Result<()> {
        let file = shard.finish()?;
        self.end(&file)
    }

    fn end(&self, file: &File) -> io::Result<()> {
        match self.fsync {
            true => file.sync_all(),
            false => Ok(()),
        }
    }

    /// Creates the file of a chunk or a shard (keys as `default` of the specification's chunk key
    /// encodings with `/`, or as [`v2_key`]).
    fn create(&self, place: &[u64]) -> io::Result<File> {
        let path = match self.version {
            ZarrVersion::V3 => place
                .iter()
                .fold(self.folder.join("c"), |path, at| path.join(at.to_string())),
            ZarrVersion::V2 => self.folder.join(v2_key(place)),
        };
        match File::create_new(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder_of(&path))?;
                File::create_new(&path)
            }
            made => made,
        }
    }
}

impl PutChunks for ChunkFiles {
    fn put(&mut self, place: &[u64], chunk: &[u8]) -> io::Result<()> {
        let Some(per_shard) = &self.per_shard else {
            let mut file = self.create(place)?;
            file.write_all(chunk)?;
            return self.end(&file);
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
            ended
                .into_values()
                .try_for_each(|shard| self.close(shard))?;
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

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        open.into_values().try_for_each(|shard| self.close(shard))
    }
}

/// A shard being written: chunks one after the other, then the index of where they are
/// (`sharding_indexed`, `index_location` end).
#[derive(Debug)]
struct Shard {
    file: File,
    /// Bytes so far.
    len: u64,
    /// Those of them that are not written yet.
    waiting: Vec<u8>,
    /// Where every chunk lies.
    index: Vec<Entry>,
}

impl Shard {
    fn new(file: File, n_chunks: u64) -> io::Result<Self> {
        let n_chunks = usize::try_from(n_chunks).map_err(io::Error::other)?;
        Ok(Self {
            file,
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
        if self.waiting.len() + chunk.len() > BLOCK {
            self.file.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        match chunk.len() > BLOCK {
            true => self.file.write_all(chunk),
            false => {
                self.waiting.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> io::Result<File> {
        self.waiting.extend(encode(&self.index));
        self.file.write_all(&self.waiting)?;
        Ok(self.file)
    }
}
