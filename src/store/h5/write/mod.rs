//! Writing HDF5 through the reference library, with our own I/O and compression beside it.
//!
//! The library lays the file out: groups, attributes, datasets and their chunk tables. Bytes of
//! uncompressed arrays of known length go to the places it gave them by `pwrite`, outside its
//! lock and without a copy, past the page cache where the run is too large for it ([`bulk`]);
//! other chunks are compressed on all cores, those that two arrays have in common once, and handed
//! over as they are. Text goes to the file's heap, in collections of our own, and arrays hold its
//! places there.
//!
//! [`file`] is the file and its names, [`array`] one array, [`body`] decides which of the two ways
//! its values go: [`direct`] or [`chunks`]. [`heap`] is the text.
//!
//! # Invariants
//! - Nothing stands under the final name before a commit; a drop before it removes all traces.
//! - Equal calls give equal bytes: no times, no uninitialised padding, no dependence on threads
//!   (arrays that are written concurrently aside: their places follow the order of calls).
//! - Every call of the library is made under its lock; no compression and no `pwrite` is.

mod file;

mod array;
mod body;
mod dataset;

mod bulk;
mod chunks;
mod deflate;
mod descriptor;
mod direct;
mod heap;

mod grid;
mod lzf;

mod attributes;
mod raw;

pub(crate) use file::create;
