//! Handles of the library that close themselves, its errors as ours, and its types.

use std::ffi::CString;

use hdf5::globals as h5;
use hdf5_sys::h5::{haddr_t, herr_t, hsize_t};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5t::{
    H5T_VARIABLE, H5T_class_t, H5T_cset_t, H5Tarray_create2, H5Tclose, H5Tcopy, H5Tcreate,
    H5Tenum_create, H5Tenum_insert, H5Tinsert, H5Tset_cset, H5Tset_ebias, H5Tset_fields,
    H5Tset_size,
};

use super::heap::REFERENCE;
use crate::error::BoxedError;
use crate::model::DType;
use crate::store::encode::RawResult;

/// Runs calls of the library under its lock, which may be taken again inside.
pub(super) fn locked<T>(calls: impl FnOnce() -> T) -> T {
    hdf5::sync::sync(calls)
}

/// An open identifier of the library.
#[derive(Debug)]
pub(super) struct Handle {
    id: hid_t,
    close: unsafe extern "C" fn(hid_t) -> herr_t,
}

impl Handle {
    /// Takes an identifier that a call returned, negative where it failed.
    pub(super) fn new(id: hid_t, close: unsafe extern "C" fn(hid_t) -> herr_t) -> RawResult<Self> {
        if id < 0 {
            Err(failure())
        } else {
            Ok(Self { id, close })
        }
    }

    /// The identifier.
    pub(super) fn id(&self) -> hid_t {
        self.id
    }

    /// Closes it and says whether that worked: closing writes what the library holds back.
    pub(super) fn close(self) -> RawResult<()> {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the identifier is ours and is closed here alone.
        locked(|| check(unsafe { (this.close)(this.id) }))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the identifier is ours and is closed here alone.
        locked(|| unsafe { (self.close)(self.id) });
    }
}

unsafe extern "C" {
    // Of `H5Fpublic.h`; the bindings have neither.
    fn H5Fincrement_filesize(file: hid_t, increment: hsize_t) -> herr_t;
    fn H5Fget_eoa(file: hid_t, eoa: *mut haddr_t) -> herr_t;
}

/// Reserves room at the end of the file, which the library will leave alone; its address.
pub(super) fn reserve(file: hid_t, bytes: u64) -> RawResult<u64> {
    let mut end: haddr_t = 0;
    locked(|| {
        // SAFETY: the caller's file is open; the address is ours.
        check(unsafe { H5Fincrement_filesize(file, bytes) })?;
        check(unsafe { H5Fget_eoa(file, &raw mut end) })
    })?;
    end.checked_sub(bytes)
        .ok_or_else(|| format!("the file ends at {end} after {bytes} bytes were added").into())
}

/// Turns a negative status into the library's account of what went wrong.
pub(super) fn check(status: herr_t) -> RawResult<()> {
    if status < 0 { Err(failure()) } else { Ok(()) }
}

/// The library's account of the last failed call, with the system's words where it has some.
fn failure() -> BoxedError {
    let error = match hdf5::Error::query() {
        Ok(error) | Err(error) => error,
    };
    // The frame that saw the system fail names the file, which errors do already, and buffers.
    let system = error.stack().and_then(|frames| {
        frames.iter().find_map(|frame| {
            let (_, words) = frame.desc().split_once("error message = '")?;
            let (call, _) = frame.desc().split_once(':')?;
            Some(format!("{call}: {}", words.split_once('\'')?.0))
        })
    });
    system.unwrap_or_else(|| error.to_string()).into()
}

/// A name for the library, which ends names at a NUL.
pub(super) fn c_name(name: &str) -> RawResult<CString> {
    CString::new(name).map_err(|_| format!("the name {name:?} has a NUL character").into())
}

/// Variable-length UTF-8 text, a pointer in memory.
pub(super) fn text_type() -> RawResult<Handle> {
    locked(|| {
        // SAFETY: the library is open (`locked`) and the type copied is one of its constants.
        let text = Handle::new(unsafe { H5Tcopy(*h5::H5T_C_S1) }, H5Tclose)?;
        check(unsafe { H5Tset_size(text.id(), H5T_VARIABLE) })?;
        check(unsafe { H5Tset_cset(text.id(), H5T_cset_t::H5T_CSET_UTF8) })?;
        Ok(text)
    })
}

/// Bytes of an element on disk, where text is a place on the heap; [`None`] where it cannot be
/// written.
pub(super) fn disk_size(dtype: &DType) -> Option<u64> {
    size(dtype, REFERENCE as u64)
}

/// Bytes of an element in memory, where text is a pointer.
fn memory_size(dtype: &DType) -> Option<usize> {
    let pointer = u64::try_from(size_of::<usize>()).ok()?;
    usize::try_from(size(dtype, pointer)?).ok()
}

fn size(dtype: &DType, text: u64) -> Option<u64> {
    match dtype {
        DType::String => Some(text),
        DType::Struct(members) => members
            .iter()
            .try_fold(0u64, |sum, m| sum.checked_add(size(&m.dtype, text)?)),
        // Text in arrays in records has no size: h5py cannot make it, so nothing holds it.
        other => other.size(),
    }
}

/// The library's type for elements in memory; datasets are created with the same one.
pub(super) fn memory_type(dtype: &DType) -> RawResult<Handle> {
    locked(|| {
        let native = match dtype {
            DType::Bool => return bool_type(),
            DType::Int8 => *h5::H5T_NATIVE_INT8,
            DType::Int16 => *h5::H5T_NATIVE_INT16,
            DType::Int32 => *h5::H5T_NATIVE_INT32,
            DType::Int64 => *h5::H5T_NATIVE_INT64,
            DType::UInt8 => *h5::H5T_NATIVE_UINT8,
            DType::UInt16 => *h5::H5T_NATIVE_UINT16,
            DType::UInt32 => *h5::H5T_NATIVE_UINT32,
            DType::UInt64 => *h5::H5T_NATIVE_UINT64,
            DType::Float16 => return half_type(),
            DType::Float32 => *h5::H5T_NATIVE_FLOAT,
            DType::Float64 => *h5::H5T_NATIVE_DOUBLE,
            DType::Complex64 => return compound(&[("r", DType::Float32), ("i", DType::Float32)]),
            DType::Complex128 => return compound(&[("r", DType::Float64), ("i", DType::Float64)]),
            DType::String => return text_type(),
            DType::Struct(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|m| (m.name.as_str(), m.dtype.clone()))
                    .collect();
                return compound(&members);
            }
            DType::FixedArray(item, len) => {
                let item = memory_type(item)?;
                let len: hsize_t = *len;
                // SAFETY: one length is passed, for rank one.
                return Handle::new(
                    unsafe { H5Tarray_create2(item.id(), 1, &raw const len) },
                    H5Tclose,
                );
            }
            DType::Reference | DType::Other(_) => {
                return Err(format!("elements of type {dtype} cannot be written").into());
            }
        };
        // SAFETY: a constant of the library.
        Handle::new(unsafe { H5Tcopy(native) }, H5Tclose)
    })
}

/// h5py's boolean: an enumeration over a byte.
fn bool_type() -> RawResult<Handle> {
    // SAFETY: the base is a constant, the names end in NUL, the values are bytes as the base is.
    let bool = Handle::new(unsafe { H5Tenum_create(*h5::H5T_NATIVE_INT8) }, H5Tclose)?;
    for (name, value) in [(c"FALSE", 0i8), (c"TRUE", 1i8)] {
        check(unsafe { H5Tenum_insert(bool.id(), name.as_ptr(), (&raw const value).cast()) })?;
    }
    Ok(bool)
}

/// IEEE half, cut from a single as h5py does: the library has a constant only where C has a type.
fn half_type() -> RawResult<Handle> {
    // SAFETY: a copy of our own is changed.
    let half = Handle::new(unsafe { H5Tcopy(*h5::H5T_NATIVE_FLOAT) }, H5Tclose)?;
    check(unsafe { H5Tset_fields(half.id(), 15, 10, 5, 0, 10) })?;
    check(unsafe { H5Tset_size(half.id(), 2) })?;
    check(unsafe { H5Tset_ebias(half.id(), 15) })?;
    Ok(half)
}

/// A record without padding.
fn compound(members: &[(&str, DType)]) -> RawResult<Handle> {
    let sizes: Vec<usize> = members
        .iter()
        .map(|(name, dtype)| {
            memory_size(dtype)
                .ok_or_else(|| format!("member {name:?} of type {dtype} cannot be written").into())
        })
        .collect::<RawResult<_>>()?;
    let size = sizes.iter().sum::<usize>();
    // SAFETY: members lie one after the other inside `size`.
    let record = Handle::new(
        unsafe { H5Tcreate(H5T_class_t::H5T_COMPOUND, size) },
        H5Tclose,
    )?;
    let mut offset = 0;
    for ((name, dtype), size) in members.iter().zip(sizes) {
        let (name, member) = (c_name(name)?, memory_type(dtype)?);
        check(unsafe { H5Tinsert(record.id(), name.as_ptr(), offset, member.id()) })?;
        offset += size;
    }
    Ok(record)
}
