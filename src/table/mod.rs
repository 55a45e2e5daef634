//! The tables SQL sees, and the one leaf of every plan.
//!
//! An open object is a schema ([`AnnDataSchema`]) of tables ([`AnnDataTable`]): `obs`, `var`,
//! `cells`, `X`, `X_coo`, `obsm_*` and so on, see [`TableKind`]. Each is scanned by
//! `DataSourceExec(FileScanConfig)` over an [`AnnDataSource`], which holds a [`ScanDescription`],
//! a predicate and a projection, and opens the object when it runs. [`scan_cells`] builds the
//! same leaf from Rust.
//!
//! ```text
//!  block of rows ──► predicate on obs columns ──► on matrix functions ──► what survives:
//!                    reads those columns          reads parts of X        columns, then X by bytes
//! ```
//!
//! # Invariants
//! - Rows leave a partition in order; partition i's come before partition i+1's.
//! - Batches own their buffers and hold at most `batch_bytes` of matrix rows (one row at least).
//! - No filter stays above a scan.

mod kind;
mod description;
mod layout;
mod source;
mod scan;
mod provider;
mod schema;
mod cells;
mod provenance;
mod inputs;
mod weigh;
mod shared;
mod numbered;

pub(crate) use cells::scan_cells_where;
pub(crate) use cells::weigh_cells;
pub use cells::{CellsScan, scan_cells};
pub use description::{DEFAULT_BATCH_BYTES, OrderedRows, OrderedWindows, ScanDescription};
pub(crate) use inputs::locations;
pub use kind::TableKind;
pub(crate) use layout::cells_name;
pub(crate) use numbered::NumberedTable;
pub(crate) use provenance::add_provenance;
pub use provider::AnnDataTable;
pub(crate) use provider::is_plain;
pub(crate) use scan::ScanMetrics;
pub use schema::AnnDataSchema;
pub(crate) use shared::{Lease, Shared};
pub use source::AnnDataSource;
pub(crate) use source::{LEAST_PARTITION, even_partitions, scan_config};
pub use weigh::RowWeight;
