use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Float32Array, Int32Array, UInt16Array, UInt32Array};
use arrow::datatypes::{Float32Type, Int32Type};
use async_trait::async_trait;

use crate::model::{DType, ElementKey};
use crate::store::{ArrayInfo, ArrayReader};

use super::*;

/// An array in memory.
#[derive(Debug)]
struct Held(ArrayInfo, ArrayRef);

#[async_trait]
impl ArrayReader for Held {
    fn info(&self) -> &ArrayInfo {
        &self.0
    }

    async fn read(&self, rows: &RowSelection, _metrics: &ReadMetrics) -> Result<ArrayRef> {
        let rows: UInt32Array = rows.iter().map(|row| u32::try_from(row).unwrap()).collect();
        Ok(arrow::compute::take(&self.1, &rows, None)?)
    }
}

fn held(array: ArrayRef) -> Arc<dyn ArrayReader> {
    let info = ArrayInfo {
        key: ElementKey::new("X/array"),
        dtype: DType::from_arrow(array.data_type()).unwrap(),
        shape: vec![u64_of(array.len())],
        null: false,
        chunk_shape: None,
        filters: Vec::new(),
        fixed_text: false,
        stored_bytes: None,
    };
    Arc::new(Held(info, array))
}

/// A matrix by column in which (row, column) is stored where the product says so.
fn matrix(n_rows: i32, n_cols: i32, booleans: bool) -> (Compressed, Vec<(i32, i32)>) {
    let stored = |row: i32, col: i32| (row * 7 + col * 13) % 5 < 2 && row % 4 != 3;
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for col in 0..n_cols {
        // Rows of a column are stored in descending order: the order on disk is free.
        indices.extend((0..n_rows).rev().filter(|row| stored(*row, col)));
        indptr.push(i32::try_from(indices.len()).unwrap());
    }
    let cells = |row| (0..n_cols).map(move |col| (row, col));
    let cells = (0..n_rows)
        .flat_map(cells)
        .filter(|(r, c)| stored(*r, *c))
        .collect();
    let data: ArrayRef = match booleans {
        true => Arc::new(
            indices
                .iter()
                .map(|i| Some(i % 2 == 0))
                .collect::<BooleanArray>(),
        ),
        false => Arc::new(
            indices
                .iter()
                .map(|i| f32::from(u16::try_from(*i).unwrap()))
                .collect::<Float32Array>(),
        ),
    };
    let indices: UInt16Array = indices.iter().map(|i| u16::try_from(*i).unwrap()).collect();
    let arrays = [
        Arc::new(Int32Array::from(indptr)) as ArrayRef,
        Arc::new(indices),
        data,
    ];
    let shape = [n_rows, n_cols].map(|n| u64::try_from(n).unwrap());
    (Compressed::for_test(shape, arrays.map(held)), cells)
}

#[tokio::test]
async fn rows_come_out_in_order_whatever_is_held_at_once() {
    let in_memory = Limits::default();
    let in_file = Limits {
        in_memory: 0,
        bucket: 600,
        block: 37,
    };
    let both = EntryParts {
        indices: true,
        data: true,
    };
    for limits in [in_memory, in_file] {
        let (matrix, cells) = matrix(50, 20, false);
        let built = Transposed::build(&matrix, &ReadMetrics::default(), limits)
            .await
            .unwrap();
        let rows = RowSelection::from_ranges([3..9, 20..21, 30..50]);
        let (offsets, entries) = built.spans(&rows).unwrap();
        let (columns, values) = built.read(&entries, both).unwrap();
        let expected = cells
            .iter()
            .filter(|(row, _)| (3..9).contains(row) || *row == 20 || *row >= 30);
        let found = columns
            .as_ref()
            .unwrap()
            .as_primitive::<Int32Type>()
            .values()
            .iter();
        let found: Vec<_> = found
            .zip(
                values
                    .as_ref()
                    .unwrap()
                    .as_primitive::<Float32Type>()
                    .values(),
            )
            .collect();
        assert_eq!(*offsets.last().unwrap(), u64_of(found.len()));
        let expected: Vec<_> = expected.map(|(row, col)| (*col, *row as f32)).collect();
        let found: Vec<_> = found.into_iter().map(|(c, v)| (*c, *v)).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn booleans_are_moved_too() {
    let limits = Limits {
        in_memory: 0,
        bucket: 100,
        block: 11,
    };
    let (matrix, cells) = matrix(12, 9, true);
    let built = Transposed::build(&matrix, &ReadMetrics::default(), limits)
        .await
        .unwrap();
    let (_, entries) = built.spans(&RowSelection::all(12)).unwrap();
    let only = EntryParts {
        indices: false,
        data: true,
    };
    let (_, values) = built.read(&entries, only).unwrap();
    let found: Vec<_> = values.unwrap().as_boolean().values().iter().collect();
    let expected: Vec<_> = cells.iter().map(|(row, _)| row % 2 == 0).collect();
    assert_eq!(found, expected);
}
