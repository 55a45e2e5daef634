//! Deflate: how thoroughly an array's repetitions are looked for, and the streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use libdeflater::{CompressionLvl, Compressor};
use zlib_rs::{DeflateConfig, DeflateFlush, Status, Strategy};

use crate::store::encode::RawResult;

/// Bytes of an array's first chunk on which ways are compared.
const SAMPLE: usize = 32 << 10;
/// The level that looks the least.
const FASTEST: u8 = 1;
/// The share of its length, as a divisor, that an array may grow by for not being searched at all.
const INDIFFERENT: usize = 200;

thread_local! {
    static WORK: RefCell<Work> = RefCell::new(Work::default());
}

/// How chunks of an array are deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deflate {
    /// By repetitions, looked for as a level from 1 to 9 says, and by how frequent bytes are.
    Search(u8),
    /// By how frequent bytes are, alone.
    Huffman,
}

/// A thread's compressors, by level, and where they write.
#[derive(Default)]
struct Work {
    compressors: HashMap<u8, Compressor>,
    huffman: Option<zlib_rs::Deflate>,
    scratch: Vec<u8>,
}

impl Deflate {
    /// The way that makes values as small as `level` does, at the least cost.
    ///
    /// Values without repetition, as most real numbers are, gain nothing from a search for it:
    /// level 1 makes them as small as level 4 does a third faster, and no search at all does so in
    /// half of the time that is left.
    ///
    /// # Errors
    /// Where there is no such level.
    pub(super) fn settle(level: u8, first: &[u8]) -> RawResult<Self> {
        let asked = Self::Search(level);
        let sample = &first[..first.len().min(SAMPLE)];
        // What does not shrink at all says nothing of what follows it.
        let len = |way: Self| RawResult::Ok(way.compress(sample)?.map(|bytes| bytes.len()));
        let Some(thorough) = len(asked)? else {
            return Ok(asked);
        };
        let is_as_small =
            |way, most: usize| RawResult::Ok(len(way)?.is_some_and(|len| len <= most));
        if is_as_small(Self::Huffman, thorough + thorough / INDIFFERENT)? {
            return Ok(Self::Huffman);
        }
        let fastest = Self::Search(FASTEST);
        match level > FASTEST && is_as_small(fastest, thorough)? {
            true => Ok(fastest),
            false => Ok(asked),
        }
    }

    /// The bytes as a zlib stream, [`None`] where that is not smaller.
    ///
    /// # Errors
    /// Where there is no such level.
    pub(super) fn compress(self, plain: &[u8]) -> RawResult<Option<Vec<u8>>> {
        WORK.with_borrow_mut(|work| {
            // A buffer of the plain length: what does not fit is not worth compressing.
            work.scratch.resize(plain.len(), 0);
            let len = match self {
                Self::Search(level) => {
                    let compressor = match work.compressors.entry(level) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(compressor(level)?),
                    };
                    compressor.zlib_compress(plain, &mut work.scratch).ok()
                }
                Self::Huffman => {
                    let stream = work.huffman.get_or_insert_with(huffman);
                    stream.reset();
                    match stream.compress(plain, &mut work.scratch, DeflateFlush::Finish) {
                        Ok(Status::StreamEnd) => usize::try_from(stream.total_out()).ok(),
                        _ => None,
                    }
                }
            };
            let len = len.filter(|len| *len < plain.len());
            Ok(len.map(|len| work.scratch[..len].to_vec()))
        })
    }
}

fn compressor(level: u8) -> RawResult<Compressor> {
    let level =
        CompressionLvl::new(i32::from(level)).map_err(|_| format!("gzip has no level {level}"))?;
    Ok(Compressor::new(level))
}

fn huffman() -> zlib_rs::Deflate {
    zlib_rs::Deflate::new_with_config(DeflateConfig {
        strategy: Strategy::HuffmanOnly,
        ..DeflateConfig::new(i32::from(FASTEST))
    })
}

#[cfg(test)]
mod tests {
    use libdeflater::Decompressor;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn reals() -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(1);
        (0..SAMPLE / 4)
            .flat_map(|_| random.random::<f32>().to_le_bytes())
            .collect()
    }

    fn counts() -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(1);
        (0..SAMPLE / 4)
            .flat_map(|_| f32::from(random.random_range(1..4u8)).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_does_not_repeat_is_not_searched() {
        assert_eq!(Deflate::settle(4, &reals()).unwrap(), Deflate::Huffman);
        assert!(matches!(
            Deflate::settle(4, &counts()).unwrap(),
            Deflate::Search(_)
        ));
        let mut random = SmallRng::seed_from_u64(1);
        let noise: Vec<u8> = (0..SAMPLE).map(|_| random.random()).collect();
        assert_eq!(Deflate::settle(4, &noise).unwrap(), Deflate::Search(4));
    }

    #[test]
    fn every_way_gives_a_zlib_stream() {
        for plain in [reals(), counts()] {
            for way in [Deflate::Huffman, Deflate::Search(1), Deflate::Search(9)] {
                let stream = way.compress(&plain).unwrap().unwrap();
                let mut back = vec![0; plain.len()];
                let n = Decompressor::new().zlib_decompress(&stream, &mut back);
                assert_eq!((n.unwrap(), &back), (plain.len(), &plain));
            }
        }
        assert!(Deflate::Search(99).compress(&reals()).is_err());
    }
}
