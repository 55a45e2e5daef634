//! `categorical`: codes and categories.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int16Array, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_trait::async_trait;

use crate::element::categorical::fault_of_categories;
use crate::element::node::Encoding;
use crate::element::write::column::{ColumnWriter, Encoder, is_text};
use crate::element::write::place::{Place, encoding, with};
use crate::error::Result;
use crate::model::{CategoryRegistry, DType, FieldMeta};
use crate::store::ArrayWriter;

/// Codes of a dictionary column against one set of categories.
///
/// Where the field names the set it was read with, codes are written as they come and every
/// category is kept, in order. Else the set is the union of what the dictionaries hold, in order of
/// appearance, and codes wait in memory (4 bytes a row) for their width.
#[derive(Debug)]
pub(super) struct Categorical {
    place: Place,
    ordered: bool,
    /// How the categories are encoded.
    categories: FieldMeta,
    set: CategorySet,
    codes: Codes,
    /// The dictionary seen last and where its values stand in the set.
    last: Option<(ArrayRef, Arc<[i32]>)>,
}

#[derive(Debug)]
enum Codes {
    /// Not begun: whether the set is known is.
    Known,
    Written {
        array: Box<dyn ArrayWriter>,
        dtype: DType,
    },
    Waiting(Vec<i32>),
}

impl Categorical {
    /// A writer of the categories that the column's are known to be, or of those that come.
    ///
    /// # Errors
    /// [`Error::InvalidElement`](crate::Error::InvalidElement) for known categories that pandas refuses,
    /// so that nobody could open what is written.
    pub(super) fn create(place: Place, values: &DataType, meta: &FieldMeta) -> Result<Self> {
        let known = meta
            .categories
            .as_deref()
            .and_then(|id| CategoryRegistry::global().get(id))
            .filter(|set| compatible(set.data_type(), values));
        if let Some(fault) = known
            .as_ref()
            .map(fault_of_categories)
            .transpose()?
            .flatten()
        {
            return Err(place.invalid(format!(
                "of the categories that were read, {fault}, which pandas refuses; --drop leaves the \
                 column out"
            )));
        }
        let codes = match known {
            Some(_) => Codes::Known,
            None => Codes::Waiting(Vec::new()),
        };
        Ok(Self {
            place,
            ordered: meta.ordered.unwrap_or(false),
            categories: FieldMeta {
                encoding: meta
                    .na_value
                    .is_some()
                    .then(|| Encoding::NullableString.name().to_owned()),
                na_value: meta.na_value.clone(),
                ..FieldMeta::default()
            },
            set: CategorySet::new(known, values)?,
            codes,
            last: None,
        })
    }

    async fn begin(&mut self) -> Result<()> {
        if matches!(self.codes, Codes::Known) {
            group(&self.place, self.ordered).await?;
            let dtype = code_dtype(self.set.len());
            let array = self.place.child("codes").rows(dtype.clone(), &[]).await?;
            self.codes = Codes::Written { array, dtype };
        }
        Ok(())
    }

    /// Where each value of a dictionary stands in the set; nulls at -1.
    fn mapping(&mut self, values: &ArrayRef) -> Result<Arc<[i32]>> {
        if let Some((seen, mapping)) = &self.last
            && seen.to_data().ptr_eq(&values.to_data())
        {
            return Ok(Arc::clone(mapping));
        }
        let mapping: Arc<[i32]> = self.set.codes(values)?.into();
        self.last = Some((Arc::clone(values), Arc::clone(&mapping)));
        Ok(mapping)
    }
}

#[async_trait]
impl Encoder for Categorical {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        self.begin().await?;
        let Some(dictionary) = values.as_any_dictionary_opt() else {
            return Err(self
                .place
                .invalid(format!("values of type {}", values.data_type())));
        };
        let mapping = self.mapping(dictionary.values())?;
        let keys = cast(dictionary.keys(), &DataType::Int32)?;
        let at = |key: i32| usize::try_from(key).ok().and_then(|key| mapping.get(key));
        let codes = keys
            .as_primitive::<Int32Type>()
            .iter()
            .map(|key| key.and_then(at).copied().unwrap_or(-1));
        match &mut self.codes {
            Codes::Waiting(waiting) => waiting.extend(codes),
            Codes::Known => {}
            Codes::Written { array, dtype } => {
                let codes = narrow(codes, dtype, &self.place)?;
                array.append(codes).await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.begin().await?;
        let codes = std::mem::replace(&mut self.codes, Codes::Known);
        match codes {
            Codes::Waiting(waiting) => {
                group(&self.place, self.ordered).await?;
                let dtype = code_dtype(self.set.len());
                let mut array = self.place.child("codes").rows(dtype.clone(), &[]).await?;
                array
                    .append(narrow(waiting.into_iter(), &dtype, &self.place)?)
                    .await?;
                array.finish().await?;
            }
            Codes::Written { array, .. } => array.finish().await?,
            Codes::Known => {}
        }
        let categories = self.set.values()?;
        let mut place = self.place.child("categories");
        place.size.rows = Some(categories.len() as u64);
        let field = Field::new("categories", categories.data_type().clone(), false);
        let field = self.categories.apply(field);
        let mut writer = ColumnWriter::at(place, &field).await?;
        writer.append(&categories).await?;
        writer.finish().await
    }
}

/// Categories in order, and where each stands.
#[derive(Debug)]
struct CategorySet {
    /// The set of the file, until a value outside it is met.
    known: Option<ArrayRef>,
    data_type: DataType,
    converter: RowConverter,
    /// Built when a dictionary comes that is not the known set itself.
    table: Option<HashMap<OwnedRow, i32>>,
    len: usize,
}

impl CategorySet {
    fn new(known: Option<ArrayRef>, values: &DataType) -> Result<Self> {
        let data_type = known
            .as_ref()
            .map_or_else(|| values.clone(), |set| set.data_type().clone());
        Ok(Self {
            len: known.as_ref().map_or(0, |set| set.len()),
            known,
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            data_type,
            table: None,
        })
    }

    fn len(&self) -> usize {
        self.len
    }

    fn codes(&mut self, values: &ArrayRef) -> Result<Vec<i32>> {
        if let Some(known) = &self.known
            && known.to_data().ptr_eq(&values.to_data())
        {
            return Ok((0..).take(known.len()).collect());
        }
        if self.table.is_none() {
            let mut table = HashMap::new();
            if let Some(known) = &self.known {
                let rows = self.converter.convert_columns(&[Arc::clone(known)])?;
                for (row, code) in rows.iter().zip(0..) {
                    table.insert(row.owned(), code);
                }
            }
            self.table = Some(table);
        }
        let values = if *values.data_type() == self.data_type {
            Arc::clone(values)
        } else {
            cast(values, &self.data_type)?
        };
        let rows = self.converter.convert_columns(&[Arc::clone(&values)])?;
        let mut codes = Vec::with_capacity(values.len());
        for (i, row) in rows.iter().enumerate() {
            if values.is_null(i) {
                codes.push(-1);
                continue;
            }
            let table = self.table.get_or_insert_default();
            let row = row.owned();
            let code = match table.get(&row) {
                Some(code) => *code,
                None => {
                    let code = i32::try_from(self.len).map_err(|_| {
                        crate::Error::IncompatibleSchemas("more than 2^31 categories".to_owned())
                    })?;
                    table.insert(row, code);
                    self.len += 1;
                    // Categories beyond the file's set: a query made them.
                    self.known = self.known.take().filter(|set| set.len() >= self.len);
                    code
                }
            };
            codes.push(code);
        }
        Ok(codes)
    }

    fn values(&self) -> Result<ArrayRef> {
        if let Some(known) = &self.known {
            return Ok(Arc::clone(known));
        }
        let mut rows: Vec<(&OwnedRow, i32)> = self
            .table
            .iter()
            .flatten()
            .map(|(row, code)| (row, *code))
            .collect();
        rows.sort_unstable_by_key(|(_, code)| *code);
        let columns = self
            .converter
            .convert_rows(rows.iter().map(|(row, _)| row.row()))?;
        Ok(columns
            .into_iter()
            .next()
            .unwrap_or_else(|| arrow::array::new_empty_array(&self.data_type)))
    }
}

async fn group(place: &Place, ordered: bool) -> Result<()> {
    let attributes = with(encoding("categorical", "0.2.0"), "ordered", ordered);
    place.group(&attributes).await
}

/// Whether dictionaries of `values` can be looked up in a set of type `set`.
fn compatible(set: &DataType, values: &DataType) -> bool {
    set == values || (is_text(set) && is_text(values))
}

/// pandas' rule (`coerce_indexer_dtype`), so that reading back changes nothing.
fn code_dtype(categories: usize) -> DType {
    match categories {
        0..0x7f => DType::Int8,
        0x7f..0x7fff => DType::Int16,
        _ => DType::Int32,
    }
}

fn narrow(codes: impl Iterator<Item = i32>, dtype: &DType, place: &Place) -> Result<ArrayRef> {
    let too_many = |_| place.invalid(format!("more categories than codes of {dtype} can count"));
    Ok(match dtype {
        DType::Int8 => {
            let codes: Result<Vec<_>, _> = codes.map(i8::try_from).collect();
            Arc::new(Int8Array::from(codes.map_err(too_many)?))
        }
        DType::Int16 => {
            let codes: Result<Vec<_>, _> = codes.map(i16::try_from).collect();
            Arc::new(Int16Array::from(codes.map_err(too_many)?))
        }
        _ => Arc::new(Int32Array::from_iter_values(codes)),
    })
}
