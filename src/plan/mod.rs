//! Plan nodes of our own: what writes, and what a write needs below it.
//!
//! [`WriteExec`] runs its input and writes objects, as its [`WriteSpec`] describes.
//! [`ShuffleExec`] brings rows into a seeded order, [`merge`] makes the cells of several objects those of
//! one.
//! [`AttachColumnExec`] gives cells a column that their object does not have, [`MatrixFormExec`] makes
//! dense matrices sparse and back.
//! [`ObjectFormatFactory`] is how `COPY … STORED AS H5AD` (or `ZARR`) gets there.
//! [`CellsParquetFactory`] gives Parquet files what their columns name by an id, over [`InOrderExec`].
//!
//! # Invariants
//! - The rows of input partition `i` come before those of partition `i + 1`, and keep their order.
//! - Nothing has its final name before every output of the node is complete.
//! - Nodes hold descriptions, never open handles, so that every one can be encoded.

mod spec;
mod notices;
mod names;
mod write;
mod run;
mod select;
mod unions;
mod sources;
mod node;
mod attach;
mod form;
mod shuffle;
mod provenance;
mod format;
pub mod merge;
mod in_order;
mod luggage;
mod parquet;

pub use attach::AttachColumnExec;
pub use form::MatrixFormExec;
pub use format::ObjectFormatFactory;
pub use in_order::InOrderExec;
pub(crate) use luggage::{Luggage, pack};
pub use names::{file_name, object_paths};
pub use notices::Notices;
pub use parquet::CellsParquetFactory;
pub use shuffle::{
    DEFAULT_SHUFFLE_BYTES, Shuffle, ShuffleChoice, ShuffleExec, ShuffleInput, ShuffleMemory,
    ShuffleRequest, ShuffleSpec, ShuffleTable, ShuffleWay, ShuffledObject, ShuffledScan, choose,
};
pub use spec::{OutputSpec, Outputs, RoutedOutput, WriteSpec};
pub use write::{WriteExec, WrittenObject};
