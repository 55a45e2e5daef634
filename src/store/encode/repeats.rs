//! Chunks compressed on all cores, and what arrays of one store have in common only once: the indices of
//! a layer are most often those of `X`.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rayon::prelude::*;
use twox_hash::XxHash64;

use super::RawResult;
use crate::model::DType;
use crate::store::{ArraySpec, Compression};

/// Bytes of chunks, before compression and after, that are remembered of arrays of one kind: what an
/// array is given at a time, with some room.
const REMEMBERED_BYTES: usize = 6 << 20;
/// Bytes of an array's chunks of which none was like another's, after which it takes no more part:
/// values of two matrices hardly ever repeat.
const UNLIKE_BYTES: usize = 2 * REMEMBERED_BYTES;

/// The arrays of a store by kind. `W` is what a codec settles for an array.
#[derive(Debug)]
pub(in crate::store) struct Repeats<W> {
    kinds: Mutex<Kinds<W>>,
}

/// By what arrays of a kind are alike in.
type Kinds<W> = HashMap<(DType, Compression), Weak<Kind<W>>>;

/// Arrays that may repeat each other: of one type, compressed in one way.
#[derive(Debug)]
struct Kind<W> {
    /// How many there were: one alone has nobody to repeat.
    arrays: AtomicUsize,
    lately: Mutex<Lately<W>>,
}

/// Chunks that were compressed lately.
#[derive(Debug)]
struct Lately<W> {
    chunks: VecDeque<Known<W>>,
    /// Bytes of them, before compression and after.
    bytes: usize,
}

#[derive(Debug)]
struct Known<W> {
    way: W,
    /// Of the plain bytes, so that those of others are not fetched.
    hash: u64,
    plain: Vec<u8>,
    /// [`None`] where it did not get smaller.
    compressed: Option<Arc<Vec<u8>>>,
    /// Of the array that it was compressed for.
    unlike: Arc<AtomicUsize>,
}

/// A chunk as it is stored.
#[derive(Debug)]
pub(in crate::store) enum Stored<'a> {
    /// As it is.
    Plain(Cow<'a, [u8]>),
    /// Compressed, for this array or for another one.
    Compressed(Arc<Vec<u8>>),
}

impl Deref for Stored<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Compressed(bytes) => bytes,
        }
    }
}

/// One array among those of its kind.
#[derive(Debug)]
pub(in crate::store) struct Twin<W> {
    /// [`None`] where it takes no part.
    kind: Option<Arc<Kind<W>>>,
    /// Bytes of its chunks since one was like another array's.
    unlike: Arc<AtomicUsize>,
}

impl<W> Default for Repeats<W> {
    fn default() -> Self {
        Self {
            kinds: Mutex::default(),
        }
    }
}

impl<W> Repeats<W> {
    /// An array of the store. It takes part if it can be appended to, as members of sparse matrices
    /// can, and if to compress a chunk takes longer than to see whether there was one like it.
    pub(in crate::store) fn array(&self, spec: &ArraySpec) -> Twin<W> {
        let is_slow = match spec.compression {
            Compression::Zstd(_) | Compression::Gzip(_) | Compression::BloscZstd(_) => true,
            Compression::None | Compression::BloscLz4(_) | Compression::Lzf => false,
        };
        let unlike = Arc::default();
        if !is_slow || !spec.appendable {
            return Twin { kind: None, unlike };
        }
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry((spec.dtype.clone(), spec.compression));
        let kind = kind.or_default();
        let there = kind.upgrade().unwrap_or_else(|| {
            Arc::new(Kind {
                arrays: AtomicUsize::new(0),
                lately: Mutex::new(Lately {
                    chunks: VecDeque::new(),
                    bytes: 0,
                }),
            })
        });
        there.arrays.fetch_add(1, Ordering::Relaxed);
        *kind = Arc::downgrade(&there);
        Twin {
            kind: Some(there),
            unlike,
        }
    }
}

impl<W: Copy + PartialEq + Send + Sync> Twin<W> {
    /// Compresses chunks on all cores, but for those that are equal to one that was compressed in this
    /// way lately. `plain` gives a chunk's bytes, [`None`] where it is not stored; `compress` theirs,
    /// [`None`] where they stay as they are.
    ///
    /// Arrays of a kind wait for one another here: the second of two twins would find nothing while
    /// the first is at work. So this is nothing for a worker of rayon, which may take up work of
    /// another array while it waits for its own.
    ///
    /// # Errors
    /// Those of `plain` and `compress`.
    pub(in crate::store) fn compress<'a, T: Sync>(
        &self,
        way: W,
        chunks: &[T],
        plain: impl Fn(&T) -> RawResult<Option<Cow<'a, [u8]>>> + Sync,
        compress: impl Fn(&[u8]) -> RawResult<Option<Vec<u8>>> + Sync,
    ) -> RawResult<Vec<Option<Stored<'a>>>> {
        let mut lately = self.lately();
        let known = lately.as_deref();
        let stored = |chunk: &T| -> RawResult<(Option<Stored<'a>>, Option<Known<W>>)> {
            let Some(plain) = plain(chunk)? else {
                return Ok((None, None));
            };
            let Some(known) = known else {
                let compressed = compress(&plain)?.map(Arc::new);
                let stored = compressed.map_or(Stored::Plain(plain), Stored::Compressed);
                return Ok((Some(stored), None));
            };
            let hash = XxHash64::oneshot(0, &plain);
            if let Some(known) = known.find(way, hash, &plain) {
                for array in [&self.unlike, &known.unlike] {
                    array.store(0, Ordering::Relaxed);
                }
                let compressed = known.compressed.clone();
                let stored = compressed.map_or(Stored::Plain(plain), Stored::Compressed);
                return Ok((Some(stored), None));
            }
            self.unlike.fetch_add(plain.len(), Ordering::Relaxed);
            let compressed = compress(&plain)?.map(Arc::new);
            let is_kept = plain.len() <= REMEMBERED_BYTES;
            let (stored, plain) = match &compressed {
                Some(bytes) => (
                    Stored::Compressed(Arc::clone(bytes)),
                    is_kept.then(|| plain.into_owned()),
                ),
                None => {
                    let copy = is_kept.then(|| plain.to_vec());
                    (Stored::Plain(plain), copy)
                }
            };
            let known = plain.map(|plain| Known {
                way,
                hash,
                plain,
                compressed,
                unlike: Arc::clone(&self.unlike),
            });
            Ok((Some(stored), known))
        };
        let all: Vec<_> = match chunks {
            [one] => vec![stored(one)?],
            many => many.par_iter().map(stored).collect::<RawResult<_>>()?,
        };
        let (all, new): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        if let Some(lately) = &mut lately {
            new.into_iter().flatten().for_each(|new| lately.add(new));
        }
        Ok(all)
    }

    /// What its kind remembers, for this array alone as long as it is held; [`None`] where there is
    /// nothing to look for.
    fn lately(&self) -> Option<MutexGuard<'_, Lately<W>>> {
        let kind = self.kind.as_ref()?;
        let is_alone = kind.arrays.load(Ordering::Relaxed) < 2;
        if is_alone || self.unlike.load(Ordering::Relaxed) >= UNLIKE_BYTES {
            return None;
        }
        Some(kind.lately.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<W> Known<W> {
    fn bytes(&self) -> usize {
        self.plain.len() + self.compressed.as_ref().map_or(0, |bytes| bytes.len())
    }
}

impl<W: PartialEq> Lately<W> {
    fn find(&self, way: W, hash: u64, plain: &[u8]) -> Option<&Known<W>> {
        let mut chunks = self.chunks.iter();
        chunks.find(|known| known.hash == hash && known.way == way && known.plain == plain)
    }

    fn add(&mut self, chunk: Known<W>) {
        self.bytes += chunk.bytes();
        self.chunks.push_back(chunk);
        while self.bytes > REMEMBERED_BYTES
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Attributes, Extent};

    fn spec(dtype: DType, compression: Compression) -> ArraySpec {
        ArraySpec {
            dtype,
            extent: Extent::Growing(vec![]),
            appendable: true,
            compression,
            pieces: None,
            attributes: Attributes::new(),
        }
    }

    /// How many of the chunks are compressed for the array; what is odd stays as it is.
    fn compressed(array: &Twin<u8>, way: u8, chunks: &[Vec<u8>]) -> usize {
        let n = AtomicUsize::new(0);
        let stored = array.compress(
            way,
            chunks,
            |chunk| Ok((!chunk.is_empty()).then(|| Cow::Owned(chunk.clone()))),
            |plain| {
                n.fetch_add(1, Ordering::Relaxed);
                Ok((plain[0] % 2 == 0).then(|| vec![way, plain[0]]))
            },
        );
        for (chunk, stored) in chunks.iter().zip(stored.unwrap()) {
            match (chunk.first(), stored) {
                (None, stored) => assert!(stored.is_none()),
                (Some(first), Some(Stored::Compressed(bytes))) => assert_eq!(*bytes, [way, *first]),
                (Some(first), Some(Stored::Plain(bytes))) => {
                    assert_eq!((first % 2, &bytes[..]), (1, &chunk[..]));
                }
                (Some(_), None) => panic!("a chunk is not stored"),
            }
        }
        n.into_inner()
    }

    #[test]
    fn a_twin_is_compressed_once() {
        let repeats = Repeats::default();
        let indices = || spec(DType::Int32, Compression::Zstd(0));
        let chunks: Vec<_> = (0..9u8).map(|first| vec![first; 1000]).collect();
        let x = repeats.array(&indices());
        assert_eq!(compressed(&x, 1, &chunks), 9);
        let layer = repeats.array(&indices());
        // Alone, it had nothing to remember.
        assert_eq!(compressed(&layer, 1, &chunks[..4]), 4);
        assert_eq!(compressed(&x, 1, &chunks[2..6]), 2);
        assert_eq!(compressed(&layer, 1, &chunks[2..]), 3);
        assert_eq!(compressed(&layer, 2, &chunks[..1]), 1);
        assert_eq!(compressed(&layer, 1, &[vec![], vec![0; 999]]), 1);
        let values = repeats.array(&spec(DType::Float32, Compression::Zstd(0)));
        assert_eq!(compressed(&values, 1, &chunks[..4]), 4);
        drop((x, layer));
        let later = [repeats.array(&indices()), repeats.array(&indices())];
        assert_eq!(compressed(&later[1], 1, &chunks), 9);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let repeats = Repeats::default();
        let gzip = || spec(DType::Int32, Compression::Gzip(4));
        let arrays = [repeats.array(&gzip()), repeats.array(&gzip())];
        let chunks: Vec<_> = (0..7u8).map(|first| vec![first; 1 << 20]).collect();
        assert_eq!(compressed(&arrays[0], 1, &chunks), 7);
        assert_eq!(compressed(&arrays[1], 1, &chunks[2..]), 0);
        assert_eq!(compressed(&arrays[1], 1, &chunks[..1]), 1);
        let fast = repeats.array(&spec(DType::Int32, Compression::Lzf));
        assert!(fast.kind.is_none());
    }

    #[test]
    fn an_array_like_no_other_goes_its_own_way() {
        let repeats = Repeats::default();
        let gzip = || spec(DType::Int32, Compression::Gzip(4));
        let [x, twin, other, long] = [(); 4].map(|()| repeats.array(&gzip()));
        for first in 0..40u8 {
            let chunk = [vec![first; 1 << 20]];
            assert_eq!(compressed(&x, 1, &chunk), 1);
            assert_eq!(compressed(&other, 1, &[vec![first + 100; 1 << 20]]), 1);
            assert_eq!(compressed(&twin, 1, &chunk), 0);
        }
        assert!(other.lately().is_none());
        assert!(x.lately().is_some() && twin.lately().is_some());
        // What is larger than all that is remembered is no reason to wait for others, either.
        let chunk = [vec![1; REMEMBERED_BYTES + 1]];
        for _ in 0..2 {
            assert_eq!(compressed(&long, 1, &chunk), 1);
        }
        assert!(long.lately().is_none());
    }
}
