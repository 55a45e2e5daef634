//! Where metadata leads to, so that what it names is fetched together from far away.
//!
//! The parser walks from one structure to the next, and each step would wait for an answer. What
//! it is about to ask for stands in what it just read: a node of a group names the headers of the
//! group's members, an inner node of a tree the nodes below. Addresses here are hints: they are taken
//! as they stand, and a wrong one costs a block that nobody needed.

use std::ops::Range;

use crate::store::source::ByteSource;

/// Bytes of an object's header that are looked at.
const HEADER: u64 = 512;
/// Bytes of a node.
const NODE: u64 = 2048;
/// Bytes before the entries of a tree's node: signature, type, level, count and two siblings.
const TREE_PREFIX: usize = 24;
/// Bytes of an entry of a group's node: the name's offset, the header's address, and a cache.
const SYMBOL: usize = 40;

/// Fetches what a structure leads to, where it is one that leads to several.
pub(super) fn follow(source: &dyn ByteSource, bytes: &[u8]) {
    let Some(signature) = bytes.get(..4) else {
        return;
    };
    match signature {
        b"SNOD" => members(source, bytes),
        b"TREE" => {
            let nodes = below(bytes).into_iter();
            source.touch(
                &nodes
                    .map(|at| at..at.saturating_add(NODE))
                    .collect::<Vec<_>>(),
            );
        }
        _ => {}
    }
}

/// The headers of a group's members, then what continues them.
fn members(source: &dyn ByteSource, node: &[u8]) {
    let entries = node.get(8..).unwrap_or_default();
    let headers: Vec<u64> = entries
        .chunks_exact(SYMBOL)
        .filter_map(|entry| word(entry, 8))
        .collect();
    if headers.is_empty() {
        return;
    }
    let ranges = headers.iter().map(|at| *at..at.saturating_add(HEADER));
    source.touch(&ranges.collect::<Vec<_>>());
    let more: Vec<_> = headers
        .iter()
        .filter_map(|at| continuation(source, *at))
        .collect();
    source.touch(&more);
}

/// Where a header of version 1 goes on, of a message near its beginning.
fn continuation(source: &dyn ByteSource, header: u64) -> Option<Range<u64>> {
    const CONTINUATION: [u8; 2] = [0x10, 0];
    let left = source.len().checked_sub(header)?;
    let mut bytes = vec![0; usize::try_from(left.min(HEADER)).ok()?];
    source.read_at(header, &mut bytes).ok()?;
    if bytes.first() != Some(&1) {
        return None;
    }
    let size = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    let end = bytes
        .len()
        .min(16usize.saturating_add(usize::try_from(size).ok()?));
    let mut at = 16;
    while let Some(message) = bytes.get(at..at + 8).filter(|_| at + 8 <= end) {
        let size = usize::from(u16::from_le_bytes([message[2], message[3]]));
        if message[..2] == CONTINUATION {
            let (start, len) = (word(&bytes, at + 8)?, word(&bytes, at + 16)?);
            return Some(start..start.checked_add(len)?);
        }
        at = at.checked_add(8 + size)?;
    }
    None
}

/// The nodes below a node of a tree: all of a group's, of a chunk table's those that are no chunks.
fn below(node: &[u8]) -> Vec<u64> {
    let (Some([kind, level]), Some(n)) = (node.get(4..6), node.get(6..8)) else {
        return Vec::new();
    };
    let n = usize::from(u16::from_le_bytes([n[0], n[1]]));
    let entries = node.get(TREE_PREFIX..).unwrap_or_default();
    let key = match (kind, level) {
        (0, _) => 8,
        (1, 0) => return Vec::new(),
        // One more key than children; a key is as long as the array has axes.
        _ => match entries.len().checked_sub(8 * n) {
            Some(keys) => keys / (n + 1),
            None => return Vec::new(),
        },
    };
    (0..n)
        .map_while(|i| word(entries, i.checked_mul(key + 8)?.checked_add(key)?))
        .collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_a_tree_are_found_whatever_the_keys() {
        let node = |kind: u8, level: u8, key: usize, children: &[u64]| {
            let n = u16::try_from(children.len()).unwrap().to_le_bytes();
            let mut node = [b"TREE".as_slice(), &[kind, level], &n, &[0xff; 16]].concat();
            for child in children {
                node.extend(vec![7; key]);
                node.extend(child.to_le_bytes());
            }
            node.extend(vec![7; key]);
            node
        };
        assert_eq!(below(&node(0, 0, 8, &[10, 20])), [10, 20]);
        assert_eq!(below(&node(1, 1, 24, &[10, 20, 30])), [10, 20, 30]);
        assert!(below(&node(1, 0, 24, &[10])).is_empty());
        assert!(below(b"TREE\x01\x01\xff\xff").is_empty());
        assert!(below(b"TREE").is_empty());
    }
}
