//! An Arrow Flight server: minibatches by ticket, and SQL over the same objects.
//!
//! ```text
//!  ticket (JSON) ──► Ticket ──► Loader ──► minibatches ──► encode ──► messages of 3.5 MB ──► wire
//!  statement     ──► Session ──► batches ───────────────► encode ──► messages
//! ```
//! [`ticket`] is what a client asks with, [`objects`] what is served, [`encode`] how batches become
//! messages, [`minibatches`] and [`sql`] answer, [`prepared`] is statements that wait for values,
//! [`service`] sends each call to one of them, [`wire`] writes streams of minibatches as they are,
//! [`access`] says who may call, [`room`] what streams may take, [`metrics`] counts, [`serve()`] runs it
//! all, and
//! [`client`] is the other side, in Rust.
//!
//! # Invariants
//! - The server holds no state that a ticket cannot rebuild.
//! - Only what is served is read: a ticket names objects, never paths, and SQL has no function that
//!   opens one, and writes nothing.
//! - Memory is bounded by streams: each reads a window or two ahead, and no more are taken than are
//!   allowed.

mod access;
mod client;
mod encode;
mod metrics;
mod minibatches;
mod objects;
mod prepared;
mod room;
mod serve;
mod service;
mod sql;
mod status;
mod ticket;
mod wire;

pub use client::{Client, ClientOptions, Received};
pub use serve::{ServeOptions, Served, serve};
pub use ticket::Ticket;
