//! Elements as they lie in chunks, to Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::fault::Fault;
use super::layout::{Disk, Member, Padding};
use super::output::Bytes;
use crate::model::DType;

/// What elements point to that is not in their chunk.
pub(in crate::store) trait Elsewhere {
    /// The texts that 16-byte heap references stand for.
    fn texts(&self, references: &[u8]) -> Result<StringArray, Fault>;

    /// The paths of the objects whose headers are at these addresses.
    fn paths(&self, addresses: &[u64]) -> Result<Vec<String>, Fault>;
}

/// A store whose elements point nowhere.
pub(in crate::store) struct Nowhere;

impl Elsewhere for Nowhere {
    fn texts(&self, _: &[u8]) -> Result<StringArray, Fault> {
        Err(Fault::Unsupported("texts on a heap".into()))
    }

    fn paths(&self, _: &[u64]) -> Result<Vec<String>, Fault> {
        Err(Fault::Unsupported("references to objects".into()))
    }
}

/// Wraps what was read; numbers are not copied again.
pub(in crate::store) fn to_arrow(
    disk: &Disk,
    bytes: Bytes,
    elsewhere: &dyn Elsewhere,
) -> Result<ArrayRef, Fault> {
    let element = disk.size();
    if element == 0 || !bytes.as_slice().len().is_multiple_of(element) {
        return Err(Fault::Corrupt(format!(
            "{} bytes of elements of {element} bytes",
            bytes.as_slice().len(),
        )));
    }
    build(disk, bytes, elsewhere)
}

fn build(disk: &Disk, mut bytes: Bytes, elsewhere: &dyn Elsewhere) -> Result<ArrayRef, Fault> {
    Ok(match disk {
        Disk::Number { dtype, swap } => {
            if *swap {
                swap_bytes(bytes.as_mut_slice(), disk.size());
            }
            number(dtype, bytes)?
        }
        Disk::Bool => {
            let bytes = bytes.as_slice();
            let bits = BooleanBuffer::collect_bool(bytes.len(), |i| bytes[i] != 0);
            Arc::new(BooleanArray::new(bits, None))
        }
        Disk::Text { size, padding } => Arc::new(fixed_text(bytes.as_slice(), *size, *padding)?),
        Disk::Wide { size, swap } => Arc::new(wide_text(bytes.as_slice(), *size, *swap)?),
        Disk::HeapText => Arc::new(elsewhere.texts(bytes.as_slice())?),
        Disk::Reference { size } => {
            let addresses = bytes.as_slice().chunks_exact(*size).map(|reference| {
                let (address, _) = reference.split_at(8);
                u64::from_le_bytes(address.try_into().unwrap_or_default())
            });
            let addresses: Vec<u64> = addresses.collect();
            Arc::new(StringArray::from(elsewhere.paths(&addresses)?))
        }
        Disk::Complex { part, swap } => {
            let size = disk.size() / 2;
            if *swap {
                swap_bytes(bytes.as_mut_slice(), size);
            }
            let all = bytes.as_slice();
            let re = number(part, member(all, 2 * size, 0, size))?;
            let im = number(part, member(all, 2 * size, size, size))?;
            let fields = Fields::from(vec![
                Field::new("re", re.data_type().clone(), false),
                Field::new("im", im.data_type().clone(), false),
            ]);
            Arc::new(StructArray::try_new(fields, vec![re, im], None)?)
        }
        Disk::Record { size, members } => {
            let n = bytes.as_slice().len() / size;
            let mut fields = Vec::with_capacity(members.len());
            let mut columns = Vec::with_capacity(members.len());
            for Member { name, offset, disk } in members {
                let part = member(bytes.as_slice(), *size, *offset, disk.size());
                let column = build(disk, part, elsewhere)?;
                fields.push(Field::new(name, column.data_type().clone(), false));
                columns.push(column);
            }
            Arc::new(StructArray::try_new_with_length(
                Fields::from(fields),
                columns,
                None,
                n,
            )?)
        }
        Disk::Array { item, len } => {
            let size = i32::try_from(*len)
                .map_err(|_| Fault::Corrupt(format!("an array of {len} items in an element")))?;
            if *len == 0 {
                return Err(Fault::Unsupported(
                    "arrays of no items in an element".into(),
                ));
            }
            let items = build(item, bytes, elsewhere)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), false));
            Arc::new(FixedSizeListArray::try_new(field, size, items, None)?)
        }
        Disk::Opaque { .. } => {
            return Err(Fault::Unsupported(
                "values of a type without a meaning here".into(),
            ));
        }
    })
}

/// One member of every record, one after the other.
fn member(records: &[u8], record: usize, offset: usize, size: usize) -> Bytes {
    let mut picked = Vec::with_capacity(records.len() / record.max(1) * size);
    for bytes in records.chunks_exact(record) {
        picked.extend_from_slice(&bytes[offset..offset + size]);
    }
    Bytes::from(picked.as_slice())
}

fn swap_bytes(bytes: &mut [u8], size: usize) {
    for element in bytes.chunks_exact_mut(size) {
        element.reverse();
    }
}

fn number(dtype: &DType, bytes: Bytes) -> Result<ArrayRef, Fault> {
    Ok(match dtype {
        DType::Int8 => primitive::<Int8Type>(bytes),
        DType::Int16 => primitive::<Int16Type>(bytes),
        DType::Int32 => primitive::<Int32Type>(bytes),
        DType::Int64 => primitive::<Int64Type>(bytes),
        DType::UInt8 => primitive::<UInt8Type>(bytes),
        DType::UInt16 => primitive::<UInt16Type>(bytes),
        DType::UInt32 => primitive::<UInt32Type>(bytes),
        DType::UInt64 => primitive::<UInt64Type>(bytes),
        DType::Float16 => primitive::<Float16Type>(bytes),
        DType::Float32 => primitive::<Float32Type>(bytes),
        DType::Float64 => primitive::<Float64Type>(bytes),
        other => return Err(Fault::Unsupported(format!("numbers of type {other}"))),
    })
}

fn primitive<T: ArrowPrimitiveType>(bytes: Bytes) -> ArrayRef {
    let values = ScalarBuffer::<T::Native>::from(bytes.into_buffer());
    Arc::new(PrimitiveArray::<T>::new(values, None))
}

fn fixed_text(bytes: &[u8], size: usize, padding: Padding) -> Result<StringArray, Fault> {
    let mut text = TextBuilder::with_capacity(bytes.len() / size.max(1), bytes.len());
    for element in bytes.chunks_exact(size) {
        let end = match padding {
            Padding::Terminated => element.iter().position(|b| *b == 0),
            Padding::Zeros => element
                .iter()
                .rposition(|b| *b != 0)
                .map(|i| i + 1)
                .or(Some(0)),
            Padding::Spaces => element
                .iter()
                .rposition(|b| *b != b' ')
                .map(|i| i + 1)
                .or(Some(0)),
        };
        text.push(&element[..end.unwrap_or(element.len())])?;
    }
    text.finish()
}

/// UTF-32.
fn wide_text(bytes: &[u8], size: usize, swap: bool) -> Result<StringArray, Fault> {
    let mut texts = TextBuilder::with_capacity(bytes.len() / size.max(1), bytes.len() / 4);
    let mut text = String::new();
    for element in bytes.chunks_exact(size) {
        text.clear();
        for (at, unit) in element.as_chunks::<4>().0.iter().enumerate() {
            let unit = u32::from_ne_bytes(*unit);
            let unit = if swap { unit.swap_bytes() } else { unit };
            text.push(char::from_u32(unit).ok_or_else(|| {
                Fault::Corrupt(format!(
                    "U+{unit:04X}, which stands at {at} of a text, is no character"
                ))
            })?);
        }
        texts.push(text.trim_end_matches('\0').as_bytes())?;
    }
    texts.finish()
}

/// Text put together from bytes that are checked once, as a whole.
pub(in crate::store) struct TextBuilder {
    offsets: Vec<i32>,
    values: Vec<u8>,
}

impl TextBuilder {
    /// Room for so many values and bytes.
    pub(in crate::store) fn with_capacity(values: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(values + 1);
        offsets.push(0);
        Self {
            offsets,
            values: Vec::with_capacity(bytes),
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] from 2 GiB of text on, which is what one Arrow array can hold.
    pub(in crate::store) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.values.extend_from_slice(bytes);
        let end = i32::try_from(self.values.len()).map_err(|_| too_long())?;
        self.offsets.push(end);
        Ok(())
    }

    /// One after the other.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(in crate::store) fn join(parts: Vec<Self>) -> Result<Self, Fault> {
        let values = parts.iter().map(|p| p.offsets.len() - 1).sum();
        let bytes = parts.iter().map(|p| p.values.len()).sum();
        let mut all = Self::with_capacity(values, bytes);
        for part in parts {
            let base = i32::try_from(all.values.len()).map_err(|_| too_long())?;
            all.values.extend_from_slice(&part.values);
            if i32::try_from(all.values.len()).is_err() {
                return Err(too_long());
            }
            all.offsets
                .extend(part.offsets[1..].iter().map(|at| base + at));
        }
        Ok(all)
    }

    /// The array.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] that shows the first value whose bytes are no UTF-8: to put anything in
    /// their place would lose them.
    pub(in crate::store) fn finish(self) -> Result<StringArray, Fault> {
        let Self { offsets, values } = self;
        let starts_character = |text: &str| {
            offsets
                .iter()
                .all(|at| text.is_char_boundary(usize::try_from(*at).unwrap_or(0)))
        };
        if std::str::from_utf8(&values).is_ok_and(starts_character) {
            let offsets = OffsetBuffer::new(offsets.into());
            return Ok(StringArray::try_new(offsets, values.into(), None)?);
        }
        let value = |ends: &[i32]| match ends {
            [from, to] => usize::try_from(*from)
                .ok()
                .zip(usize::try_from(*to).ok())
                .and_then(|(from, to)| values.get(from..to)),
            _ => None,
        };
        let mut all = offsets.windows(2).filter_map(value);
        let bad = all.find(|value| std::str::from_utf8(value).is_err());
        Err(not_text(bad.unwrap_or_default()))
    }
}

/// The error for bytes that are to be text and are not.
fn not_text(value: &[u8]) -> Fault {
    /// Bytes shown at most.
    const SHOWN: usize = 60;
    let (shown, more) = match value.get(..SHOWN) {
        Some(start) => (start, "…"),
        None => (value, ""),
    };
    Fault::Corrupt(format!(
        "the text \"{}{more}\" is not UTF-8, which text of AnnData is",
        shown.escape_ascii()
    ))
}

/// The error for more text than one Arrow array can hold.
pub(in crate::store) fn too_long() -> Fault {
    Fault::Unsupported("2 GiB of text or more in one read; read fewer rows".into())
}
