//! An Arrow and DataFusion storage layer for AnnData.
//!
//! `obs`, `var`, `X` and every other element of an `.h5ad` object are Arrow record batches behind
//! DataFusion table providers; slices and filters are query plans that run out of core.
//!
//! Data flows one way, and a module may name only those above it:
//!
//! ```text
//!    url ──► store ──► element ──► table ──► plan ──► sink ──► h5ad
//!         arrays and   AnnData     Table-   WriteExec
//!         groups on    encodings   Providers
//!         disk         ⇄ Arrow     FileSource
//! ```

pub mod error;
pub mod model;

pub mod kernel;
pub mod store;

pub mod element;
pub mod functions;

pub mod sink;
pub mod table;

pub mod plan;
pub mod session;

pub mod loader;

pub mod ops;

pub mod cluster;
pub mod flight;

pub mod cli;

pub use error::{Error, Result};
