//! One array: created in the layout its length and compression ask for, then filled in order.

use std::sync::Arc;

use super::body::{H5Body, Job};
use super::file::{STORE, Shared};
use super::raw::disk_size;
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey};
use crate::store::encode::{ArrayPlace, RowWriter};
use crate::store::{ArraySpec, ArrayWriter, Compression, Extent};

/// Creates the array, or, for one that grows, sees to it that it can be.
pub(super) fn create(
    shared: &Arc<Shared>,
    key: &ElementKey,
    mut spec: ArraySpec,
) -> Result<Box<dyn ArrayWriter>> {
    if disk_size(&spec.dtype).is_none() {
        let reason = format!("elements of type {} cannot be written", spec.dtype);
        return Err(Error::invalid(shared.url(), key, reason));
    }
    // Filters work on chunks, which a scalar has none of, and of text they would see places on the
    // heap only.
    if matches!(spec.extent, Extent::Scalar | Extent::Null) || spec.dtype == DType::String {
        spec.compression = Compression::None;
    }
    if !matches!(
        spec.compression,
        Compression::None | Compression::Gzip(_) | Compression::Lzf
    ) {
        let reason = format!("{:?} is no filter of h5ad", spec.compression);
        return Err(Error::option("compression", reason));
    }
    let place = ArrayPlace {
        store: STORE,
        url: shared.url().to_owned(),
        key: key.clone(),
        open_arrays: shared.open_arrays.clone(),
    };
    let job = Job {
        shared: Arc::clone(shared),
        key: key.clone(),
        twin: Arc::new(shared.repeats.array(&spec)),
        spec: Arc::new(spec),
    };
    let extent = job.spec.extent.clone();
    let writer = RowWriter::create(place, &extent, || H5Body::new(job))?;
    Ok(Box::new(writer))
}
