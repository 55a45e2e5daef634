//! A seeded order of rows, as a rule rather than an array.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chacha;
use super::groups::RowGroups;

/// Keys that are made together.
const BATCH: u64 = chacha::BATCH as u64;
/// What the rest of a key holds behind the seed, so that other uses of a seed give other streams.
const DOMAIN: [u8; 24] = *b"annfusion row order 1\0\0\0";

/// An order in which row `r` comes before row `s` where `(key(r), r) < (key(s), s)`.
///
/// Rows are counted over all inputs in their order; those of one input begin at `base`. Any process
/// can tell the place of any row, so nothing that is as long as the rows has to be held or sent, and
/// no limit, thread or partition has a say. Rows that are left out do not change the order of the rest.
///
/// `key(r)` is the 64-bit word `r` of the stream of ChaCha8 (8 rounds, a 64-bit counter from 0, nonce
/// 0, words little-endian) whose key is the seed in 8 bytes, little-endian, and then the 24 bytes
/// `annfusion row order 1\0\0\0`. This is fixed for ever: a seed that somebody has published gives the
/// same order in every version. No way is known to tell the words of ChaCha8 from independent uniform
/// ones, and sorting by independent uniform keys gives every permutation the same probability; two of
/// a billion rows have one key with a probability of 3 in 100, and then come in the order of the rows.
///
/// Where there are [`RowGroups`], rows of one come before those of the next, and the key is made of that
/// word as they say; they are then held, and sent, for all rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowOrder {
    /// Chooses the order.
    pub seed: u64,
    /// The number of the first row of the object read: the rows of all inputs before it.
    pub base: u64,
    /// Groups that come one after the other.
    #[serde(default)]
    pub groups: Option<Arc<RowGroups>>,
}

impl RowOrder {
    /// The order of a lone input.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            base: 0,
            groups: None,
        }
    }

    /// The same order within each group.
    #[must_use]
    pub fn grouped(self, groups: Option<Arc<RowGroups>>) -> Self {
        Self { groups, ..self }
    }

    /// The same order for an input that `base` rows come before.
    #[must_use]
    pub fn from_row(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// What a row of this input is sorted by, before its number. For many rows see [`keys`](Self::keys).
    pub fn key(&self, row: u64) -> u64 {
        self.keys(row..row.saturating_add(1)).next().unwrap_or(0)
    }

    /// The keys of rows that follow each other; 64 are made at a time.
    pub fn keys(&self, rows: Range<u64>) -> impl Iterator<Item = u64> {
        let start = self.base.wrapping_add(rows.start);
        self.keys_of(start..start.saturating_add(rows.end.saturating_sub(rows.start)))
    }

    /// The keys of numbered rows (counted over all inputs), fast where they nearly follow each other.
    pub fn keys_of(&self, numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = u64> {
        let key = self.chacha_key();
        let groups = self.groups.clone();
        let mut batch = None;
        let mut words = [0; chacha::BATCH];
        numbers.into_iter().map(move |number| {
            let mut word = || {
                let wanted = number / BATCH;
                if batch != Some(wanted) {
                    words = chacha::words(&key, wanted);
                    batch = Some(wanted);
                }
                words[usize::try_from(number % BATCH).unwrap_or_default()]
            };
            match &groups {
                None => word(),
                Some(groups) => groups.key(number, word),
            }
        })
    }

    fn chacha_key(&self) -> [u32; 8] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..].copy_from_slice(&DOMAIN);
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    #[test]
    fn keys_are_what_they_have_always_been() {
        let keys = |seed| RowOrder::new(seed).keys(0..4).collect::<Vec<_>>();
        assert_eq!(keys(0), GOLDEN[0]);
        assert_eq!(keys(42), GOLDEN[1]);
        assert_eq!(RowOrder::new(42).key(123_456_789_012), FAR);
    }

    #[test]
    fn keys_are_the_stream_of_chacha8() {
        for (seed, row) in [(0, 0), (7, 61), (u64::MAX, 1 << 40)] {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&u64::to_le_bytes(seed));
            key[8..].copy_from_slice(&DOMAIN);
            let mut stream = ChaCha8Rng::from_seed(key);
            stream.set_word_pos(u128::from(row) * 2);
            let expected: Vec<u64> = (0..200).map(|_| stream.next_u64()).collect();
            let order = RowOrder::new(seed);
            assert_eq!(order.keys(row..row + 200).collect::<Vec<_>>(), expected);
            let later = order.clone().from_row(row);
            assert_eq!(later.key(5), expected[5]);
        }
    }

    // Computed once by another implementation, in Python.
    const GOLDEN: [[u64; 4]; 2] = [
        [
            0xf434_0690_bfa7_4c5a,
            0x56e8_cd96_303f_bae7,
            0x7f81_187e_9f8c_5d4c,
            0xf028_8bec_a293_2811,
        ],
        [
            0x143d_8c68_df11_0c58,
            0xc645_b0db_0ca6_69a7,
            0x9c1b_5fd3_573c_7014,
            0xaeaa_f29a_ec16_bb31,
        ],
    ];
    const FAR: u64 = 0x18bb_3336_cf54_2b0c;
}
