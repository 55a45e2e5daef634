//! Zarr v2 and v3 for writing: a folder beside its final name, which it gets when it is complete, or
//! objects of an object store, whose root's document comes last.
//!
//! [`store`] keeps the documents of all nodes and writes them at the end, the root's last, with the
//! consolidated metadata. [`array`] takes rows and hands them on in bands as high as a chunk,
//! [`grid`] says how large chunks and shards are, [`encode`] makes a chunk's bytes, [`files`] puts them into
//! values of their own or into shards; [`values`] are files, those of a [`bucket`] objects, or stand in
//! one document, with [`references`] to the arrays of another file in the place of chunks.
//! [`document`] is what an array says of itself.
//!
//! # Invariants
//! - A chunk is encoded once and a shard written once, front to back: what waits in memory is a
//!   band of each open array, some mebibytes of it beside, and of a shard its index. Arrays of text
//!   wait until 4 MiB of it was seen, records with text until their end.
//! - Chunks of nothing but fill values are not written, as zarr-python has it.

mod array;
mod document;
mod encode;
mod files;
mod references;
mod grid;
mod values;
mod zstd;
mod bucket;
mod store;

pub(in crate::store) use store::{create, create_references};
