//! Bytes in object stores and on web servers: the only place that calls `object_store`.
//!
//! A [`Place`] is what a URL names: an object, or all of those below a prefix. Its calls are
//! synchronous, as the rest of a store's reading is: a [`client`] does the requests on threads of
//! its own, many at a time, and whoever calls waits. So nothing here is called on a thread that runs
//! tasks; [`in_background`] is where such calls go. [`object::Object`] shows one object as a
//! [`ByteSource`](crate::store::source::ByteSource), metadata by cached [`blocks`], the rest by
//! ranges that are [joined](ranges) where that costs little and fetched together.
//!
//! # Invariants
//! - What is fetched of an object is of one version of it; where it changed meanwhile, that is an
//!   error.
//! - Every request ends: attempts, their silence and what is in flight are bounded.
//! - Errors show no password and no query of a URL, and nothing of a server's answer but its code
//!   and message.

mod client;
mod patience;
mod fault;
mod identity;
mod place;
mod ranges;
mod blocks;
mod held;
mod object;
mod open;
mod room;
mod upload;

pub(in crate::store) use client::in_background;
pub use client::register_object_store;
pub(in crate::store) use fault::{changed, names_its_key};
pub(in crate::store) use held::Parts;
pub(in crate::store) use identity::identity;
pub(in crate::store) use object::Object;
pub(in crate::store) use open::{bytes, failed, is_taken, is_writable, open, version};
pub(in crate::store) use place::{Got, Part, Place, Span, Version};
pub(in crate::store) use ranges::join;
pub(crate) use room::ROOM_BYTES as UPLOAD_ROOM;
pub use upload::settled;
pub(crate) use upload::{PART as UPLOAD_PART, settle};
pub(in crate::store) use upload::{Upload, Uploads};
