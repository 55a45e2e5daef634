//! Ranges of an object that are in memory.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::store::source::ByteSource;

/// Bytes of an object by where they begin; disjoint.
#[derive(Debug, Default)]
pub(in crate::store) struct Parts(Vec<(u64, Bytes)>);

impl Parts {
    /// Of parts in any order.
    pub(in crate::store) fn new(mut parts: Vec<(u64, Bytes)>) -> Self {
        parts.sort_unstable_by_key(|(start, _)| *start);
        Self(parts)
    }

    /// The bytes from `from` on, where all of them are here; without a copy, where one part has them.
    pub(in crate::store) fn get(&self, from: u64, len: u64) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let mut slices = self.slices(from, len)?;
        if slices.len() == 1 {
            return slices.pop();
        }
        let mut all = BytesMut::with_capacity(usize::try_from(len).ok()?);
        slices.iter().for_each(|slice| all.extend_from_slice(slice));
        Some(all.freeze())
    }

    fn slices(&self, from: u64, len: u64) -> Option<Vec<Bytes>> {
        let mut at = from;
        let end = from.checked_add(len)?;
        let first = self
            .0
            .partition_point(|(start, _)| *start <= from)
            .checked_sub(1)?;
        let mut slices = Vec::new();
        for (start, bytes) in self.0.get(first..)? {
            let skip = usize::try_from(at.checked_sub(*start)?).ok()?;
            let left = usize::try_from(end - at).ok()?;
            let there = bytes.len().checked_sub(skip)?.min(left);
            if there == 0 {
                return None;
            }
            slices.push(bytes.slice(skip..skip + there));
            at += there as u64;
            if at == end {
                return Some(slices);
            }
        }
        None
    }
}

/// A source of which some ranges are in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) base: Arc<dyn ByteSource>,
    pub(super) parts: Parts,
}

impl ByteSource for Held {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let Some(slices) = self.parts.slices(offset, buf.len() as u64) else {
            return self.base.read_at(offset, buf);
        };
        let mut rest = buf;
        for slice in slices {
            let (target, left) = rest
                .split_at_mut_checked(slice.len())
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            target.copy_from_slice(&slice);
            rest = left;
        }
        Ok(())
    }

    fn is_remote(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_within_and_across_parts() {
        let parts = Parts::new(vec![
            (20, Bytes::from_static(b"xyz")),
            (10, Bytes::from_static(b"abcde")),
            (15, Bytes::from_static(b"fgh")),
        ]);
        assert_eq!(parts.get(11, 2).unwrap(), "bc");
        assert_eq!(parts.get(13, 5).unwrap(), "defgh");
        for (from, len) in [(9, 1), (16, 5), (22, 2), (18, 1)] {
            assert!(parts.get(from, len).is_none(), "{from} {len}");
        }
    }
}
