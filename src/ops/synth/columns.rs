//! Cells as Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array, Float64Array,
    Int32Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};

use super::cells::{COMPONENTS, Cells, DONORS, DONORS_PER_BATCH, to_i32};
use super::names;
use crate::error::Result;
use crate::model::{CategoryRegistry, FieldMeta, matrix_type};

/// The fields of an object's cells, and the category sets they share.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) obs: Vec<FieldRef>,
    pub(super) x: FieldRef,
    pub(super) pca: FieldRef,
    cell_types: ArrayRef,
    batches: ArrayRef,
    donors: ArrayRef,
    ages: Vec<Option<i32>>,
}

impl Columns {
    pub(super) fn new(cell_types: usize, n_vars: usize) -> Self {
        let names = |n: usize, name: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..n).map(name)))
        };
        let cell_types = names(cell_types, &names::cell_type);
        let batches = names(DONORS / DONORS_PER_BATCH, &|k| format!("batch_{k}"));
        let donors = names(DONORS, &|k| format!("donor_{k:02}"));
        // One donor kept their age to themselves, so that there is something missing.
        let ages = (0..DONORS)
            .map(|k| (k != DONORS - 1).then(|| 23 + 4 * to_i32(k)))
            .collect();
        let age = FieldMeta {
            encoding: Some("nullable-integer".into()),
            ..FieldMeta::default()
        };
        let x = FieldMeta {
            encoding: Some("csr_matrix".into()),
            width: u64::try_from(n_vars).ok(),
            indices: Some("int32".into()),
            ..FieldMeta::default()
        };
        let obs = vec![
            categorical("cell_type", &cell_types),
            categorical("batch", &batches),
            categorical("donor", &donors),
            age.apply(Field::new("donor_age", DataType::Int32, true)),
            Field::new("n_counts", DataType::Float32, false),
            Field::new("n_genes", DataType::Int32, false),
            Field::new("pct_mito", DataType::Float32, false),
            Field::new("S_score", DataType::Float64, false),
            Field::new("is_doublet", DataType::Boolean, false),
        ];
        Self {
            obs: obs.into_iter().map(Arc::new).collect(),
            x: Arc::new(x.apply(Field::new(
                "X",
                matrix_type(DataType::Float32, DataType::Int32),
                false,
            ))),
            pca: Arc::new(Field::new(
                "X_pca",
                DataType::FixedSizeList(component(), to_i32(COMPONENTS)),
                false,
            )),
            cell_types,
            batches,
            donors,
            ages,
        }
    }

    /// The obs columns of adjacent cells.
    pub(super) fn obs(&self, cells: &Cells) -> Result<Vec<ArrayRef>> {
        let per_batch = to_i32(DONORS_PER_BATCH);
        let donor = Int32Array::from(cells.donor.clone());
        let batch = donor.iter().map(|d| d.map(|d| d / per_batch)).collect();
        let age: Int32Array = cells
            .donor
            .iter()
            .map(|d| usize::try_from(*d).ok().and_then(|d| self.ages[d]))
            .collect();
        let cell_type = Int32Array::from(cells.cell_type.clone());
        Ok(vec![
            dictionary(cell_type, &self.cell_types)?,
            dictionary(batch, &self.batches)?,
            dictionary(donor, &self.donors)?,
            Arc::new(age),
            Arc::new(Float32Array::from(cells.n_counts.clone())),
            Arc::new(Int32Array::from(cells.n_genes.clone())),
            Arc::new(Float32Array::from(cells.pct_mito.clone())),
            Arc::new(Float64Array::from(cells.s_score.clone())),
            Arc::new(BooleanArray::from(cells.is_doublet.clone())),
        ])
    }
}

/// The rows of X; takes the entries.
pub(super) fn x(cells: &mut Cells) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(cells.lengths.iter().copied());
    let indices = Int32Array::from(std::mem::take(&mut cells.indices));
    let data = Float32Array::from(std::mem::take(&mut cells.data));
    let DataType::List(item) = matrix_type(DataType::Float32, DataType::Int32) else {
        return Err(crate::Error::IncompatibleSchemas(
            "a matrix is not a list".into(),
        ));
    };
    let DataType::Struct(fields) = item.data_type().clone() else {
        return Err(crate::Error::IncompatibleSchemas(
            "a matrix's entries are not structs".into(),
        ));
    };
    let entries = StructArray::try_new(fields, vec![Arc::new(indices), Arc::new(data)], None)?;
    Ok(Arc::new(ListArray::try_new(
        item,
        offsets,
        Arc::new(entries),
        None,
    )?))
}

/// The rows of `X_pca`; takes the values.
pub(super) fn pca(cells: &mut Cells) -> Result<ArrayRef> {
    let values = Float32Array::from(std::mem::take(&mut cells.pca));
    Ok(Arc::new(FixedSizeListArray::try_new(
        component(),
        to_i32(COMPONENTS),
        Arc::new(values),
        None,
    )?))
}

fn component() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, false))
}

fn categorical(name: &str, categories: &ArrayRef) -> Field {
    let meta = FieldMeta {
        encoding: Some("categorical".into()),
        ordered: Some(false),
        categories: Some(CategoryRegistry::global().register(categories)),
        ..FieldMeta::default()
    };
    let data_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    meta.apply(Field::new(name, data_type, false))
}

fn dictionary(codes: Int32Array, categories: &ArrayRef) -> Result<ArrayRef> {
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        codes,
        Arc::clone(categories),
    )?))
}
