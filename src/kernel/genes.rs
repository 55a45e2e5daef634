//! Matrix rows restricted to some of their genes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, ListArray, PrimitiveArray,
    StructArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef, Int32Type, Int64Type};

use crate::error::{Error, Result};

/// Genes to keep: where each gene of the full axis goes, and where each kept gene comes from.
#[derive(Debug)]
pub(crate) struct GeneSelection {
    /// New position by old position, -1 where the gene is dropped.
    places: Vec<i64>,
    /// Old position by new position.
    positions: Vec<u64>,
    /// Whether the positions ascend, so that selected rows stay sorted.
    ascending: bool,
}

impl GeneSelection {
    /// The genes at `positions` of an axis of `n_genes`, in that order.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if a position is not below `n_genes` or is named twice.
    pub(crate) fn try_new(positions: &[u64], n_genes: u64) -> Result<Self> {
        let len = usize::try_from(n_genes).map_err(|_| too_large())?;
        let mut places = vec![-1i64; len];
        for (new, old) in positions.iter().enumerate() {
            let place = usize::try_from(*old)
                .ok()
                .and_then(|old| places.get_mut(old));
            match place {
                Some(place) if *place < 0 => {
                    *place = i64::try_from(new).map_err(|_| too_large())?
                }
                Some(_) => {
                    return Err(Error::option(
                        "genes",
                        format!("position {old} is named twice"),
                    ));
                }
                None => {
                    return Err(Error::option(
                        "genes",
                        format!("position {old} is not below {n_genes}"),
                    ));
                }
            }
        }
        Ok(Self {
            places,
            ascending: positions.windows(2).all(|pair| pair[0] < pair[1]),
            positions: positions.to_vec(),
        })
    }

    /// How many genes stay.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Old positions of the genes that stay, in their new order.
    pub(crate) fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// The rows with only the selected genes, re-indexed; `field` is the result's.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] if the column is no matrix or an index lies off the axis.
    pub(crate) fn select(&self, rows: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
        match rows.data_type() {
            DataType::List(_) => self.select_sparse(rows.as_list::<i32>(), field),
            DataType::FixedSizeList(_, _) => self.select_dense(rows.as_fixed_size_list(), field),
            other => Err(Error::IncompatibleSchemas(format!(
                "genes cannot be selected from a column of type {other}"
            ))),
        }
    }

    fn select_sparse(&self, rows: &ListArray, field: &FieldRef) -> Result<ArrayRef> {
        let DataType::List(item) = field.data_type() else {
            return Err(Error::IncompatibleSchemas(
                "sparse rows are no list".to_owned(),
            ));
        };
        let entries = rows.values().as_struct();
        let (kept, new_indices, offsets) = match entries.column(0).data_type() {
            DataType::Int32 => self.keep::<Int32Type>(rows, entries)?,
            _ => self.keep::<Int64Type>(rows, entries)?,
        };
        let data = take(entries.column(1), &kept, None)?;
        let DataType::Struct(fields) = item.data_type() else {
            return Err(Error::IncompatibleSchemas(
                "sparse rows hold no entries".to_owned(),
            ));
        };
        let entries = StructArray::try_new(fields.clone(), vec![new_indices, data], None)?;
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::new(offsets.into()),
            Arc::new(entries),
            rows.nulls().cloned(),
        )?))
    }

    /// Places of kept entries, their new indices, and the offsets of the rows they make up.
    fn keep<T>(
        &self,
        rows: &ListArray,
        entries: &StructArray,
    ) -> Result<(UInt64Array, ArrayRef, Vec<i32>)>
    where
        T: ArrowPrimitiveType,
        T::Native: TryInto<usize> + TryFrom<i64>,
    {
        let indices = entries.column(0).as_primitive::<T>().values();
        let mut kept: Vec<(i64, u64)> = Vec::new();
        let mut offsets = vec![0i32];
        for pair in rows.value_offsets().windows(2) {
            let start = kept.len();
            let (lo, hi) = (usize_of(pair[0])?, usize_of(pair[1])?);
            for (i, index) in indices[lo..hi].iter().enumerate() {
                let old: usize = (*index).try_into().map_err(|_| off_axis())?;
                let place = *self.places.get(old).ok_or_else(off_axis)?;
                if place >= 0 {
                    kept.push((place, (lo + i) as u64));
                }
            }
            if !self.ascending {
                kept[start..].sort_by_key(|(place, _)| *place);
            }
            offsets.push(i32::try_from(kept.len()).map_err(|_| too_large())?);
        }
        let indices = kept
            .iter()
            .map(|(place, _)| T::Native::try_from(*place).map_err(|_| too_large()))
            .collect::<Result<Vec<_>>>()?;
        let indices: ArrayRef = Arc::new(PrimitiveArray::<T>::from_iter_values(indices));
        let kept = UInt64Array::from_iter_values(kept.into_iter().map(|(_, from)| from));
        Ok((kept, indices, offsets))
    }

    fn select_dense(&self, rows: &FixedSizeListArray, field: &FieldRef) -> Result<ArrayRef> {
        let DataType::FixedSizeList(item, width) = field.data_type() else {
            return Err(Error::IncompatibleSchemas(
                "dense rows have no width".to_owned(),
            ));
        };
        let old_width = usize_of(rows.value_length())?;
        if old_width != self.places.len() {
            return Err(off_axis());
        }
        let positions = (0..rows.len()).flat_map(|row| {
            self.positions
                .iter()
                .map(move |p| (row * old_width) as u64 + p)
        });
        let values = take(
            rows.values(),
            &UInt64Array::from_iter_values(positions),
            None,
        )?;
        Ok(Arc::new(FixedSizeListArray::try_new_with_length(
            Arc::clone(item),
            *width,
            values,
            rows.nulls().cloned(),
            rows.len(),
        )?))
    }
}

fn usize_of(offset: i32) -> Result<usize> {
    usize::try_from(offset).map_err(|_| off_axis())
}

fn off_axis() -> Error {
    Error::IncompatibleSchemas("an index of a matrix row lies off the var axis".to_owned())
}

fn too_large() -> Error {
    Error::IncompatibleSchemas("a selection of genes is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Float32Type, Int32Type};

    use super::*;
    use crate::model::matrix_type;

    fn rows() -> (ArrayRef, FieldRef) {
        let field = Arc::new(Field::new(
            "X",
            matrix_type(DataType::Float32, DataType::Int32),
            false,
        ));
        let DataType::List(item) = field.data_type() else {
            panic!("a list")
        };
        let DataType::Struct(fields) = item.data_type() else {
            panic!("a struct")
        };
        let entries = StructArray::new(
            fields.clone(),
            vec![
                Arc::new(PrimitiveArray::<Int32Type>::from(vec![0, 2, 3, 1, 2])),
                Arc::new(PrimitiveArray::<Float32Type>::from(vec![
                    1.0, 2.0, 3.0, 4.0, 5.0,
                ])),
            ],
            None,
        );
        let offsets = OffsetBuffer::new(vec![0, 3, 3, 5].into());
        let rows = ListArray::new(Arc::clone(item), offsets, Arc::new(entries), None);
        (Arc::new(rows), field)
    }

    #[test]
    fn sparse_rows_are_reindexed_in_the_new_order() {
        let (rows, field) = rows();
        let genes = GeneSelection::try_new(&[2, 0], 4).unwrap();
        let selected = genes.select(&rows, &field).unwrap();
        let selected = selected.as_list::<i32>();
        assert_eq!(selected.value_offsets(), &[0, 2, 2, 3]);
        let entries = selected.values().as_struct();
        assert_eq!(
            entries.column(0).as_primitive::<Int32Type>().values(),
            &[0, 1, 0]
        );
        assert_eq!(
            entries.column(1).as_primitive::<Float32Type>().values(),
            &[2.0, 1.0, 5.0]
        );
    }

    #[test]
    fn positions_off_the_axis_or_named_twice_are_errors() {
        assert!(GeneSelection::try_new(&[4], 4).is_err());
        assert!(GeneSelection::try_new(&[1, 1], 4).is_err());
    }
}
