//! Zstandard: how thoroughly an array's repetitions are looked for, and the frames.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

use crate::store::encode::RawResult;

/// The library's level that 0 stands for.
const DEFAULT: u8 = 3;
/// The share of its length, as a divisor, that an array may grow by for being searched less.
const INDIFFERENT: usize = 200;

thread_local! {
    static COMPRESSORS: RefCell<HashMap<Zstd, Compressor<'static>>> = RefCell::default();
}

/// How chunks of an array are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Zstd {
    /// As the library's level has it.
    Level(u8),
    /// By one look at one table, as its first level has it, but of a larger one and for six bytes.
    Table,
}

impl Zstd {
    /// The way that makes values as small as `level` does, at the least cost.
    ///
    /// Of counts, and of indices that follow one another without a pattern, a second look finds
    /// nothing: one table makes chunks of half a mebibyte as small as level 3 does, or smaller, in two
    /// thirds of the time. Indices of cells that are much alike gain a fifth by it.
    ///
    /// # Errors
    /// Where there is no such level.
    pub(super) fn settle(level: u8, chunk: &[u8]) -> RawResult<Self> {
        let asked = Self::Level(level);
        if level != 0 && level < DEFAULT {
            return Ok(asked);
        }
        let thorough = asked.compress(chunk)?.len();
        let quick = Self::Table.compress(chunk)?.len();
        match quick <= thorough + thorough / INDIFFERENT {
            true => Ok(Self::Table),
            false => Ok(asked),
        }
    }

    /// The bytes as a frame that says how many they are.
    ///
    /// # Errors
    /// Where there is no such level, or no memory.
    pub(super) fn compress(self, plain: &[u8]) -> RawResult<Vec<u8>> {
        COMPRESSORS.with_borrow_mut(|compressors| {
            let compressor = match compressors.entry(self) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.compressor()?),
            };
            Ok(compressor.compress(plain)?)
        })
    }

    fn compressor(self) -> RawResult<Compressor<'static>> {
        match self {
            Self::Level(level) => Ok(Compressor::new(i32::from(level))?),
            Self::Table => {
                let mut compressor = Compressor::new(1)?;
                compressor.set_parameter(CParameter::Strategy(Strategy::ZSTD_fast))?;
                compressor.set_parameter(CParameter::HashLog(17))?;
                compressor.set_parameter(CParameter::MinMatch(6))?;
                Ok(compressor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Sorted indices of cells with `per_cell` of 10,000 genes.
    fn indices(per_cell: usize) -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(1);
        let mut cell = || {
            let genes = rand::seq::index::sample(&mut random, 10_000, per_cell);
            let mut genes = genes.into_vec();
            genes.sort_unstable();
            genes
        };
        let cells = (0..131_072 / per_cell).flat_map(|_| cell());
        let genes = cells.map(|gene| u32::try_from(gene).unwrap());
        genes.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn what_a_second_look_does_not_make_smaller_is_looked_at_once() {
        let random = indices(100);
        assert_eq!(Zstd::settle(0, &random).unwrap(), Zstd::Table);
        assert_eq!(Zstd::settle(3, &random).unwrap(), Zstd::Table);
        assert_eq!(Zstd::settle(1, &random).unwrap(), Zstd::Level(1));
        let mut cell = indices(2000);
        cell.truncate(8000);
        let mut noise = SmallRng::seed_from_u64(2);
        let mut alike = Vec::new();
        for _ in 0..60 {
            // A cell with the genes of the one before it, but for some.
            for _ in 0..20 {
                let at = noise.random_range(0..2000) * 4;
                cell[at] = noise.random();
            }
            alike.extend_from_slice(&cell);
        }
        let way = Zstd::settle(19, &alike).unwrap();
        assert_eq!(way, Zstd::Level(19));
    }

    #[test]
    fn every_way_gives_a_frame_of_a_known_length() {
        let plain = indices(100);
        for way in [Zstd::Level(0), Zstd::Level(1), Zstd::Level(19), Zstd::Table] {
            let frame = way.compress(&plain).unwrap();
            let len = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
            assert_eq!(len, Some(plain.len() as u64));
            assert_eq!(zstd::bulk::decompress(&frame, plain.len()).unwrap(), plain);
        }
        assert!(Zstd::Table.compress(&[]).unwrap().len() > 4);
    }
}
