//! What all stores need to turn bytes into Arrow: [`layout`], how elements lie in a chunk;
//! [`output`], the buffer that a read fills; [`arrow`], its values; [`bands`], rows by chunks;
//! [`recent`], chunks kept, in [`room`] that is used again; [`largest`], of positions;
//! [`background`], the threads; [`fault`], what can go wrong.

mod fault;
mod layout;
mod output;
mod arrow;
mod bands;
mod recent;
mod once;
mod room;
mod largest;
mod background;

pub(in crate::store) use arrow::{Elsewhere, Nowhere, TextBuilder, to_arrow, too_long};
pub(in crate::store) use background::in_background;
pub(in crate::store) use bands::bands;
pub(in crate::store) use fault::{Fault, guard, panicked};
pub(crate) use largest::largest;
pub(in crate::store) use largest::{largest_of, largest_of_words};
pub(in crate::store) use layout::{Disk, Member, Padding, complex};
pub(in crate::store) use once::Once;
pub(in crate::store) use output::{Bytes, Initialised, zeroed};
pub(in crate::store) use recent::Recent;
pub(in crate::store) use room::Room;
