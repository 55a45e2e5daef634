//! What all stores need to write Arrow: [`values`], the bytes of elements; [`rows`], arrays that
//! take whole rows in order; [`repeats`], the chunks of arrays that repeat each other; [`blocking`],
//! the threads.

mod blocking;
mod repeats;
mod rows;
mod values;

pub(in crate::store) use blocking::in_background;
pub(in crate::store) use repeats::{Repeats, Stored, Twin};
pub(in crate::store) use rows::{ArrayPlace, Body, OpenArrays, RowWriter};
pub(in crate::store) use values::{encode, mismatch};

use crate::error::BoxedError;

/// What a write gives, before it is known which file and element it belongs to.
pub(in crate::store) type RawResult<T> = Result<T, BoxedError>;
