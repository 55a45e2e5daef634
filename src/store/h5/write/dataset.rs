//! Datasets as the library makes them.

use std::ptr;

use hdf5::globals as h5;
use hdf5_sys::h5d::{H5D_alloc_time_t, H5D_fill_time_t, H5Dclose, H5Dcreate2};
use hdf5_sys::h5p::{
    H5Pclose, H5Pcreate, H5Pset_alloc_time, H5Pset_chunk, H5Pset_deflate, H5Pset_fill_time,
    H5Pset_filter, H5Pset_obj_track_times,
};
use hdf5_sys::h5s::{H5S_UNLIMITED, H5S_class_t, H5Sclose, H5Screate, H5Screate_simple};
use hdf5_sys::h5z::H5Z_FLAG_OPTIONAL;

use super::body::Job;
use super::raw::{Handle, c_name, check, locked, memory_type};
use crate::store::Compression;
use crate::store::encode::RawResult;

/// The number under which h5py registers LZF.
const LZF_FILTER: i32 = 32000;

/// How a dataset is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    /// Lengths; none for a scalar.
    pub(super) shape: &'a [u64],
    /// Lengths of a chunk, [`None`] for one run of bytes.
    pub(super) chunk: Option<&'a [u64]>,
    /// Whether the first axis may grow, now or later.
    pub(super) unlimited: bool,
    /// Whether room is reserved for all of it, to be filled without the library.
    pub(super) reserved: bool,
}

impl Job {
    /// Creates the dataset with its attributes; without a layout, one without elements.
    pub(super) fn create(&self, layout: Option<Layout<'_>>) -> RawResult<Handle> {
        let spec = &*self.spec;
        let name = c_name(self.key.as_str())?;
        locked(|| {
            let (space, list) = (space(layout)?, self.creation_list(layout)?);
            let dtype = memory_type(&spec.dtype)?;
            let (file, links) = (self.shared.file()?, self.shared.links());
            // SAFETY: all identifiers are open and the name ends in NUL.
            let dataset = Handle::new(
                unsafe {
                    H5Dcreate2(
                        file,
                        name.as_ptr(),
                        dtype.id(),
                        space.id(),
                        links,
                        list.id(),
                        0,
                    )
                },
                H5Dclose,
            )?;
            self.shared
                .attributes()
                .write(dataset.id(), &spec.attributes)?;
            Ok(dataset)
        })
    }

    /// How the dataset is stored. Under the lock.
    fn creation_list(&self, layout: Option<Layout<'_>>) -> RawResult<Handle> {
        // SAFETY: a list of our own; lengths are passed with their number.
        unsafe {
            let list = Handle::new(H5Pcreate(*h5::H5P_DATASET_CREATE), H5Pclose)?;
            let id = list.id();
            check(H5Pset_obj_track_times(id, 0))?;
            let Some(layout) = layout else {
                return Ok(list);
            };
            if let Some(chunk) = layout.chunk {
                check(H5Pset_chunk(
                    id,
                    i32::try_from(chunk.len())?,
                    chunk.as_ptr(),
                ))?;
                match self.spec.compression {
                    Compression::None => {}
                    Compression::Gzip(level) => check(H5Pset_deflate(id, u32::from(level)))?,
                    Compression::Lzf => {
                        let flags = H5Z_FLAG_OPTIONAL;
                        check(H5Pset_filter(id, LZF_FILTER, flags, 0, ptr::null()))?;
                    }
                    other => return Err(format!("{other:?} is no filter of h5ad").into()),
                }
            }
            if layout.reserved {
                check(H5Pset_alloc_time(
                    id,
                    H5D_alloc_time_t::H5D_ALLOC_TIME_EARLY,
                ))?;
            }
            // The library fills arrays of text in any case: their elements are places on a heap.
            if self.spec.dtype.size().is_some() {
                check(H5Pset_fill_time(id, H5D_fill_time_t::H5D_FILL_TIME_NEVER))?;
            }
            Ok(list)
        }
    }
}

/// A dataspace. Under the lock.
fn space(layout: Option<Layout<'_>>) -> RawResult<Handle> {
    // SAFETY: as many lengths are passed as the rank says.
    let id = match layout {
        None => unsafe { H5Screate(H5S_class_t::H5S_NULL) },
        Some(Layout { shape: [], .. }) => unsafe { H5Screate(H5S_class_t::H5S_SCALAR) },
        Some(Layout {
            shape, unlimited, ..
        }) => {
            let mut most = shape.to_vec();
            if unlimited {
                most[0] = H5S_UNLIMITED;
            }
            let rank = i32::try_from(shape.len())?;
            unsafe { H5Screate_simple(rank, shape.as_ptr(), most.as_ptr()) }
        }
    };
    Handle::new(id, H5Sclose)
}
