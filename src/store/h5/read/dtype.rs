//! HDF5's datatypes: the type users see, and the layout that is decoded.

use hdf5_pure::{Datatype, DatatypeByteOrder, ReferenceType, StringPadding};

use crate::model::{DType, StructField};
use crate::store::decode::{Disk, Member, Padding, complex};

/// How deep compounds and arrays may nest. AnnData needs two; recursion over a file's own claim
/// must end somewhere.
const MAX_DEPTH: usize = 16;

/// Reads a datatype into the type users see and the layout that is decoded.
pub(super) fn translate(datatype: &Datatype) -> (DType, Disk) {
    at_depth(datatype, 0)
}

fn at_depth(datatype: &Datatype, depth: usize) -> (DType, Disk) {
    known(datatype, depth).unwrap_or_else(|| {
        let size = usize::try_from(datatype.type_size()).unwrap_or(usize::MAX);
        (DType::Other(datatype.to_string()), Disk::Opaque { size })
    })
}

fn known(datatype: &Datatype, depth: usize) -> Option<(DType, Disk)> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match datatype {
        Datatype::FixedPoint {
            size,
            byte_order,
            layout,
        } => {
            let whole = layout.bit_offset == 0
                && size.checked_mul(8) == Some(u32::from(layout.bit_precision));
            let dtype = match (size, layout.signed) {
                _ if !whole => return None,
                (1, true) => DType::Int8,
                (2, true) => DType::Int16,
                (4, true) => DType::Int32,
                (8, true) => DType::Int64,
                (1, false) => DType::UInt8,
                (2, false) => DType::UInt16,
                (4, false) => DType::UInt32,
                (8, false) => DType::UInt64,
                _ => return None,
            };
            number(dtype, *byte_order)?
        }
        Datatype::FloatingPoint {
            size,
            byte_order,
            layout,
        } => {
            let dtype = match (size, layout.exponent_size, layout.mantissa_size) {
                (2, 5, 10) => DType::Float16,
                (4, 8, 23) => DType::Float32,
                (8, 11, 52) => DType::Float64,
                _ => return None,
            };
            if layout.bit_offset != 0 || layout.mantissa_location != 0 {
                return None;
            }
            number(dtype, *byte_order)?
        }
        // Text of no width is nothing that could be cut into elements.
        Datatype::String { size: 0, .. } => return None,
        Datatype::String { size, padding, .. } => {
            let size = usize::try_from(*size).ok()?;
            let padding = match padding {
                StringPadding::NullTerminate => Padding::Terminated,
                StringPadding::NullPad => Padding::Zeros,
                StringPadding::SpacePad => Padding::Spaces,
            };
            (DType::String, Disk::Text { size, padding })
        }
        Datatype::VariableLength {
            is_string: true, ..
        } => (DType::String, Disk::HeapText),
        Datatype::Reference {
            size,
            ref_type: ReferenceType::Object,
        } if *size >= 8 => {
            let size = usize::try_from(*size).ok()?;
            (DType::Reference, Disk::Reference { size })
        }
        Datatype::Enumeration {
            base_type, members, ..
        } => {
            let is_bool = base_type.type_size() == 1
                && members.len() == 2
                && members.iter().any(|m| m.name == "FALSE" && m.value == [0])
                && members.iter().any(|m| m.name == "TRUE" && m.value == [1]);
            if is_bool {
                (DType::Bool, Disk::Bool)
            } else {
                known(base_type, depth + 1)?
            }
        }
        Datatype::Array {
            base_type,
            dimensions,
        } => {
            let mut inner = at_depth(base_type, depth + 1);
            for len in dimensions.iter().rev() {
                let (dtype, disk) = inner;
                inner = (
                    DType::FixedArray(Box::new(dtype), u64::from(*len)),
                    Disk::Array {
                        item: Box::new(disk),
                        len: usize::try_from(*len).ok()?,
                    },
                );
            }
            inner
        }
        Datatype::Compound { size, members } => {
            let size = usize::try_from(*size).ok()?;
            let mut fields = Vec::with_capacity(members.len());
            let mut layout = Vec::with_capacity(members.len());
            for member in members {
                let (dtype, disk) = at_depth(&member.datatype, depth + 1);
                let offset = usize::try_from(member.byte_offset).ok()?;
                // A member that sticks out of its record would be read from the next one.
                if offset.checked_add(disk.size()).is_none_or(|end| end > size) {
                    return None;
                }
                fields.push(StructField {
                    name: member.name.clone(),
                    dtype,
                });
                layout.push(Member {
                    name: member.name.clone(),
                    offset,
                    disk,
                });
            }
            complex(&layout, size).unwrap_or((
                DType::Struct(fields),
                Disk::Record {
                    size,
                    members: layout,
                },
            ))
        }
        _ => return None,
    })
}

fn number(dtype: DType, order: DatatypeByteOrder) -> Option<(DType, Disk)> {
    let big = match order {
        DatatypeByteOrder::LittleEndian => false,
        DatatypeByteOrder::BigEndian => true,
        DatatypeByteOrder::Vax => return None,
    };
    let swap = big != cfg!(target_endian = "big") && dtype.size() != Some(1);
    Some((dtype.clone(), Disk::Number { dtype, swap }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_no_width_has_no_meaning() {
        let text = Datatype::String {
            size: 0,
            padding: StringPadding::NullPad,
            charset: hdf5_pure::CharacterSet::Utf8,
        };
        assert_eq!(translate(&text).1, Disk::Opaque { size: 0 });
    }
}
