//! Which cells an operation keeps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::{cast, kernels::cmp::neq};
use arrow::datatypes::DataType;

use crate::element::{AnnData, ColumnReader};
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Rows per step when a column is read whole.
const BLOCK: u64 = 1 << 16;

/// The cells for which an obs column is true: booleans, non-zero numbers, or the texts true, false,
/// 1, 0 in any case. A null is not true; a NaN is a number that is not zero, as it is in numpy.
///
/// # Errors
/// [`Error::InvalidOption`] that lists texts which are neither.
pub(super) fn truthy(column: &str, values: &ArrayRef) -> Result<BooleanArray> {
    let values = match values.data_type() {
        DataType::Dictionary(_, inner) => cast(values, inner)?,
        _ => Arc::clone(values),
    };
    match values.data_type() {
        DataType::Boolean => Ok(values
            .as_boolean()
            .iter()
            .map(|v| Some(v == Some(true)))
            .collect()),
        data_type if data_type.is_numeric() => {
            let zero = cast(
                &arrow::array::Int64Array::new_scalar(0).into_inner(),
                data_type,
            )?;
            let mask = neq(&values, &arrow::array::Scalar::new(zero))?;
            Ok(mask.iter().map(|v| Some(v == Some(true))).collect())
        }
        _ => {
            let text = cast(&values, &DataType::Utf8)?;
            texts(column, text.as_string())
        }
    }
}

fn texts(column: &str, values: &StringArray) -> Result<BooleanArray> {
    let mut odd: Vec<String> = Vec::new();
    let mask = values
        .iter()
        .map(|value| match value.map(str::to_lowercase).as_deref() {
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            _ => {
                let shown =
                    value.map_or_else(|| "a missing value".to_owned(), |v| format!("'{v}'"));
                if odd.len() < 10 && !odd.contains(&shown) {
                    odd.push(shown);
                }
                Some(false)
            }
        })
        .collect();
    if odd.is_empty() {
        return Ok(mask);
    }
    Err(Error::option(
        "--obs-column",
        format!(
            "{column} has values that are neither true, false, 1 nor 0: {}",
            odd.join(", ")
        ),
    ))
}

/// The positions at which a mask is true, counted from `start`.
pub(super) fn positions(mask: &BooleanArray, start: u64) -> RowSelection {
    let ranges = mask
        .values()
        .set_slices()
        .map(|(lo, hi)| start + lo as u64..start + hi as u64);
    RowSelection::from_ranges(ranges)
}

/// The cells for which an obs column is true, see [`truthy`]; read in blocks.
pub(super) async fn truthy_cells(object: &AnnData, column: &str) -> Result<RowSelection> {
    let reader = obs_column("--obs-column", object, column)?;
    let metrics = ReadMetrics::default();
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < reader.len() {
        let end = reader.len().min(start + BLOCK);
        let values = reader
            .read(&RowSelection::range(start..end), &metrics)
            .await?;
        let kept = positions(&truthy(column, &values)?, start);
        ranges.extend(kept.ranges().iter().cloned());
        start = end;
    }
    Ok(RowSelection::from_ranges(ranges))
}

/// The obs column of a name.
///
/// # Errors
/// [`Error::InvalidOption`] that suggests the nearest name.
pub(super) fn obs_column<'a>(
    option: &str,
    object: &'a AnnData,
    column: &str,
) -> Result<&'a Arc<dyn ColumnReader>> {
    let columns = object.obs().columns();
    if let Some(found) = columns.iter().find(|c| c.field().name() == column) {
        return Ok(found);
    }
    let names = columns.iter().map(|c| c.field().name().as_str());
    let of = object.location().to_string();
    Err(no_column(option, &of, names, column))
}

/// That the obs columns of something have other names than this, and which is the nearest.
pub(super) fn no_column<'a>(
    option: &str,
    of: &str,
    names: impl Iterator<Item = &'a str>,
    column: &str,
) -> Error {
    let wanted = column.to_lowercase();
    let near = names
        .map(|name| (strsim::jaro_winkler(&name.to_lowercase(), &wanted), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((_, name)) => format!("; did you mean '{name}'?"),
        None => String::new(),
    };
    Error::option(
        option,
        format!("obs of {of} has no column '{column}'{hint}"),
    )
}

/// All of `obs_names`.
pub(super) async fn obs_names(object: &AnnData) -> Result<StringArray> {
    let names = object
        .obs()
        .index()
        .read(&RowSelection::all(object.n_obs()), &ReadMetrics::default())
        .await?;
    Ok(names.as_string().clone())
}
