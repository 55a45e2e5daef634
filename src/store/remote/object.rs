//! One object as a source of bytes.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::Blocks;
use super::held::{Held, Parts};
use super::place::{Part, Place, Span, Version};
use super::ranges;
use crate::store::source::{Ahead, ByteSource};

/// Bytes that opening asks for: what tells the format, and mostly the first metadata.
const FIRST: u64 = 64 << 10;
/// A read from this size on goes past the blocks.
const LARGE: usize = 1 << 20;

/// An object, open for reading: of the version that it had then.
#[derive(Debug)]
pub(in crate::store) struct Object {
    place: Place,
    /// The object, below the place.
    key: String,
    version: Version,
    blocks: Blocks,
    first: Bytes,
}

impl Object {
    /// Reads an object's first bytes; [`None`] where there is none.
    ///
    /// # Errors
    /// Where the store does not answer, refuses, or has no ranges.
    pub(in crate::store) fn open(place: &Place) -> io::Result<Option<Self>> {
        let key = String::new();
        let part = |span| Part {
            key: key.clone(),
            span,
            version: None,
        };
        let got = match place.fetch(vec![part(Span::Range(0..FIRST))]) {
            Ok(mut got) => got.pop().flatten(),
            // Of nothing there is no range.
            Err(error) if error.kind() == ErrorKind::Other => match place.head("")? {
                Some(version) if version.size == 0 => {
                    place.fetch(vec![part(Span::Whole)])?.pop().flatten()
                }
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let Some(got) = got else { return Ok(None) };
        let blocks = Blocks::new(got.version.size);
        blocks.begin(&got.bytes);
        Ok(Some(Self {
            place: place.clone(),
            key,
            version: got.version,
            blocks,
            first: got.bytes,
        }))
    }

    /// The object's first bytes.
    pub(in crate::store) fn first(&self) -> &[u8] {
        &self.first
    }

    /// What was opened.
    pub(in crate::store) fn version(&self) -> &Version {
        &self.version
    }

    /// Ranges that are disjoint, as they are asked for.
    fn fetch(&self, ranges: &[Range<u64>]) -> io::Result<Vec<(u64, Bytes)>> {
        let parts = ranges.iter().map(|range| Part {
            key: self.key.clone(),
            span: Span::Range(range.clone()),
            version: Some(self.version.clone()),
        });
        let got = self.place.fetch(parts.collect())?;
        let gone = || io::Error::new(ErrorKind::NotFound, "it has gone");
        ranges
            .iter()
            .zip(got)
            .map(|(range, got)| {
                let got = got.ok_or_else(gone)?;
                let is_all = got.bytes.len() as u64 == range.end - range.start;
                match is_all && got.start == range.start {
                    true => Ok((range.start, got.bytes)),
                    false => Err(io::Error::from(ErrorKind::UnexpectedEof)),
                }
            })
            .collect()
    }
}

impl ByteSource for Object {
    fn len(&self) -> u64 {
        self.version.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let end = end
            .filter(|end| *end <= self.len())
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        if buf.len() < LARGE {
            return self.blocks.read(offset, buf, |range| {
                let parts = self.fetch(&[range])?;
                parts
                    .into_iter()
                    .next()
                    .map(|(_, bytes)| bytes)
                    .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))
            });
        }
        let mut rest = buf;
        let wanted = offset..end;
        for (_, bytes) in self.fetch(&ranges::cut(std::slice::from_ref(&wanted)))? {
            let (target, left) = rest
                .split_at_mut_checked(bytes.len())
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            target.copy_from_slice(&bytes);
            rest = left;
        }
        Ok(())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn touch(&self, ranges: &[Range<u64>]) {
        // Who reads them meets the error.
        let _ = self.blocks.touch(ranges, |ranges| {
            let parts = self.fetch(ranges)?;
            Ok(parts.into_iter().map(|(_, bytes)| bytes).collect())
        });
    }

    fn ahead(self: Arc<Self>, wanted: &[Range<u64>]) -> io::Result<Option<Ahead>> {
        if wanted.iter().any(|range| range.end > self.len()) {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        let parts = self.fetch(&ranges::cut(&ranges::join(wanted)))?;
        let bytes = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        Ok(Some(Ahead {
            source: Arc::new(Held {
                base: self,
                parts: Parts::new(parts),
            }),
            bytes,
        }))
    }
}
