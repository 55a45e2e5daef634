//! Blosc's chunks: a header, then blocks that are compressed by themselves
//! (c-blosc, `README_CHUNK_FORMAT.rst`).

use std::mem::MaybeUninit;

use blosc_src::{blosc_cbuffer_validate, blosc_decompress_ctx};

use crate::store::decode::{Fault, Initialised};

/// Bytes that a chunk says it decodes to.
///
/// # Errors
/// [`Fault::Corrupt`] where the header contradicts itself or the chunk's length.
pub(super) fn len(encoded: &[u8]) -> Result<usize, Fault> {
    let mut len = 0;
    // SAFETY: the pointer and length are those of a live slice, and the call writes to `len` alone.
    let status =
        unsafe { blosc_cbuffer_validate(encoded.as_ptr().cast(), encoded.len(), &raw mut len) };
    match status {
        0 => Ok(len),
        _ => Err(Fault::Corrupt(format!(
            "blosc: {} bytes are no chunk of it",
            encoded.len()
        ))),
    }
}

/// Fills all of `target` with what a chunk of that [`len`] decodes to, on this thread.
///
/// # Errors
/// [`Fault::Corrupt`] where it does not decode to so much.
pub(super) fn decode(encoded: &[u8], target: &mut [MaybeUninit<u8>]) -> Result<Initialised, Fault> {
    if len(encoded)? != target.len() {
        return Err(Fault::Corrupt(format!(
            "blosc: a chunk claims {} bytes, and has {}",
            len(encoded)?,
            target.len()
        )));
    }
    if target.is_empty() {
        return Ok(Initialised::default());
    }
    // SAFETY: the header was held against the chunk's length, and the call writes no more than the
    // target's length to it.
    let n = unsafe {
        blosc_decompress_ctx(
            encoded.as_ptr().cast(),
            target.as_mut_ptr().cast(),
            target.len(),
            1,
        )
    };
    match usize::try_from(n) {
        // SAFETY: the call says that it wrote all of the target.
        Ok(n) if n == target.len() => Ok(Initialised::of(unsafe { target.assume_init_mut() })),
        _ => Err(Fault::Corrupt(format!(
            "blosc: a chunk of {} bytes does not decode to {} ({n})",
            encoded.len(),
            target.len()
        ))),
    }
}
