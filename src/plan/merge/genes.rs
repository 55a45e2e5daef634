//! Which names rows of the aligned axis have, by the index of their frame or by a column of it, and
//! what becomes of the other of the two.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};

use super::spec::MergeSpec;
use crate::element::{AnnData, ColumnReader, Frame, as_text, stored_name};
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

/// The columns of a frame that stay columns: without the one that names are taken from, and with the
/// names that it takes the place of.
pub(super) fn columns_beside(
    frame: &Frame,
    align_on: Option<&str>,
) -> Vec<(String, Arc<dyn ColumnReader>)> {
    let columns = frame.columns().iter();
    let columns = columns.map(|column| (stored_name(column.field()), Arc::clone(column)));
    let mut columns: Vec<_> = columns
        .filter(|(name, _)| Some(name.as_str()) != align_on)
        .collect();
    let index = former_name(frame);
    if align_on.is_some() && columns.iter().all(|(name, _)| *name != index) {
        columns.push((index, Arc::clone(frame.index())));
    }
    columns
}

/// What the names of a frame are called once they are a column.
fn former_name(frame: &Frame) -> String {
    match (frame.index_name(), frame.key().name()) {
        ("_index", "obs") => "obs_names".to_owned(),
        ("_index", _) => "var_names".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// The column that names of genes of `raw` are taken from: the one asked for, where all have it.
pub(super) fn raw_align_on<'a>(spec: &'a MergeSpec, objects: &[Arc<AnnData>]) -> Option<&'a str> {
    let mut raws = objects.iter().filter_map(|object| object.raw());
    let column = spec.align_on.as_deref()?;
    let all = raws.all(|raw| {
        let mut columns = raw.var().columns().iter();
        columns.any(|c| stored_name(c.field()) == column)
    });
    all.then_some(column)
}

/// The name of a merged index: that of all, if they agree.
pub(super) fn common_name<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> &'a str {
    let mut names = frames.into_iter().map(Frame::index_name);
    let first = names.next().unwrap_or("_index");
    match names.all(|name| name == first) {
        true => first,
        false => "_index",
    }
}
