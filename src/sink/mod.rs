//! Batches of `cells` → an AnnData object on disk. Decides how, never what.
//!
//! [`ObjectSink`] writes what batches hold, row after row (`obs`, `X`, `layers`, `obsm`, `raw/X`),
//! and at the end what is aligned to genes or to nothing (`var`, `varm`, `varp`, `raw/var`,
//! `raw/varm`, `uns`), which it takes from the object, or the merge of objects, that the rows came
//! from, and `obsp`, re-indexed by the rows' positions there.
//!
//! # Invariants
//! - Rows are written in the order they come.
//! - Nothing stands under the final name before [`FinishedObject::commit`].
//! - What cannot be kept is said in [`FinishedObject::warnings`] or is an error.

mod choice;
mod options;
mod layout;
mod provenance;
mod origin;
mod object;
mod collection;
mod finish;
mod genes;
mod aligned;

pub(crate) use aligned::{write_column, write_frame};
pub use choice::StorageChoice;
pub use collection::CollectionSink;
pub(crate) use genes::frame_of_genes;
pub(crate) use layout::element_of;
pub use object::{FinishedObject, ObjectSink};
pub use options::{ObjectSize, SinkOptions};
pub(crate) use origin::{GeneSide, Origin, Sources};
