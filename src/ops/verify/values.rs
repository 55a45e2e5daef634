//! Where two arrays of equal length and like type differ.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::{cast, sort_to_indices, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::Result;
use crate::model::MatrixKind;

/// The first row that differs, how many do, and both values of the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) row: u64,
    pub(super) rows: u64,
    pub(super) text: String,
}

/// Whether values of these types can be equal: indices of matrices may be of any width.
pub(super) fn same_type(a: &DataType, b: &DataType) -> bool {
    if a == b {
        return true;
    }
    match (a, b) {
        (DataType::List(left), DataType::List(right)) => {
            match (
                MatrixKind::of(a),
                MatrixKind::of(b),
                left.data_type(),
                right.data_type(),
            ) {
                (
                    Some(MatrixKind::Sparse),
                    Some(MatrixKind::Sparse),
                    DataType::Struct(left),
                    DataType::Struct(right),
                ) => left[1].data_type() == right[1].data_type(),
                _ => false,
            }
        }
        (DataType::Struct(left), DataType::Struct(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| {
                    left.name() == right.name() && same_type(left.data_type(), right.data_type())
                })
        }
        (DataType::FixedSizeList(left, n), DataType::FixedSizeList(right, m)) => {
            n == m && same_type(left.data_type(), right.data_type())
        }
        (DataType::Dictionary(_, left), DataType::Dictionary(_, right)) => left == right,
        _ => false,
    }
}

/// Compares two arrays row by row, where they are not equal as a whole.
pub(super) fn first_difference(a: &ArrayRef, b: &ArrayRef) -> Result<Option<Difference>> {
    if a.data_type() == b.data_type() && a.to_data() == b.to_data() {
        return Ok(None);
    }
    let sparse = MatrixKind::of(a.data_type()) == Some(MatrixKind::Sparse);
    let mut found: Option<Difference> = None;
    for row in 0..a.len() {
        let text = if sparse {
            sparse_row(a, b, row)?
        } else {
            let (left, right) = (a.slice(row, 1), b.slice(row, 1));
            (left.to_data() != right.to_data()).then(|| plain_row(&left, &right))
        };
        if let Some(text) = text {
            match &mut found {
                Some(found) => found.rows += 1,
                None => {
                    found = Some(Difference {
                        row: u64::try_from(row).unwrap_or(u64::MAX),
                        rows: 1,
                        text,
                    });
                }
            }
        }
    }
    Ok(found)
}

fn plain_row(a: &ArrayRef, b: &ArrayRef) -> String {
    if let (Some(left), Some(right)) = (a.as_fixed_size_list_opt(), b.as_fixed_size_list_opt()) {
        let (left, right) = (left.value(0), right.value(0));
        for i in 0..left.len().min(right.len()) {
            let (x, y) = (left.slice(i, 1), right.slice(i, 1));
            if x.to_data() != y.to_data() {
                return format!("column {i}: {} here, {} there", show(&x, 0), show(&y, 0));
            }
        }
    }
    if let (Some(left), Some(right)) = (a.as_struct_opt(), b.as_struct_opt()) {
        for ((field, x), y) in left
            .fields()
            .iter()
            .zip(left.columns())
            .zip(right.columns())
        {
            if x.to_data() != y.to_data() {
                return format!(
                    "{}: {} here, {} there",
                    field.name(),
                    show(x, 0),
                    show(y, 0)
                );
            }
        }
    }
    format!("{} here, {} there", show(a, 0), show(b, 0))
}

/// The first entry in which two sparse rows differ, whatever the order of their entries.
fn sparse_row(a: &ArrayRef, b: &ArrayRef, row: usize) -> Result<Option<String>> {
    let (left, right) = (a.as_list::<i32>().value(row), b.as_list::<i32>().value(row));
    if left.data_type() == right.data_type() && left.to_data() == right.to_data() {
        return Ok(None);
    }
    let ((i, x), (j, y)) = (sorted(left.as_struct())?, sorted(right.as_struct())?);
    let (i, j) = (i.as_primitive::<Int64Type>(), j.as_primitive::<Int64Type>());
    for k in 0..i.len().max(j.len()) {
        let (at_a, at_b) = (
            (k < i.len()).then(|| i.value(k)),
            (k < j.len()).then(|| j.value(k)),
        );
        match (at_a, at_b) {
            (Some(p), Some(q)) if p == q => {
                let equal = x.slice(k, 1).to_data() == y.slice(k, 1).to_data();
                if equal {
                    continue;
                }
                let (x, y) = (show(&x, k), show(&y, k));
                return Ok(Some(format!("column {p}: {x} here, {y} there")));
            }
            (Some(p), q) if q.is_none_or(|q| p < q) => {
                let x = show(&x, k);
                return Ok(Some(format!("column {p}: {x} here, nothing stored there")));
            }
            (_, Some(q)) => {
                let y = show(&y, k);
                return Ok(Some(format!("column {q}: nothing stored here, {y} there")));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A row's indices as Int64 and its data, by index.
fn sorted(entries: &StructArray) -> Result<(ArrayRef, ArrayRef)> {
    let indices = cast(entries.column(0), &DataType::Int64)?;
    let order = sort_to_indices(&indices, None, None)?;
    Ok((
        take(&indices, &order, None)?,
        take(entries.column(1), &order, None)?,
    ))
}

fn show(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::new().with_null("null");
    ArrayFormatter::try_new(array, &options)
        .and_then(|formatter| formatter.value(row).try_to_string())
        .map_or_else(|error| error.to_string(), |text| shorten(&text, 60))
}

/// At most so many characters.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let flat = text.replace('\n', " ");
    if flat.chars().count() <= most {
        return flat;
    }
    let mut short: String = flat.chars().take(most).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, ListArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    fn matrix(indices: Vec<i32>, data: Vec<f64>, lengths: &[usize]) -> ArrayRef {
        let entries = StructArray::from(vec![
            (
                Arc::new(Field::new("indices", DataType::Int32, false)),
                Arc::new(Int32Array::from(indices)) as ArrayRef,
            ),
            (
                Arc::new(Field::new("data", DataType::Float64, false)),
                Arc::new(Float64Array::from(data)) as ArrayRef,
            ),
        ]);
        let item = Arc::new(Field::new("item", entries.data_type().clone(), false));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::new(item, offsets, Arc::new(entries), None))
    }

    #[test]
    fn the_order_of_entries_is_no_difference() {
        let a = matrix(vec![0, 2, 1], vec![1.0, 2.0, 3.0], &[2, 1]);
        let b = matrix(vec![2, 0, 1], vec![2.0, 1.0, 3.0], &[2, 1]);
        assert_eq!(first_difference(&a, &b).unwrap(), None);
    }

    #[test]
    fn a_difference_says_where() {
        let a = matrix(vec![0, 2, 1], vec![1.0, 2.0, 3.0], &[2, 1]);
        let b = matrix(vec![0, 2, 1], vec![1.0, 2.5, 3.0], &[2, 1]);
        let found = first_difference(&a, &b).unwrap().unwrap();
        assert_eq!((found.row, found.rows), (0, 1));
        assert_eq!(found.text, "column 2: 2.0 here, 2.5 there");
        let c = matrix(vec![0, 2], vec![1.0, 2.0], &[2, 0]);
        let found = first_difference(&a, &c).unwrap().unwrap();
        assert_eq!(found.row, 1);
        assert_eq!(found.text, "column 1: 3.0 here, nothing stored there");
    }
}
