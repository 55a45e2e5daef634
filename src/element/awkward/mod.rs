//! `awkward-array`: nested values of any shape, read as one JSON text per row.
//!
//! `form` parses the description in attribute `form`; `content` checks the arrays of the group
//! against it and spells out rows; `column` is the reader.

mod form;
mod content;
mod column;

pub(crate) use column::AwkwardColumn;
