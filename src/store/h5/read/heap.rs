//! Text on the global heap, read by collections rather than by values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::StringArray;
use rayon::prelude::*;

use super::array::FileInfo;
use super::fetch::check_size;
use crate::store::decode::{Elsewhere, Fault, TextBuilder, too_long};
use crate::store::source::{ByteSource, read_vec};

/// The size that the library gives a collection unless a value is larger.
const COLLECTION: u64 = 4096;
/// Collections closer than this are read as one run.
const GAP: u64 = 16 << 10;
/// The length at which a run ends.
const RUN: u64 = 1 << 20;

/// How many values one task puts together.
const BLOCK: usize = 32 << 10;

/// The heap of one file, during one read.
pub(super) struct Heap<'a> {
    file: &'a FileInfo,
    fetched: AtomicU64,
}

/// The objects of a collection, by number.
#[derive(Default)]
struct Objects(Vec<Object>);

#[derive(Clone, Copy)]
struct Object {
    number: u32,
    start: u32,
    len: u32,
}

impl Objects {
    /// Finds an object. Numbers are mostly 1, 2, 3 without a gap, so a look is enough.
    fn get(&self, number: u32) -> Option<Object> {
        let guess = self.0.get(number.checked_sub(1)? as usize);
        if let Some(object) = guess.filter(|o| o.number == number) {
            return Some(*object);
        }
        let at = self.0.binary_search_by_key(&number, |o| o.number).ok()?;
        self.0.get(at).copied()
    }
}

/// A run of bytes and the collections found in it.
struct Run {
    bytes: Vec<u8>,
    collections: Vec<Objects>,
}

/// All collections of a read: their addresses in the file, sorted, and the run and the number in it
/// of each.
struct Found {
    addresses: Vec<u64>,
    place: Vec<(usize, usize)>,
    runs: Vec<Run>,
}

impl Found {
    fn text(&self, references: &[[u8; 16]]) -> Result<TextBuilder, Fault> {
        let bytes = references.iter().map(|r| Reference::parse(r).len as usize);
        let mut text = TextBuilder::with_capacity(references.len(), bytes.sum());
        let mut at = 0;
        for reference in references.iter().map(Reference::parse) {
            if reference.len == 0 {
                text.push(&[])?;
                continue;
            }
            // Values mostly lie in the order of their rows, so the collection is the last one.
            if self.addresses.get(at) != Some(&reference.address) {
                at = self.addresses.partition_point(|a| *a < reference.address);
            }
            let value = self.value(at, reference).ok_or_else(|| {
                Fault::Corrupt(format!(
                    "object {} of {} bytes is not in the heap collection at {}",
                    reference.object, reference.len, reference.address
                ))
            })?;
            // The library hands text to C programs, for which the first zero ends it.
            let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
            text.push(&value[..end])?;
        }
        Ok(text)
    }

    fn value(&self, at: usize, reference: Reference) -> Option<&[u8]> {
        let (run, collection) = *self.place.get(at)?;
        let run = self.runs.get(run)?;
        let object = run.collections.get(collection)?.get(reference.object)?;
        let start = object.start as usize;
        (reference.len <= object.len)
            .then(|| run.bytes.get(start..start + reference.len as usize))
            .flatten()
    }
}

/// A value's place: length, collection, object.
#[derive(Clone, Copy)]
struct Reference {
    len: u32,
    address: u64,
    object: u32,
}

impl Reference {
    fn parse(bytes: &[u8; 16]) -> Self {
        let [a, b, c, d, rest @ ..] = *bytes;
        let [e, f, g, h, i, j, k, l, m, n, o, p] = rest;
        Self {
            len: u32::from_le_bytes([a, b, c, d]),
            address: u64::from_le_bytes([e, f, g, h, i, j, k, l]),
            object: u32::from_le_bytes([m, n, o, p]),
        }
    }
}

impl Elsewhere for Heap<'_> {
    fn texts(&self, references: &[u8]) -> Result<StringArray, Fault> {
        self.text(references)
    }

    fn paths(&self, addresses: &[u64]) -> Result<Vec<String>, Fault> {
        super::library::names(self.file, addresses)
    }
}

impl<'a> Heap<'a> {
    /// The heap of a file.
    pub(super) fn new(file: &'a FileInfo) -> Self {
        Self {
            file,
            fetched: AtomicU64::new(0),
        }
    }

    /// Bytes read so far.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// The text that 16-byte references stand for; a null reference is empty text.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where a collection or an object is not where the reference says.
    pub(super) fn text(&self, references: &[u8]) -> Result<StringArray, Fault> {
        let references = references.as_chunks::<16>().0;
        let mut addresses: Vec<u64> = Vec::new();
        let mut total = 0u64;
        for reference in references
            .iter()
            .map(Reference::parse)
            .filter(|r| r.len > 0)
        {
            total = total.saturating_add(u64::from(reference.len));
            if addresses.last() != Some(&reference.address) {
                addresses.push(reference.address);
            }
        }
        check_size(self.file.source.as_ref(), total)?;
        // Also before memory is reserved by lengths that no collection has confirmed yet.
        if total > i32::MAX as u64 {
            return Err(too_long());
        }
        if !addresses.is_sorted() {
            addresses.sort_unstable();
        }
        addresses.dedup();

        let groups = self.group(&addresses)?;
        let ahead = self.ahead(&groups)?;
        let source = ahead.as_deref().unwrap_or(self.file.source.as_ref());
        let runs: Vec<Run> = groups
            .par_iter()
            .map(|group| self.read_run(source, group))
            .collect::<Result<_, Fault>>()?;
        let mut place = Vec::with_capacity(addresses.len());
        for (r, run) in runs.iter().enumerate() {
            place.extend((0..run.collections.len()).map(|c| (r, c)));
        }

        let found = Found {
            addresses,
            place,
            runs,
        };
        let parts: Vec<TextBuilder> = references
            .par_chunks(BLOCK)
            .map(|block| found.text(block))
            .collect::<Result<_, Fault>>()?;
        TextBuilder::join(parts)?.finish()
    }

    /// Collections in order of address, as absolute positions, cut into runs.
    fn group(&self, addresses: &[u64]) -> Result<Vec<Vec<u64>>, Fault> {
        let mut groups: Vec<Vec<u64>> = Vec::new();
        for address in addresses {
            let at = address
                .checked_add(self.file.base)
                .filter(|at| *at < self.file.source.len() && *address != 0)
                .ok_or_else(|| {
                    Fault::Corrupt(format!(
                        "a heap collection at {address} in a file of {} bytes",
                        self.file.source.len()
                    ))
                })?;
            match groups.last_mut() {
                Some(group)
                    if group
                        .last()
                        .is_some_and(|last| at - last <= COLLECTION + GAP)
                        && group.first().is_some_and(|first| at - first < RUN) =>
                {
                    group.push(at);
                }
                _ => groups.push(vec![at]),
            }
        }
        Ok(groups)
    }

    /// The runs of a file that is far away, fetched together.
    fn ahead(&self, groups: &[Vec<u64>]) -> Result<Option<Arc<dyn ByteSource>>, Fault> {
        let source = &self.file.source;
        let ends = groups.iter().filter_map(|g| g.first().zip(g.last()));
        let runs = ends.map(|(first, last)| *first..(last + COLLECTION).min(source.len()));
        let ahead = Arc::clone(source).ahead(&runs.collect::<Vec<_>>())?;
        Ok(ahead.map(|ahead| ahead.source))
    }

    fn read_run(&self, source: &dyn ByteSource, positions: &[u64]) -> Result<Run, Fault> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(Run {
                bytes: Vec::new(),
                collections: Vec::new(),
            });
        };
        let end = (last + COLLECTION).min(source.len());
        self.charge(end - first)?;
        let mut bytes = read_vec(source, *first, end - first)?;
        let mut collections = Vec::with_capacity(positions.len());
        for position in positions {
            let start = usize::try_from(position - first).unwrap_or(usize::MAX);
            let size = self.collection_size(&bytes, start, *position)?;
            // Only a large value makes a collection longer than was guessed. It is appended, so
            // that places found before stay what they are.
            let (from, to) = match start.checked_add(size) {
                Some(end) if end <= bytes.len() => (start, end),
                _ => {
                    self.charge(size as u64)?;
                    let whole = read_vec(source, *position, size as u64)?;
                    let from = bytes.len();
                    bytes.extend(whole);
                    (from, bytes.len())
                }
            };
            collections.push(self.objects(&bytes, from, to, *position)?);
        }
        Ok(Run { bytes, collections })
    }

    /// Counts bytes about to be read. Each collection is read once, a large one twice at its
    /// start, so more than twice the file means that collections overlap.
    fn charge(&self, len: u64) -> Result<(), Fault> {
        let before = self.fetched.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > self.file.source.len().saturating_mul(2) {
            return Err(Fault::Corrupt(format!(
                "heap collections overlap in a file of {} bytes",
                self.file.source.len()
            )));
        }
        Ok(())
    }

    fn collection_size(&self, bytes: &[u8], start: usize, position: u64) -> Result<usize, Fault> {
        let corrupt =
            |what: &str| Fault::Corrupt(format!("the heap collection at {position} {what}"));
        let length = usize::from(self.file.length_size);
        let header = bytes
            .get(start..start.saturating_add(8 + length))
            .ok_or_else(|| corrupt("is cut short"))?;
        if !header.starts_with(b"GCOL\x01") {
            return Err(corrupt("does not start with GCOL"));
        }
        let size = little_endian(&header[8..]);
        let left = self.file.source.len().saturating_sub(position);
        if size > left || size < 8 + length as u64 {
            return Err(corrupt(&format!(
                "claims {size} bytes of the {left} that follow"
            )));
        }
        usize::try_from(size).map_err(|_| corrupt("is too large"))
    }

    /// Finds the objects between `from` and `to` in `bytes`.
    fn objects(
        &self,
        bytes: &[u8],
        from: usize,
        to: usize,
        position: u64,
    ) -> Result<Objects, Fault> {
        let length = usize::from(self.file.length_size);
        let mut objects = Objects::default();
        let mut at = from + 8 + length;
        while let Some(header) = bytes[..to].get(at..at + 8 + length) {
            let number = u32::from(u16::from_le_bytes([header[0], header[1]]));
            let size = little_endian(&header[8..]);
            if number == 0 {
                break;
            }
            let start = at + 8 + length;
            let (Ok(start32), Ok(len)) = (u32::try_from(start), u32::try_from(size)) else {
                return Err(Fault::Corrupt(format!(
                    "object {number} of the heap collection at {position} claims {size} bytes"
                )));
            };
            objects.0.push(Object {
                number,
                start: start32,
                len,
            });
            let Some(next) = usize::try_from(size)
                .ok()
                .and_then(|size| size.checked_next_multiple_of(8))
                .and_then(|size| start.checked_add(size))
            else {
                break;
            };
            at = next;
        }
        if !objects.0.is_sorted_by_key(|o| o.number) {
            objects.0.sort_by_key(|o| o.number);
        }
        Ok(objects)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
