//! Which genes objects have, by the index of `var` or by a column of it.

use arrow::array::{Array, AsArray, StringArray};

use crate::element::{AnnData, Frame, as_text, stored_name};
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Names of a frame's rows: its index, or the column `align_on` as text.
///
/// # Errors
/// [`Error::InvalidOption`] where there is no such column, or a value is missing in it.
pub(super) async fn names(
    object: &AnnData,
    frame: &Frame,
    align_on: Option<&str>,
) -> Result<StringArray> {
    let rows = RowSelection::all(frame.n_rows());
    let Some(column) = align_on else {
        let names = frame.index().read(&rows, &ReadMetrics::default()).await?;
        return Ok(names.as_string::<i32>().clone());
    };
    let refuse = |reason: String| {
        let at = format!("{} of {}", frame.key(), object.location());
        Error::option("--align-on", format!("{at} {reason}"))
    };
    let reader = frame
        .columns()
        .iter()
        .find(|c| stored_name(c.field()) == column);
    let reader = reader.ok_or_else(|| refuse(format!("has no column '{column}'")))?;
    let names = as_text(&reader.read(&rows, &ReadMetrics::default()).await?)?;
    match names.null_count() {
        0 => Ok(names),
        n => Err(refuse(format!(
            "has {n} rows without a value in '{column}'"
        ))),
    }
}
