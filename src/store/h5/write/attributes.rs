//! JSON values as attributes, in the forms that h5py gives them.

use std::ffi::c_void;
use std::ptr;

use hdf5::globals as h5;
use hdf5_sys::h5::hsize_t;
use hdf5_sys::h5a::{H5Aclose, H5Acreate2, H5Adelete, H5Aexists, H5Awrite};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::{H5Pclose, H5Pcreate, H5Pset_char_encoding};
use hdf5_sys::h5s::{H5S_class_t, H5Sclose, H5Screate, H5Screate_simple};
use hdf5_sys::h5t::H5T_cset_t;
use serde_json::Value;

use super::raw::{Handle, c_name, check, locked, memory_type, text_type};
use crate::model::DType;
use crate::store::Attributes;
use crate::store::encode::RawResult;

/// What attributes are made of; made once per file, because each costs as much as an attribute.
#[derive(Debug)]
pub(super) struct AttributeTypes {
    text: Handle,
    bool: Handle,
    scalar: Handle,
    /// Says that names are UTF-8.
    names: Handle,
}

impl AttributeTypes {
    pub(super) fn new() -> RawResult<Self> {
        locked(|| {
            // SAFETY: constants of the library, and a list of our own.
            let names = Handle::new(unsafe { H5Pcreate(*h5::H5P_ATTRIBUTE_CREATE) }, H5Pclose)?;
            check(unsafe { H5Pset_char_encoding(names.id(), H5T_cset_t::H5T_CSET_UTF8) })?;
            let scalar = Handle::new(unsafe { H5Screate(H5S_class_t::H5S_SCALAR) }, H5Sclose)?;
            Ok(Self {
                text: text_type()?,
                bool: memory_type(&DType::Bool)?,
                scalar,
                names,
            })
        })
    }

    /// Sets attributes of an open object; those it has already are replaced.
    pub(super) fn write(&self, object: hid_t, attributes: &Attributes) -> RawResult<()> {
        locked(|| {
            attributes.iter().try_for_each(|(name, value)| {
                self.write_one(object, name, value)
                    .map_err(|e| format!("attribute {name:?}: {e}").into())
            })
        })
    }

    fn write_one(&self, object: hid_t, name: &str, value: &Value) -> RawResult<()> {
        let target = Target {
            object,
            name,
            types: self,
        };
        match value {
            Value::String(text) => target.text(&[text], None),
            Value::Bool(flag) => target.put(self.bool.id(), None, &[i8::from(*flag)]),
            Value::Number(number) => {
                if let Some(integer) = number.as_i64() {
                    target.put(*h5::H5T_NATIVE_INT64, None, &[integer])
                } else if let Some(integer) = number.as_u64() {
                    target.put(*h5::H5T_NATIVE_UINT64, None, &[integer])
                } else {
                    let float = number.as_f64().ok_or("a number that no type holds")?;
                    target.put(*h5::H5T_NATIVE_DOUBLE, None, &[float])
                }
            }
            Value::Array(items) => target.list(items),
            Value::Null | Value::Object(_) => Err(format!("{value} has no form in HDF5").into()),
        }
    }
}

/// The attribute being written.
struct Target<'a> {
    object: hid_t,
    name: &'a str,
    types: &'a AttributeTypes,
}

impl Target<'_> {
    /// A list of one type; an empty one is of text, as `column-order` without columns has to be.
    fn list(&self, items: &[Value]) -> RawResult<()> {
        let len = Some(hsize_t::try_from(items.len())?);
        if let Some(texts) = items.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
            self.text(&texts, len)
        } else if let Some(flags) = items.iter().map(Value::as_bool).collect::<Option<Vec<_>>>() {
            let flags: Vec<i8> = flags.into_iter().map(i8::from).collect();
            self.put(self.types.bool.id(), len, &flags)
        } else if let Some(integers) = items.iter().map(Value::as_i64).collect::<Option<Vec<_>>>() {
            self.put(*h5::H5T_NATIVE_INT64, len, &integers)
        } else if let Some(floats) = items.iter().map(Value::as_f64).collect::<Option<Vec<_>>>() {
            self.put(*h5::H5T_NATIVE_DOUBLE, len, &floats)
        } else {
            Err("a list of mixed or nested values has no form in HDF5".into())
        }
    }

    fn text(&self, texts: &[impl AsRef<str>], len: Option<hsize_t>) -> RawResult<()> {
        let texts = texts
            .iter()
            .map(|text| {
                std::ffi::CString::new(text.as_ref())
                    .map_err(|_| "text with a NUL character".into())
            })
            .collect::<RawResult<Vec<_>>>()?;
        let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        self.put(self.types.text.id(), len, &pointers)
    }

    /// Creates the attribute and writes `values`, whose memory is that of `type_id`.
    fn put<T>(&self, type_id: hid_t, len: Option<hsize_t>, values: &[T]) -> RawResult<()> {
        let name = c_name(self.name)?;
        let list;
        let space = match len {
            None => self.types.scalar.id(),
            Some(len) => {
                // SAFETY: one length for rank one; no maximal lengths.
                list = Handle::new(
                    unsafe { H5Screate_simple(1, &raw const len, ptr::null()) },
                    H5Sclose,
                )?;
                list.id()
            }
        };
        // SAFETY: all identifiers are open, the name ends in NUL, and `values` has as many
        // elements as the space and the memory layout of the type.
        unsafe {
            if H5Aexists(self.object, name.as_ptr()) > 0 {
                check(H5Adelete(self.object, name.as_ptr()))?;
            }
            let attribute = Handle::new(
                H5Acreate2(
                    self.object,
                    name.as_ptr(),
                    type_id,
                    space,
                    self.types.names.id(),
                    0,
                ),
                H5Aclose,
            )?;
            if values.is_empty() {
                return Ok(());
            }
            check(H5Awrite(
                attribute.id(),
                type_id,
                values.as_ptr().cast::<c_void>(),
            ))
        }
    }
}
