//! What only the reference library reads: object references, links that are no plain links, rare
//! filters and the newest layouts.
//!
//! Every call is made under the library's own global lock, the file is opened without file locks
//! and closed again at once, so that a file that needs none of this never meets C code.

use std::ffi::{CStr, CString, c_char};

use arrow::array::StringArray;
use hdf5::{Attribute, Dataset, File};
use hdf5_sys::h5a::H5Aread;
use hdf5_sys::h5d::H5Dread;
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::H5P_DEFAULT;
use hdf5_sys::h5r::{H5R_OBJECT1, H5Rget_name};
use hdf5_sys::h5s::{H5S_ALL, H5S_SELECT_SET, H5Sclose, H5Screate_simple, H5Sselect_hyperslab};
use hdf5_sys::h5t::{H5Tis_variable_str, H5Treclaim};
use serde_json::Value;

use super::array::{Core, FileInfo};
use crate::model::{ElementKey, RowSelection};
use crate::store::decode::{Bytes, Fault, TextBuilder};

fn open(file: &FileInfo) -> Result<File, Fault> {
    let Some(path) = &file.path else {
        return Err(Fault::Unsupported(
            "only the HDF5 library reads this, which opens no object of a store; read a copy of \
             the file on a disk"
                .into(),
        ));
    };
    let unlocked = File::with_options()
        .with_fapl(|fapl| fapl.file_locking(false))
        .open(path);
    // The library refuses to open a file twice in one process with different ideas of locking;
    // where somebody else holds it open with locks, theirs are joined.
    Ok(unlocked.or_else(|error| File::open(path).map_err(|_| error))?)
}

fn refused(what: &str) -> Fault {
    Fault::Corrupt(format!("the HDF5 library does not read {what}"))
}

/// Reads the elements of rows as they are on disk.
///
/// # Errors
/// [`Fault::Library`] or [`Fault::Corrupt`] where the library refuses.
pub(super) fn read_rows(core: &Core, rows: &RowSelection) -> Result<Bytes, Fault> {
    if core.disk.has_heap_text() {
        return Err(Fault::Unsupported(
            "text inside records that only the HDF5 library reads".into(),
        ));
    }
    let dataset = checked(core)?;
    let row = usize::try_from(core.row_bytes).map_err(|_| refused("rows of that length"))?;
    let n = usize::try_from(rows.len()).map_err(|_| refused("that many rows"))?;
    let mut bytes = vec![
        0u8;
        n.checked_mul(row)
            .ok_or_else(|| refused("that many rows"))?
    ];
    let mut at = 0;
    for range in rows.ranges() {
        let len = usize::try_from(range.end - range.start).unwrap_or(0) * row;
        let target = bytes
            .get_mut(at..at + len)
            .ok_or_else(|| refused("that many rows"))?;
        read_range(core, &dataset, range, target.as_mut_ptr().cast())?;
        at += len;
    }
    Ok(Bytes::from(bytes.as_slice()))
}

/// Reads rows of variable-length text.
///
/// # Errors
/// [`Fault::Library`] or [`Fault::Corrupt`] where the library refuses.
pub(super) fn read_text(core: &Core, rows: &RowSelection) -> Result<StringArray, Fault> {
    let dataset = checked(core)?;
    let dtype = dataset.dtype()?;
    // Values are read as pointers below: text of a fixed width, or sequences, would overrun them.
    if !is_variable_text(&dtype) {
        return Err(refused("variable-length text"));
    }
    let per_row = usize::try_from(core.row_bytes / 16).map_err(|_| refused("such rows"))?;
    let mut text = TextBuilder::with_capacity(0, 0);
    for range in rows.ranges() {
        let n = usize::try_from(range.end - range.start)
            .ok()
            .and_then(|n| n.checked_mul(per_row))
            .ok_or_else(|| refused("that many rows"))?;
        let mut pointers: Vec<*mut c_char> = vec![std::ptr::null_mut(); n];
        let read = read_range(core, &dataset, range, pointers.as_mut_ptr().cast());
        let copied = read.and_then(|()| {
            pointers.iter().try_for_each(|pointer| {
                if pointer.is_null() {
                    return text.push(&[]);
                }
                // SAFETY: the library wrote a zero-terminated string there, which lives until it
                // is reclaimed below.
                text.push(unsafe { CStr::from_ptr(*pointer) }.to_bytes())
            })
        });
        let len = [n as u64];
        hdf5::sync::sync(|| {
            // SAFETY: the buffer holds `n` values of `dtype` that the library allocated, or nulls.
            unsafe {
                let space = H5Screate_simple(1, len.as_ptr(), std::ptr::null());
                H5Treclaim(dtype.id(), space, H5P_DEFAULT, pointers.as_mut_ptr().cast());
                H5Sclose(space);
            }
        });
        copied?;
    }
    text.finish()
}

fn is_variable_text(dtype: &hdf5::Datatype) -> bool {
    // SAFETY: the type is open.
    hdf5::sync::sync(|| unsafe { H5Tis_variable_str(dtype.id()) }) > 0
}

/// Opens the dataset and holds what the library says of it against what the parser said, since
/// buffers are sized by the latter.
fn checked(core: &Core) -> Result<Dataset, Fault> {
    let dataset = open(&core.file)?.dataset(core.info.key.as_str())?;
    let shape: Vec<u64> = dataset.shape().iter().map(|n| *n as u64).collect();
    let size = dataset.dtype()?.size();
    let text = core.disk.has_heap_text();
    if shape != core.info.shape || (size != core.element && !text) {
        return Err(Fault::Corrupt(format!(
            "the HDF5 library sees {shape:?} elements of {size} bytes, the parser {:?} of {}",
            core.info.shape, core.element
        )));
    }
    Ok(dataset)
}

/// Reads one range of rows into memory that holds them, without conversion.
fn read_range(
    core: &Core,
    dataset: &Dataset,
    rows: &std::ops::Range<u64>,
    target: *mut std::ffi::c_void,
) -> Result<(), Fault> {
    let dtype = dataset.dtype()?;
    let space = dataset.space()?;
    let shape = &core.info.shape;
    let mut start = vec![0u64; shape.len()];
    let mut count = shape.clone();
    let status = hdf5::sync::sync(|| {
        let (Some(first), Some(n)) = (start.first_mut(), count.first_mut()) else {
            // SAFETY: a scalar is one element, for which the caller made room.
            return unsafe {
                H5Dread(
                    dataset.id(),
                    dtype.id(),
                    H5S_ALL,
                    H5S_ALL,
                    H5P_DEFAULT,
                    target,
                )
            };
        };
        *first = rows.start;
        *n = rows.end - rows.start;
        let rank = i32::try_from(shape.len()).unwrap_or(-1);
        // SAFETY: `start` and `count` have one entry per axis and lie inside the shape, which the
        // library agreed to; the target holds `count` elements of the type on disk.
        unsafe {
            let status = H5Sselect_hyperslab(
                space.id(),
                H5S_SELECT_SET,
                start.as_ptr(),
                std::ptr::null(),
                count.as_ptr(),
                std::ptr::null(),
            );
            if status < 0 {
                return status;
            }
            let memory: hid_t = H5Screate_simple(rank, count.as_ptr(), std::ptr::null());
            let status = H5Dread(
                dataset.id(),
                dtype.id(),
                memory,
                space.id(),
                H5P_DEFAULT,
                target,
            );
            H5Sclose(memory);
            status
        }
    });
    if status < 0 {
        return Err(match hdf5::Error::query() {
            Ok(error) => Fault::Library(error),
            Err(_) => refused("these rows"),
        });
    }
    Ok(())
}

/// The paths of objects by their addresses, without a leading slash; empty for a null reference.
///
/// # Errors
/// [`Fault::Corrupt`] where there is no object at an address.
pub(super) fn names(file: &FileInfo, addresses: &[u64]) -> Result<Vec<String>, Fault> {
    let library = open(file)?;
    let mut known = std::collections::HashMap::new();
    addresses
        .iter()
        .map(|address| {
            if let Some(name) = known.get(address) {
                return Ok(String::clone(name));
            }
            let name = name_of(&library, *address)?;
            known.insert(*address, name.clone());
            Ok(name)
        })
        .collect()
}

fn name_of(library: &File, address: u64) -> Result<String, Fault> {
    if address == 0 {
        return Ok(String::new());
    }
    let mut name = vec![0u8; 4096];
    let reference: *const u64 = &address;
    let len = hdf5::sync::sync(|| {
        // SAFETY: the reference is the 8 bytes that this kind of reference has, and the length
        // given is that of the buffer.
        unsafe {
            H5Rget_name(
                library.id(),
                H5R_OBJECT1,
                reference.cast(),
                name.as_mut_ptr().cast(),
                name.len(),
            )
        }
    });
    match usize::try_from(len) {
        Ok(len) if len > 0 && len < name.len() => {
            name.truncate(len);
            let name = String::from_utf8_lossy(&name);
            Ok(name.trim_start_matches('/').to_owned())
        }
        _ => Err(refused(&format!("the reference to address {address}"))),
    }
}

/// The path that an attribute refers to, or the list of them.
///
/// # Errors
/// As [`names`].
pub(super) fn reference_attribute(
    file: &FileInfo,
    key: &ElementKey,
    name: &str,
) -> Result<Value, Fault> {
    let attribute = attribute(&open(file)?, key, name)?;
    let dtype = attribute.dtype()?;
    let mut addresses = vec![0u64; attribute.size()];
    if dtype.size() != 8 {
        return Err(Fault::Unsupported(format!(
            "references of {} bytes",
            dtype.size()
        )));
    }
    let status = hdf5::sync::sync(|| {
        // SAFETY: the buffer holds as many 8-byte references as the attribute has elements.
        unsafe { H5Aread(attribute.id(), dtype.id(), addresses.as_mut_ptr().cast()) }
    });
    if status < 0 {
        return Err(refused(&format!("the attribute {name}")));
    }
    let mut paths = names(file, &addresses)?;
    Ok(match paths.pop() {
        Some(path) if attribute.is_scalar() => Value::from(path),
        Some(path) => {
            paths.push(path);
            Value::from(paths)
        }
        None => Value::Array(Vec::new()),
    })
}

fn attribute(library: &File, key: &ElementKey, name: &str) -> Result<Attribute, Fault> {
    Ok(match key.as_str() {
        "" => library.attr(name)?,
        path => match library.dataset(path) {
            Ok(dataset) => dataset.attr(name)?,
            Err(_) => library.group(path)?.attr(name)?,
        },
    })
}

/// A link that is not the object itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// To a path in this file.
    Soft(String),
    /// To another file.
    External(String),
}

/// Names of all links of a group, whatever they lead to.
///
/// # Errors
/// [`Fault::Library`] where the library refuses.
pub(super) fn link_names(file: &FileInfo, group: &ElementKey) -> Result<Vec<String>, Fault> {
    let mut names = names_in(&open(file)?, group)?;
    names.sort_unstable();
    Ok(names)
}

fn names_in(library: &File, group: &ElementKey) -> hdf5::Result<Vec<String>> {
    match group.as_str() {
        "" => library.member_names(),
        path => library.group(path)?.member_names(),
    }
}

/// What kind of link stands at `key`; [`None`] where there is none or a plain one.
///
/// # Errors
/// [`Fault::Library`] where the library does not open the file.
pub(super) fn link(file: &FileInfo, key: &ElementKey) -> Result<Option<Link>, Fault> {
    Ok(link_in(&open(file)?, key))
}

/// Links of groups that are not plain and not among the names that are known of each.
///
/// # Errors
/// [`Fault::Library`] where the library does not open the file.
pub(super) fn other_links(
    file: &FileInfo,
    groups: &[(ElementKey, Vec<String>)],
) -> Result<Vec<(ElementKey, Link)>, Fault> {
    let library = open(file)?;
    let mut found = Vec::new();
    for (group, known) in groups {
        // What the library does not list, the parser did.
        for name in names_in(&library, group).unwrap_or_default() {
            let key = group.child(&name);
            if !known.contains(&name)
                && let Some(link) = link_in(&library, &key)
            {
                found.push((key, link));
            }
        }
    }
    Ok(found)
}

fn link_in(library: &File, key: &ElementKey) -> Option<Link> {
    use hdf5_sys::h5l::{H5L_TYPE_EXTERNAL, H5L_TYPE_SOFT, H5L_info2_t, H5Lget_info2, H5Lget_val};
    let path = CString::new(key.as_str()).ok()?;
    if !library.link_exists(key.as_str()) {
        return None;
    }
    let mut target = vec![0u8; 4096];
    let kind = hdf5::sync::sync(|| {
        // SAFETY: the path is zero-terminated, `info` is plain data that the call fills, and the
        // length given is that of the buffer; its last byte stays zero.
        unsafe {
            let mut info: H5L_info2_t = std::mem::zeroed();
            if H5Lget_info2(library.id(), path.as_ptr(), &raw mut info, H5P_DEFAULT) < 0 {
                return None;
            }
            let soft = info.type_ == H5L_TYPE_SOFT;
            if !soft && info.type_ != H5L_TYPE_EXTERNAL {
                return None;
            }
            let status = H5Lget_val(
                library.id(),
                path.as_ptr(),
                target.as_mut_ptr().cast(),
                target.len() - 1,
                H5P_DEFAULT,
            );
            (status >= 0).then_some(soft)
        }
    });
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    kind.map(|soft| {
        if soft {
            Link::Soft(text(&target))
        } else {
            // One byte of flags, then the file's name.
            Link::External(text(&target[1..]))
        }
    })
}
