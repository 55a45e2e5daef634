//! The index of a shard (`sharding_indexed`): offset and length of every inner chunk, as
//! little-endian words of eight bytes, then their crc32c.

/// Where an inner chunk lies in its shard: offset and length.
pub(super) type Entry = (u64, u64);

/// What an index says of a chunk that is not there.
pub(super) const MISSING: Entry = (u64::MAX, u64::MAX);
/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 16;

/// The shard that the chunk at `place` is in, and its number there.
pub(super) fn locate(place: &[u64], per_shard: &[u64]) -> (Vec<u64>, u64) {
    let axes = place.iter().zip(per_shard);
    let shard = axes.clone().map(|(at, n)| at / n).collect();
    let inner = axes.fold(0, |inner, (at, n)| inner * n + at % n);
    (shard, inner)
}

/// An index and its checksum, as stored.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES + size_of::<u32>());
    for (offset, len) in entries {
        bytes.extend(offset.to_le_bytes());
        bytes.extend(len.to_le_bytes());
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The entries of a stored index, without its checksum.
pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs
        .iter()
        .map(|[offset, len]| (u64::from_le_bytes(*offset), u64::from_le_bytes(*len)))
}
