//! An Arrow Flight server: minibatches by ticket, and SQL over the same objects.
//!
//! ```text
//!  ticket (JSON) ──► Ticket ──► Loader ──► minibatches ──► encode ──► messages of 3.5 MB
//!  statement     ──► Session ──► batches ───────────────► encode ──► messages
//! ```
//! [`ticket`] is what a client asks with, [`objects`] what is served, [`encode`] how batches become
//! messages, [`minibatches`] and [`sql`] answer, [`service`] sends each call to one of them, [`access`]
//! says who may call, and [`serve()`] runs it all.
//!
//! # Invariants
//! - The server holds no state that a ticket cannot rebuild.
//! - Only what is served is read: a ticket names objects, never paths, and SQL has no function that
//!   opens one, and writes nothing.
//! - Memory is bounded by streams: each reads a window or two ahead, and no more are taken than are
//!   allowed.

mod access;
mod encode;
mod minibatches;
mod objects;
mod serve;
mod service;
mod sql;
mod status;
mod ticket;

pub use serve::{ServeOptions, Served, serve};
pub use ticket::Ticket;
