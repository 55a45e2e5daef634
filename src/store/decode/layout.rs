//! How elements lie in a chunk, whatever the store.

use crate::model::DType;

/// The layout of one element on disk.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Disk {
    /// One machine word.
    Number { dtype: DType, swap: bool },
    /// h5py's boolean: an enum over one byte.
    Bool,
    /// Text of fixed width.
    Text { size: usize, padding: Padding },
    /// Text on HDF5's global heap: length, address of a collection, index in it.
    HeapText,
    /// HDF5: an address of an object header.
    Reference { size: usize },
    /// Two floats, real part first.
    Complex { part: DType, swap: bool },
    /// Text of fixed width in UTF-32 (numpy's `U`), zeros at the end aside.
    Wide { size: usize, swap: bool },
    /// A record.
    Record { size: usize, members: Vec<Member> },
    /// A fixed number of items.
    Array { item: Box<Self>, len: usize },
    /// No meaning in AnnData; so many bytes.
    Opaque { size: usize },
}

/// A member of a record.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Member {
    pub(in crate::store) name: String,
    pub(in crate::store) offset: usize,
    pub(in crate::store) disk: Disk,
}

/// What follows text in its fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Padding {
    /// The first zero ends it.
    Terminated,
    /// Zeros at the end do not count.
    Zeros,
    /// Spaces at the end do not count.
    Spaces,
}

impl Disk {
    /// Bytes per element.
    pub(in crate::store) fn size(&self) -> usize {
        match self {
            Self::Number { dtype, .. } => word(dtype),
            Self::Bool => 1,
            Self::HeapText => 16,
            Self::Complex { part, .. } => 2 * word(part),
            Self::Array { item, len } => item.size().saturating_mul(*len),
            Self::Text { size, .. }
            | Self::Wide { size, .. }
            | Self::Reference { size }
            | Self::Record { size, .. }
            | Self::Opaque { size } => *size,
        }
    }

    /// Whether some text of an element lies on the heap.
    pub(in crate::store) fn has_heap_text(&self) -> bool {
        match self {
            Self::HeapText => true,
            Self::Record { members, .. } => members.iter().any(|m| m.disk.has_heap_text()),
            Self::Array { item, .. } => item.has_heap_text(),
            _ => false,
        }
    }
}

fn word(dtype: &DType) -> usize {
    dtype
        .size()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0)
}

/// Complex numbers as h5py stores them: a record of `r` and `i`, one float after the other.
pub(in crate::store) fn complex(members: &[Member], size: usize) -> Option<(DType, Disk)> {
    let [re, im] = members else { return None };
    if (re.name.as_str(), im.name.as_str()) != ("r", "i") || re.disk != im.disk {
        return None;
    }
    let Disk::Number { dtype, swap } = &re.disk else {
        return None;
    };
    if re.offset != 0 || im.offset != re.disk.size() || size != 2 * re.disk.size() {
        return None;
    }
    let whole = match dtype {
        DType::Float32 => DType::Complex64,
        DType::Float64 => DType::Complex128,
        _ => return None,
    };
    let disk = Disk::Complex {
        part: dtype.clone(),
        swap: *swap,
    };
    Some((whole, disk))
}
