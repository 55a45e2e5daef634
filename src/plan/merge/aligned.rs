//! Elements of the other axis (`var`, `varm`, `varp` where cells are stacked): brought onto the
//! merged axis whole, then kept or dropped by the strategy.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int32Array, ListArray,
    StructArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat, interleave, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::promote::result_type;
use crate::element::ColumnReader;
use crate::error::{Error, Result};
use crate::kernel::numbers::{canonical, promote};
use crate::kernel::reindex::{ColumnMap, list};
use crate::model::{FieldMeta, MatrixKind, MergeStrategy, RowSelection};
use crate::store::ReadMetrics;

/// A column, or an array, that stands on the merged axis.
#[derive(Debug, Clone)]
pub(super) struct Aligned {
    pub(super) field: FieldRef,
    pub(super) values: ArrayRef,
}

/// An object's element, and where its rows go.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) reader: Arc<dyn ColumnReader>,
    pub(super) map: Arc<ColumnMap>,
    /// Whether its columns are on the axis too.
    pub(super) square: bool,
}

/// The element that the strategy keeps of those that some of `n` objects have.
///
/// # Errors
/// Where an element cannot be read, or cannot stand on another axis.
pub(super) async fn keep(
    candidates: &[Candidate],
    n: usize,
    strategy: Option<MergeStrategy>,
) -> Result<Option<Aligned>> {
    let Some(strategy) = strategy.filter(|s| s.may_keep(candidates.len(), n)) else {
        return Ok(None);
    };
    let Some((first, others)) = candidates.split_first() else {
        return Ok(None);
    };
    let first = first.read().await?;
    if strategy.compares() {
        for other in others {
            if !equal(&first, &other.read().await?)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(first))
}

impl Candidate {
    async fn read(&self) -> Result<Aligned> {
        let rows = RowSelection::all(self.reader.len());
        let values = self.reader.read(&rows, &ReadMetrics::default()).await?;
        let aligned = rows_on(&self.map, self.reader.field(), &values)?;
        match self.square {
            true => columns_on(&self.map, aligned),
            false => Ok(aligned),
        }
    }
}

/// Rows on the merged axis; where there is no row stands nothing: a missing value, a NaN, no entries.
///
/// Whole numbers and text become what can be missing, as pandas and numpy have it.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] for a type of which nothing can be missing.
pub(super) fn rows_on(map: &ColumnMap, field: &FieldRef, values: &ArrayRef) -> Result<Aligned> {
    if map.is_identity() {
        return Ok(Aligned {
            field: Arc::clone(field),
            values: Arc::clone(values),
        });
    }
    match (MatrixKind::of(field.data_type()), field.data_type()) {
        (Some(MatrixKind::Sparse), _) => sparse_rows(map, field, values),
        (Some(MatrixKind::Dense), _) => dense_rows(map, field, values),
        (None, DataType::Struct(members)) if members.first().is_some_and(|f| f.name() != "re") => {
            frame_rows(map, field, members, values)
        }
        _ => column(map, field, values),
    }
}

fn column(map: &ColumnMap, field: &FieldRef, values: &ArrayRef) -> Result<Aligned> {
    let sources = map.sources().into_iter().map(|at| at.map(|at| at as u64));
    let values = take(values, &UInt64Array::from_iter(sources), None)?;
    if !map.has_empty() {
        return Ok(Aligned {
            field: Arc::clone(field),
            values,
        });
    }
    let meta = FieldMeta::of(field);
    let nullable = meta.encoding.as_deref().is_some_and(|e| e.starts_with("nullable-"));
    let awkward = meta.form.is_some();
    let (data_type, encoding) = match field.data_type() {
        _ if awkward => return Err(never_missing(field)),
        DataType::Dictionary(_, _) => (field.data_type().clone(), meta.encoding.clone()),
        other if nullable => (other.clone(), meta.encoding.clone()),
        DataType::Boolean => (DataType::Boolean, Some("nullable-boolean".to_owned())),
        other if other.is_integer() => (DataType::Float64, Some("array".to_owned())),
        other if other.is_string() => (other.clone(), Some("nullable-string-array".to_owned())),
        other => (other.clone(), meta.encoding.clone()),
    };
    let na_value = match encoding.as_deref() {
        Some("nullable-string-array") => meta.na_value.clone().or_else(|| Some("NaN".to_owned())),
        _ => meta.na_value.clone(),
    };
    let meta = FieldMeta {
        encoding,
        na_value,
        ..meta
    };
    let values = match data_type == *field.data_type() {
        true => values,
        false => cast(&values, &data_type)?,
    };
    let field = meta.apply(Field::new(field.name(), data_type, true));
    Ok(Aligned {
        field: Arc::new(field),
        values,
    })
}

fn frame_rows(
    map: &ColumnMap,
    field: &FieldRef,
    members: &Fields,
    values: &ArrayRef,
) -> Result<Aligned> {
    let columns = members.iter().zip(values.as_struct().columns()).enumerate();
    let columns = columns.map(|(at, (field, values))| match at {
        // The index is replaced by the axis' names.
        0 => {
            let sources = map.sources().into_iter().map(|at| at.map(|at| at as u64));
            let names = take(values, &UInt64Array::from_iter(sources), None)?;
            Ok(Aligned {
                field: Arc::clone(field),
                values: names,
            })
        }
        _ => column(map, field, values),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    frame_of(field, columns)
}

/// A data frame of an index and columns.
fn frame_of(field: &FieldRef, columns: Vec<Aligned>) -> Result<Aligned> {
    let columns = columns.into_iter().map(|column| (column.field, column.values));
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.unzip();
    let fields = Fields::from(fields);
    let data_type = DataType::Struct(fields.clone());
    let values = StructArray::try_new(fields, arrays, None)?;
    Ok(Aligned {
        field: Arc::new(field.as_ref().clone().with_data_type(data_type)),
        values: Arc::new(values),
    })
}

fn sparse_rows(map: &ColumnMap, field: &FieldRef, values: &ArrayRef) -> Result<Aligned> {
    let rows = values.as_list::<i32>();
    let entries = rows.values().as_struct();
    let (indices, data) = (entries.column(0), entries.column(1));
    // scipy makes a matrix of float64 where there is no row to begin with.
    let data = match rows.is_empty() && map.n_new() > 0 {
        true => arrow::array::new_empty_array(&DataType::Float64),
        false => Arc::clone(data),
    };
    let none = list(OffsetBuffer::new_zeroed(1), indices.slice(0, 0), data.slice(0, 0))?;
    let rows = list(rows.offsets().clone(), Arc::clone(indices), data)?;
    let values = interleave(&[&rows, &none], &places(map))?;
    let field = field.as_ref().clone().with_data_type(values.data_type().clone());
    Ok(Aligned {
        field: Arc::new(field),
        values,
    })
}

fn dense_rows(map: &ColumnMap, field: &FieldRef, values: &ArrayRef) -> Result<Aligned> {
    let rows = values.as_fixed_size_list();
    let (width, item) = (rows.value_length(), rows.value_type());
    let mut data = item.clone();
    if map.has_empty() {
        let types = match rows.is_empty() {
            true => vec![&DataType::Float64],
            false => vec![&item, &DataType::Float64],
        };
        data = result_type(types).ok_or_else(|| never_missing(field))?;
    }
    let list_of = |values: ArrayRef, len: usize| -> Result<FixedSizeListArray> {
        let item = Arc::new(Field::new("item", data.clone(), false));
        let list = FixedSizeListArray::try_new_with_length(item, width, values, None, len)?;
        Ok(list)
    };
    let rows = list_of(promote(rows.values(), &data)?, rows.len())?;
    let none = match map.has_empty() {
        true => {
            let n = usize::try_from(width).unwrap_or_default();
            let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN; n]));
            list_of(promote(&nan, &data)?, 1)?
        }
        false => rows.slice(0, 0),
    };
    let values = interleave(&[&rows, &none], &places(map))?;
    let field = field.as_ref().clone().with_data_type(values.data_type().clone());
    Ok(Aligned {
        field: Arc::new(field),
        values,
    })
}

/// Where each row comes from: its place among the object's, or the one row of nothing.
fn places(map: &ColumnMap) -> Vec<(usize, usize)> {
    let sources = map.sources().into_iter();
    sources.map(|source| source.map_or((1, 0), |source| (0, source))).collect()
}

/// The columns of a square matrix on the merged axis.
fn columns_on(map: &ColumnMap, aligned: Aligned) -> Result<Aligned> {
    let Aligned { field, values } = aligned;
    let meta = FieldMeta {
        width: Some(map.n_new() as u64),
        ..FieldMeta::of(&field)
    };
    let values: ArrayRef = match (values.as_list_opt::<i32>(), values.as_fixed_size_list_opt()) {
        (Some(rows), _) => {
            let data = rows.values().as_struct().column(1).data_type().clone();
            Arc::new(map.sparse(rows, &data, None)?)
        }
        (_, Some(rows)) => {
            let data = rows.value_type();
            let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
            let fill = map.has_empty().then(|| promote(&nan, &data)).transpose()?;
            Arc::new(map.dense(rows, &data, fill.as_ref())?)
        }
        _ => return Err(never_missing(&field)),
    };
    let field = field.as_ref().clone().with_data_type(values.data_type().clone());
    Ok(Aligned {
        field: Arc::new(meta.apply(field)),
        values,
    })
}

fn never_missing(field: &Field) -> Error {
    Error::IncompatibleSchemas(format!(
        "'{}' of type {} cannot be brought onto the merged axis, because not all of it is there; \
         an inner join or --drop leaves no need to",
        field.name(),
        field.data_type()
    ))
}

/// Whether two elements are equal: type, shape, values; missing values are alike, and so is the order
/// of categories that have none.
fn equal(a: &Aligned, b: &Aligned) -> Result<bool> {
    if a.values.len() != b.values.len() {
        return Ok(false);
    }
    if let (Some(x), Some(y)) = (a.values.as_list_opt::<i32>(), b.values.as_list_opt::<i32>()) {
        return equal_sparse(a, x, b, y);
    }
    if let (DataType::Struct(p), DataType::Struct(q)) = (a.field.data_type(), b.field.data_type())
        && p.first().is_some_and(|f| f.name() != "re")
    {
        return equal_frames(a, p, b, q);
    }
    if let (DataType::Dictionary(_, p), DataType::Dictionary(_, q)) =
        (a.field.data_type(), b.field.data_type())
    {
        return equal_categories(a, p, b, q);
    }
    let encoding = |field: &Field| {
        let meta = FieldMeta::of(field);
        let nullable = meta.encoding.is_some_and(|e| e.starts_with("nullable-"));
        // pandas' text with NaN is the same whether or not some of it is missing.
        match field.data_type().is_string() {
            true => nullable && meta.na_value.as_deref() == Some("NA"),
            false => nullable,
        }
    };
    let same = a.values.data_type().equals_datatype(b.values.data_type())
        && encoding(&a.field) == encoding(&b.field);
    Ok(same && without_null_floats(&a.values)? == without_null_floats(&b.values)?)
}

fn equal_frames(a: &Aligned, p: &Fields, b: &Aligned, q: &Fields) -> Result<bool> {
    if p.len() != q.len() {
        return Ok(false);
    }
    let (x, y) = (a.values.as_struct(), b.values.as_struct());
    // The indexes are the axis' names in both.
    for at in 1..p.len() {
        let member = |fields: &Fields, frame: &StructArray| Aligned {
            field: Arc::clone(&fields[at]),
            values: Arc::clone(frame.column(at)),
        };
        if p[at].name() != q[at].name() || !equal(&member(p, x), &member(q, y))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_categories(a: &Aligned, p: &DataType, b: &Aligned, q: &DataType) -> Result<bool> {
    let ordered = |field: &Field| FieldMeta::of(field).ordered.unwrap_or(false);
    if p != q || ordered(&a.field) != ordered(&b.field) {
        return Ok(false);
    }
    let set = |values: &ArrayRef| values.as_any_dictionary_opt().map(|d| Arc::clone(d.values()));
    let (Some(x), Some(y)) = (set(&a.values), set(&b.values)) else {
        return Ok(false);
    };
    let same = x.as_ref() == y.as_ref();
    if x.len() != y.len() || (ordered(&a.field) && !same) {
        return Ok(false);
    }
    if !same {
        let sorted = |values: &ArrayRef| arrow::compute::sort(values, None);
        if sorted(&x)? != sorted(&y)? {
            return Ok(false);
        }
    }
    Ok(cast(&a.values, p)? == cast(&b.values, q)?)
}

/// Sparse matrices are equal by value, whatever their types.
fn equal_sparse(a: &Aligned, x: &ListArray, b: &Aligned, y: &ListArray) -> Result<bool> {
    let width = |field: &Field| FieldMeta::of(field).width;
    if width(&a.field) != width(&b.field) {
        return Ok(false);
    }
    let data = |rows: &ListArray| rows.values().as_struct().column(1).data_type().clone();
    let Some(common) = result_type([&data(x), &data(y)]) else {
        return Ok(false);
    };
    let comparable = |rows: &ListArray| -> Result<ListArray> {
        let entries = rows.values().as_struct();
        let indices = cast(entries.column(0), &DataType::Int64)?;
        let values = promote(entries.column(1), &common)?;
        canonical(&list(rows.offsets().clone(), indices, values)?)
    };
    Ok(comparable(x)? == comparable(y)?)
}

/// Floats with NaN in place of nulls; anything else as it is.
fn without_null_floats(values: &ArrayRef) -> Result<ArrayRef> {
    if values.null_count() == 0 || !values.data_type().is_floating() {
        return Ok(Arc::clone(values));
    }
    let nan = cast(&Float64Array::from(vec![f64::NAN]), values.data_type())?;
    let both = concat(&[values.as_ref(), nan.as_ref()])?;
    let last = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let places = (0..last).zip(0usize..).map(|(at, row)| match values.is_null(row) {
        true => last,
        false => at,
    });
    Ok(take(&both, &Int32Array::from_iter_values(places), None)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float32Array, Int8Array};

    use super::*;

    fn map() -> ColumnMap {
        ColumnMap::try_new(&[Some(2), Some(0)], 3).unwrap()
    }

    fn field(data_type: &DataType) -> FieldRef {
        Arc::new(Field::new("x", data_type.clone(), false))
    }

    #[test]
    fn what_can_not_be_missing_changes_its_type() {
        let values: ArrayRef = Arc::new(Int8Array::from(vec![1, 2]));
        let aligned = rows_on(&map(), &field(values.data_type()), &values).unwrap();
        let expected: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.), None, Some(1.)]));
        assert_eq!(&aligned.values, &expected);
        let values: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let aligned = rows_on(&map(), &field(values.data_type()), &values).unwrap();
        assert_eq!(FieldMeta::of(&aligned.field).encoding.unwrap(), "nullable-boolean");
        let values: ArrayRef = Arc::new(Float32Array::from(vec![1., 2.]));
        let aligned = rows_on(&map(), &field(values.data_type()), &values).unwrap();
        assert_eq!(aligned.values.data_type(), &DataType::Float32);
    }

    #[test]
    fn equality_minds_types_and_not_what_a_missing_number_is_made_of() {
        let aligned = |values: ArrayRef| Aligned {
            field: field(values.data_type()),
            values,
        };
        let nan = aligned(Arc::new(Float64Array::from(vec![Some(1.), Some(f64::NAN)])));
        let null = aligned(Arc::new(Float64Array::from(vec![Some(1.), None])));
        assert!(equal(&nan, &null).unwrap());
        let narrow = aligned(Arc::new(Float32Array::from(vec![1., f32::NAN])));
        assert!(!equal(&nan, &narrow).unwrap());
    }
}
