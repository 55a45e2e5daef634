//! Matrices that are stacked (`X`, layers, `raw/X`, arrays in `obsm`): their kind and type, and how
//! each object's rows come to stand on the merged columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};

use super::promote::result_type;
use super::spec::{FillValue, Join};
use crate::element::MatrixShape;
use crate::error::{Error, Result};
use crate::kernel::form::sparsify;
use crate::kernel::list;
use crate::kernel::reindex::ColumnMap;
use crate::model::{FieldMeta, MatrixKind, matrix_type, value_bytes};

/// A matrix of one object, as far as planning needs it.
#[derive(Debug, Clone)]
pub(super) struct InputMatrix {
    pub(super) kind: MatrixKind,
    /// Type of an item of a row: of a value, or of rows of further axes.
    pub(super) item: DataType,
    pub(super) n_cols: usize,
    /// Values stored of a row, on the average.
    pub(super) n_stored: u64,
}

impl InputMatrix {
    /// What a reader says of its matrix.
    pub(super) fn of(field: &Field, shape: &MatrixShape) -> Result<Self> {
        let strange = || {
            Error::IncompatibleSchemas(format!(
                "matrix '{}' of type {} cannot be merged",
                field.name(),
                field.data_type()
            ))
        };
        let (item, n_cols) = match field.data_type() {
            DataType::FixedSizeList(item, width) => {
                let width = usize::try_from(*width).map_err(|_| strange())?;
                (item.data_type().clone(), width)
            }
            DataType::List(entries) => match entries.data_type() {
                DataType::Struct(parts) if parts.len() == 2 => {
                    let width = usize::try_from(shape.n_cols).map_err(|_| strange())?;
                    (parts[1].data_type().clone(), width)
                }
                _ => return Err(strange()),
            },
            _ => return Err(strange()),
        };
        Ok(Self {
            kind: shape.kind,
            item,
            n_cols,
            n_stored: match shape.kind {
                MatrixKind::Sparse => shape.nnz.unwrap_or(0).div_ceil(shape.n_rows.max(1)),
                MatrixKind::Dense => n_cols as u64,
            },
        })
    }

    fn row_bytes(&self) -> u64 {
        row_bytes(self.kind, &self.item, self.n_stored)
    }
}

/// Bytes of a row of so many values.
fn row_bytes(kind: MatrixKind, item: &DataType, n_stored: u64) -> u64 {
    let index = match kind {
        MatrixKind::Sparse => size_of::<i32>() as u64,
        MatrixKind::Dense => 0,
    };
    n_stored.saturating_mul(value_bytes(item) + index)
}

/// A stacked matrix.
#[derive(Debug, Clone)]
pub(super) struct MergedMatrix {
    pub(super) field: FieldRef,
    kind: MatrixKind,
    item: DataType,
    n_cols: usize,
    /// One value for columns and rows that are new; [`None`] where that is nothing (sparse), or
    /// where there are none.
    fill: Option<ArrayRef>,
    /// Per object: where its columns go, [`None`] where it does not have the matrix.
    pub(super) parts: Vec<Option<Arc<ColumnMap>>>,
    /// Whether the entries stored are just those of the objects.
    pub(super) keeps_entries: bool,
    /// Per object: bytes of a row, before and after, by estimate.
    row_bytes: Vec<(u64, u64)>,
}

/// What several objects' matrices become.
#[derive(Debug, Clone)]
pub(super) struct Stacking<'a> {
    /// The column of cells.
    pub(super) name: &'a str,
    /// Where the objects' columns go, for objects that have the matrix and others.
    pub(super) maps: &'a [Arc<ColumnMap>],
    pub(super) join: Join,
    pub(super) fill: Option<FillValue>,
    /// The genes, where the columns are genes.
    pub(super) axis: Option<&'a str>,
}

impl Stacking<'_> {
    /// Stacks matrices, by the rules of `anndata.concat`: sparse if one is; filled with 0 or NaN
    /// unless told otherwise; in the type that holds all blocks.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where there is no such type, or text would have to be filled.
    pub(super) fn of(&self, inputs: &[Option<InputMatrix>]) -> Result<MergedMatrix> {
        let present = || inputs.iter().flatten();
        let kind = match present().any(|matrix| matrix.kind == MatrixKind::Sparse) {
            true => MatrixKind::Sparse,
            false => MatrixKind::Dense,
        };
        let fill = self.fill.unwrap_or(match kind {
            MatrixKind::Sparse => FillValue::Int(0),
            MatrixKind::Dense => FillValue::Float(f64::NAN),
        });
        let n_cols = self.maps.first().map_or(0, |map| map.n_new());
        let blocks = inputs.iter().zip(self.maps);
        let blocks: Vec<DataType> = blocks
            .map(|(matrix, map)| self.block(matrix.as_ref(), map, kind, fill))
            .collect();
        let item = self.common(inputs, &blocks)?;
        let needs_fill = inputs
            .iter()
            .zip(self.maps)
            .any(|(matrix, map)| map.has_empty() || (matrix.is_none() && n_cols > 0));
        let fill = match needs_fill && self.join == Join::Outer {
            true if kind == MatrixKind::Sparse && fill.is_zero() => None,
            // A cast would make the text "NaN" of it.
            true if result_type([&item]).is_none() => return Err(self.not_filled(&item)),
            true => Some(fill.array(&item).map_err(|_| self.not_filled(&item))?),
            false => None,
        };
        let parts = inputs.iter().zip(self.maps);
        let parts: Vec<Option<Arc<ColumnMap>>> = parts
            .map(|(matrix, map)| matrix.as_ref().map(|_| Arc::clone(map)))
            .collect();
        let keeps_entries = kind == MatrixKind::Sparse
            && fill.is_none()
            && present().all(|matrix| matrix.kind == MatrixKind::Sparse)
            && parts.iter().flatten().all(|map| map.is_complete());
        let stored = |matrix: Option<&InputMatrix>, map: &ColumnMap| match (kind, matrix) {
            (MatrixKind::Dense, _) => n_cols as u64,
            (MatrixKind::Sparse, Some(matrix)) if fill.is_none() => matrix.n_stored,
            (MatrixKind::Sparse, None) if fill.is_none() => 0,
            (MatrixKind::Sparse, Some(matrix)) => {
                matrix.n_stored + (map.n_new() - map.n_kept()) as u64
            }
            (MatrixKind::Sparse, None) => n_cols as u64,
        };
        let bytes = inputs.iter().zip(self.maps).map(|(matrix, map)| {
            let before = matrix.as_ref().map_or(0, InputMatrix::row_bytes);
            let after = row_bytes(kind, &item, stored(matrix.as_ref(), map));
            (before, after)
        });
        let row_bytes = bytes.collect();
        Ok(MergedMatrix {
            field: Arc::new(self.field(kind, &item, n_cols)?),
            kind,
            item,
            n_cols,
            fill,
            parts,
            keeps_entries,
            row_bytes,
        })
    }

    /// The type of an object's block, as numpy and scipy have it once it stands on the merged axis.
    fn block(
        &self,
        matrix: Option<&InputMatrix>,
        map: &ColumnMap,
        kind: MatrixKind,
        fill: FillValue,
    ) -> DataType {
        let filled = match (kind, fill.is_zero()) {
            (MatrixKind::Sparse, true) => DataType::Float64,
            _ => fill.data_type(),
        };
        let Some(matrix) = matrix else {
            // What is missing is made of a block without columns.
            return match map.n_new() {
                0 => DataType::Boolean,
                _ => filled,
            };
        };
        if map.is_identity() {
            return matrix.item.clone();
        }
        if matrix.n_cols == 0 {
            return filled;
        }
        let is_filled = map.has_empty() && (kind == MatrixKind::Dense || !fill.is_zero());
        match is_filled {
            true => result_type([&matrix.item, &fill.data_type()])
                .unwrap_or_else(|| matrix.item.clone()),
            false => matrix.item.clone(),
        }
    }

    fn common(&self, inputs: &[Option<InputMatrix>], blocks: &[DataType]) -> Result<DataType> {
        let present: Vec<&DataType> = inputs.iter().flatten().map(|m| &m.item).collect();
        let same = |types: &[&DataType]| types.windows(2).all(|pair| pair[0] == pair[1]);
        match present.first() {
            // Text, and arrays of more than two axes.
            Some(first) if result_type([*first]).is_none() && same(&present) => {
                Ok((*first).clone())
            }
            _ => result_type(blocks).ok_or_else(|| {
                let names: Vec<String> = present.iter().map(|t| t.to_string()).collect();
                Error::IncompatibleSchemas(format!(
                    "{}: arrays of {} have no type in common",
                    self.name,
                    names.join(" and ")
                ))
            }),
        }
    }

    fn field(&self, kind: MatrixKind, item: &DataType, n_cols: usize) -> Result<Field> {
        let too_wide = |_| Error::NotImplemented(format!("{}: {n_cols} columns", self.name));
        let (data_type, encoding) = match kind {
            MatrixKind::Sparse => {
                i32::try_from(n_cols).map_err(too_wide)?;
                (matrix_type(item.clone(), DataType::Int32), "csr_matrix")
            }
            MatrixKind::Dense => {
                let width = i32::try_from(n_cols).map_err(too_wide)?;
                let encoding = if item.is_string() {
                    "string-array"
                } else {
                    "array"
                };
                let item = Arc::new(Field::new("item", item.clone(), false));
                (DataType::FixedSizeList(item, width), encoding)
            }
        };
        let meta = FieldMeta {
            axis: self.axis.map(str::to_owned),
            encoding: Some(encoding.to_owned()),
            width: Some(n_cols as u64),
            ..FieldMeta::default()
        };
        Ok(meta.apply(Field::new(self.name, data_type, false)))
    }

    fn not_filled(&self, item: &DataType) -> Error {
        Error::IncompatibleSchemas(format!(
            "{}: not all objects have all of it, and nothing of type {item} can stand for what is \
             missing; an inner join has no need to",
            self.name
        ))
    }
}

impl MergedMatrix {
    /// Kind, type of an item, and what fills.
    pub(super) fn values(&self) -> (MatrixKind, &DataType, Option<&ArrayRef>) {
        (self.kind, &self.item, self.fill.as_ref())
    }

    /// Bytes of a row of an object, once it is one of the merged matrix.
    pub(super) fn row_bytes(&self, object: usize) -> u64 {
        self.row_bytes.get(object).map_or(0, |(_, after)| *after)
    }

    /// The same where they are far more than the object's own, by which batches are cut before.
    pub(super) fn widened_bytes(&self, object: usize) -> Option<u64> {
        let (before, after) = self.row_bytes.get(object)?;
        (before.saturating_mul(2) < *after).then_some(*after)
    }

    /// An object's rows as rows of the merged matrix.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where rows are not what the plan says.
    pub(super) fn rows(&self, map: &ColumnMap, rows: &ArrayRef) -> Result<ArrayRef> {
        match (
            self.kind,
            rows.as_list_opt::<i32>(),
            rows.as_fixed_size_list_opt(),
        ) {
            (MatrixKind::Sparse, Some(rows), _) => Ok(Arc::new(map.sparse(
                rows,
                &self.item,
                self.fill.as_ref(),
            )?)),
            (MatrixKind::Sparse, _, Some(rows)) => {
                let rows = sparsify(rows)?;
                Ok(Arc::new(map.sparse(
                    &rows,
                    &self.item,
                    self.fill.as_ref(),
                )?))
            }
            (MatrixKind::Dense, _, Some(rows)) => {
                Ok(Arc::new(map.dense(rows, &self.item, self.fill.as_ref())?))
            }
            _ => Err(Error::IncompatibleSchemas(format!(
                "{}: rows of type {} where the plan has others",
                self.field.name(),
                rows.data_type()
            ))),
        }
    }

    /// `n` rows of an object that does not have the matrix.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where there would be too many values.
    pub(super) fn missing(&self, n: usize) -> Result<ArrayRef> {
        let values = |len: usize| -> Result<ArrayRef> {
            match &self.fill {
                Some(fill) => Ok(take(fill, &UInt32Array::from(vec![0; len]), None)?),
                None => Ok(arrow::array::new_empty_array(&self.item)),
            }
        };
        if self.kind == MatrixKind::Dense {
            let width = i32::try_from(self.n_cols).map_err(|_| self.too_many())?;
            let item = Arc::new(Field::new("item", self.item.clone(), false));
            let values = values(n * self.n_cols)?;
            let rows = FixedSizeListArray::try_new_with_length(item, width, values, None, n)?;
            return Ok(Arc::new(rows));
        }
        let rows: ListArray = match &self.fill {
            None => {
                let offsets = OffsetBuffer::new_zeroed(n);
                list(
                    offsets,
                    Arc::new(Int32Array::from(Vec::<i32>::new())),
                    values(0)?,
                )?
            }
            Some(_) => {
                let width = i32::try_from(self.n_cols).map_err(|_| self.too_many())?;
                let ends: Option<Vec<i32>> = (0..=n)
                    .map(|row| i32::try_from(row).ok()?.checked_mul(width))
                    .collect();
                let ends = ends.ok_or_else(|| self.too_many())?;
                let indices: Vec<i32> = (0..n).flat_map(|_| 0..width).collect();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                list(
                    offsets,
                    Arc::new(Int32Array::from(indices)),
                    values(n * self.n_cols)?,
                )?
            }
        };
        Ok(Arc::new(rows))
    }

    fn too_many(&self) -> Error {
        Error::IncompatibleSchemas(format!(
            "{}: a batch of rows is too large",
            self.field.name()
        ))
    }
}

#[cfg(test)]
mod tests {
    use DataType::{Float32, Float64, Int32, Int64};

    use super::*;

    fn matrix(kind: MatrixKind, item: DataType, n_cols: usize) -> Option<InputMatrix> {
        Some(InputMatrix {
            kind,
            item,
            n_cols,
            n_stored: n_cols as u64,
        })
    }

    fn stacked(
        inputs: &[Option<InputMatrix>],
        n_cols: usize,
        fill: Option<FillValue>,
    ) -> Result<MergedMatrix> {
        let width = |m: &Option<InputMatrix>| m.as_ref().map_or(0, |m| m.n_cols);
        let maps: Vec<_> = inputs
            .iter()
            .map(|m| Arc::new(ColumnMap::resized(width(m), n_cols).unwrap()))
            .collect();
        let stacking = Stacking {
            name: "X",
            maps: &maps,
            join: Join::Outer,
            fill,
            axis: None,
        };
        stacking.of(inputs)
    }

    #[test]
    fn types_are_those_of_the_blocks_as_numpy_has_them() {
        use MatrixKind::{Dense, Sparse};
        let zero = Some(FillValue::Int(0));
        let of = |inputs: &[Option<InputMatrix>], fill| stacked(inputs, 2, fill).unwrap().item;
        let (small, wide) = (
            |kind| matrix(kind, Float32, 1),
            |kind| matrix(kind, Float32, 2),
        );
        assert_eq!(of(&[wide(Sparse), small(Sparse)], None), Float32);
        assert_eq!(
            of(&[wide(Sparse), small(Sparse)], Some(FillValue::Int(5))),
            Float64
        );
        assert_eq!(of(&[wide(Dense), small(Dense)], None), Float64);
        assert_eq!(of(&[wide(Dense), small(Dense)], zero), Float64);
        assert_eq!(of(&[wide(Dense), wide(Dense)], None), Float32);
        assert_eq!(of(&[matrix(Dense, Int32, 2), small(Sparse)], None), Float64);
        assert_eq!(of(&[wide(Sparse), None], None), Float64);
        let counts = matrix(Dense, Int32, 1);
        assert_eq!(of(&[counts.clone(), counts], zero), Int64);
    }

    #[test]
    fn entries_are_known_where_nothing_is_dropped_or_filled() {
        use MatrixKind::{Dense, Sparse};
        let keeps =
            |inputs: &[Option<InputMatrix>]| stacked(inputs, 2, None).unwrap().keeps_entries;
        assert!(keeps(&[
            matrix(Sparse, Float32, 1),
            matrix(Sparse, Float32, 2),
            None
        ]));
        assert!(!keeps(&[
            matrix(Sparse, Float32, 3),
            matrix(Sparse, Float32, 2)
        ]));
        assert!(!keeps(&[
            matrix(Sparse, Float32, 2),
            matrix(Dense, Float32, 2)
        ]));
    }

    #[test]
    fn rows_that_grow_are_known_by_what_they_grow_to() {
        use MatrixKind::{Dense, Sparse};
        let rows = stacked(&[matrix(Dense, Float32, 1_000), None], 1_000, None).unwrap();
        assert_eq!(rows.row_bytes(1), 8_000);
        assert_eq!([0, 1].map(|at| rows.widened_bytes(at)), [None, Some(8_000)]);
        let rows = stacked(&[matrix(Sparse, Float32, 10), None], 10, None).unwrap();
        assert_eq!([0, 1].map(|at| rows.widened_bytes(at)), [None, None]);
        let five = Some(FillValue::Int(5));
        let rows = stacked(&[matrix(Sparse, Float32, 10), None], 10, five).unwrap();
        assert_eq!(rows.widened_bytes(1), Some(120));
    }

    #[test]
    fn text_is_not_filled() {
        let inputs = [matrix(MatrixKind::Dense, DataType::Utf8, 1), None];
        assert!(stacked(&inputs, 1, None).is_err());
        assert!(stacked(&inputs[..1], 1, None).is_ok());
    }

    #[test]
    fn missing_rows_are_empty_or_full() {
        let inputs = [matrix(MatrixKind::Sparse, Float32, 2), None];
        let rows = stacked(&inputs, 2, None).unwrap().missing(3).unwrap();
        assert_eq!(rows.as_list::<i32>().value_offsets(), [0, 0, 0, 0]);
        let five = Some(FillValue::Int(5));
        let rows = stacked(&inputs, 2, five).unwrap().missing(3).unwrap();
        assert_eq!(rows.as_list::<i32>().value_offsets(), [0, 2, 4, 6]);
        let inputs = [matrix(MatrixKind::Dense, Float32, 2), None];
        let rows = stacked(&inputs, 2, None).unwrap().missing(3).unwrap();
        assert_eq!(rows.len(), 3);
    }
}
