//! The global heap, where an array keeps its texts: collections of objects, written by us in room
//! that the library has reserved.
//!
//! The layout is that of the HDF5 File Format Specification 3.0, III.E "Disk Format: Level 1E -
//! Global Heap". The library takes a third of a microsecond for a text, all of it under its lock,
//! and a shard has tens of thousands.

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, StringArray, StringViewArray};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::descriptor::Descriptor;
use crate::model::DType;
use crate::store::encode::{RawResult, mismatch};

/// Bytes of a collection that no single text makes longer, as in the library: readers fetch so much
/// at once.
const COLLECTION: usize = 4096;
/// Bytes of a collection's header, and of an object's.
const HEADER: usize = 16;
/// Bytes of a text's place in an array: its length, its collection's address, its number there.
pub(super) const REFERENCE: usize = 16;

/// The texts of a file.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// The last collection, which may have room left, and its address.
    last: Option<(u64, Collection)>,
}

/// A collection as it is filled.
#[derive(Debug, Clone)]
struct Collection {
    bytes: Vec<u8>,
    /// Bytes taken, headers included.
    used: usize,
    /// Number of the last object.
    objects: u16,
}

impl Heap {
    /// Writes the texts of a string array of any kind and gives their references; null is the empty
    /// text. `reserve` finds room in the file for so many bytes.
    ///
    /// # Errors
    /// Where a text has a NUL character, which would end it for every reader, or is longer than
    /// 4 GiB; those of writing.
    pub(super) fn put(
        &mut self,
        values: &ArrayRef,
        file: &Descriptor,
        reserve: impl FnOnce(u64) -> RawResult<u64>,
    ) -> RawResult<Buffer> {
        let texts = Texts::try_new(values)?;
        let begun = self.last.take();
        let first_address = begun.as_ref().map(|(address, _)| *address);
        let mut collections: Vec<Collection> = Vec::new();
        collections.extend(begun.map(|(_, collection)| collection));
        // Length, number in `collections`, object.
        let mut places: Vec<(u32, usize, u16)> = Vec::with_capacity(values.len());
        for i in 0..values.len() {
            let text = texts.get(i);
            if text.as_bytes().contains(&0) {
                return Err(format!("the text {text:?} has a NUL character").into());
            }
            let object = match collections.last_mut().and_then(|last| last.push(text)) {
                Some(object) => object,
                None => {
                    let mut next = Collection::for_text(text);
                    let object = next
                        .push(text)
                        .ok_or("a text does not fit its collection")?;
                    collections.push(next);
                    object
                }
            };
            places.push((u32::try_from(text.len())?, collections.len() - 1, object));
        }
        let known = usize::from(first_address.is_some()).min(collections.len());
        let new: usize = collections[known..].iter().map(|c| c.bytes.len()).sum();
        let mut next = match new {
            0 => 0,
            new => reserve(u64::try_from(new)?)?,
        };
        if let (Some(address), Some(first)) = (first_address, collections.first_mut()) {
            first.close();
            file.write_all_at(&first.bytes, address)?;
        }
        let mut addresses: Vec<u64> = first_address.into_iter().collect();
        let mut image = Vec::with_capacity(new);
        let at = next;
        for collection in &mut collections[known..] {
            collection.close();
            image.extend_from_slice(&collection.bytes);
            addresses.push(next);
            next += u64::try_from(collection.bytes.len())?;
        }
        file.write_all_at(&image, at)?;
        self.last = addresses.last().copied().zip(collections.pop());
        let mut references = Vec::with_capacity(places.len() * REFERENCE);
        for (len, collection, object) in places {
            references.extend_from_slice(&len.to_le_bytes());
            references.extend_from_slice(&addresses[collection].to_le_bytes());
            references.extend_from_slice(&u32::from(object).to_le_bytes());
        }
        Ok(references.into())
    }
}

impl Collection {
    /// An empty collection in which the text has room.
    fn for_text(text: &str) -> Self {
        let size = (2 * HEADER + text.len().next_multiple_of(8)).max(COLLECTION);
        let mut bytes = vec![0; size];
        bytes[..5].copy_from_slice(b"GCOL\x01");
        bytes[8..HEADER].copy_from_slice(&(size as u64).to_le_bytes());
        Self {
            bytes,
            used: HEADER,
            objects: 0,
        }
    }

    /// Adds a text; its number, or [`None`] where it has no room.
    fn push(&mut self, text: &str) -> Option<u16> {
        let end = self.used + HEADER + text.len().next_multiple_of(8);
        let object = self.objects.checked_add(1)?;
        let slot = self.bytes.get_mut(self.used..end)?;
        // What was said of free room, if anything, stood here.
        let (header, rest) = slot.split_at_mut(HEADER);
        header[..2].copy_from_slice(&object.to_le_bytes());
        header[2..8].fill(0);
        header[8..].copy_from_slice(&(text.len() as u64).to_le_bytes());
        rest[..text.len()].copy_from_slice(text.as_bytes());
        (self.used, self.objects) = (end, object);
        Some(object)
    }

    /// Says how much room is left: object 0, where its header fits.
    fn close(&mut self) {
        let free = self.bytes.len() - self.used;
        if let Some(header) = self.bytes.get_mut(self.used..self.used + HEADER) {
            header[..8].fill(0);
            header[8..].copy_from_slice(&(free as u64).to_le_bytes());
        }
    }
}

/// The texts of a string array of any kind; null is the empty text.
enum Texts<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    fn try_new(values: &'a ArrayRef) -> RawResult<Self> {
        match values.data_type() {
            DataType::Utf8 => Ok(Self::Utf8(values.as_string())),
            DataType::LargeUtf8 => Ok(Self::LargeUtf8(values.as_string())),
            DataType::Utf8View => Ok(Self::Utf8View(values.as_string_view())),
            other => Err(mismatch(&DType::String, other)),
        }
    }

    /// The text at a position of the array.
    fn get(&self, at: usize) -> &'a str {
        match self {
            Self::Utf8(values) if values.is_valid(at) => values.value(at),
            Self::LargeUtf8(values) if values.is_valid(at) => values.value(at),
            Self::Utf8View(values) if values.is_valid(at) => values.value(at),
            _ => "",
        }
    }
}
