//! Elements of the axis that is not stacked (`var`, `varm`, `varp` where cells are): brought onto the
//! merged axis as they are read, and kept or dropped whole, by the strategy.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, StructArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use async_trait::async_trait;

use super::equality::{comparable, equal};
use super::spread::{aligned_field, columns_on, gather, is_frame};
use crate::element::{
    AnnData, ColumnReader, EntryParts, MatrixReader, MatrixShape, entries, offsets,
};
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;
use crate::model::{
    DType, ElementKey, FieldMeta, MatrixKind, MergeStrategy, RowSelection, VarAxis, value_bytes,
};
use crate::store::ReadMetrics;

/// Rows that are compared at a time, at most, and their bytes by estimate.
const BLOCK_ROWS: u64 = 1 << 14;
const BLOCK_BYTES: u64 = 4 << 20;

/// An object's element as rows of the merged axis. Where the object has no row stands nothing: a
/// missing value, a NaN, no entries; whole numbers and text become what can be missing, as pandas and
/// numpy have it.
#[derive(Debug, Clone)]
pub(super) struct Aligned {
    field: FieldRef,
    reader: Arc<dyn ColumnReader>,
    place: Placed,
    /// Of a matrix.
    shape: Option<MatrixShape>,
    /// Whether its columns are on the axis too.
    square: bool,
}

/// An object's element, and where its rows go.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) reader: Arc<dyn ColumnReader>,
    pub(super) place: Placed,
    /// Whether its columns are on the axis too.
    pub(super) square: bool,
}

/// The objects' elements of each name, in order of appearance.
pub(super) fn candidates<'a>(
    objects: &'a [Arc<AnnData>],
    places: &[Placed],
    square: bool,
    elements: impl Fn(&'a AnnData) -> Vec<(String, Arc<dyn ColumnReader>)>,
) -> Vec<(String, Vec<Candidate>)> {
    let mut found: Vec<(String, Vec<Candidate>)> = Vec::new();
    for (object, place) in objects.iter().zip(places) {
        for (name, reader) in elements(object) {
            let candidate = Candidate {
                reader,
                place: place.clone(),
                square,
            };
            match found.iter_mut().find(|(other, _)| *other == name) {
                Some((_, candidates)) => candidates.push(candidate),
                None => found.push((name, vec![candidate])),
            }
        }
    }
    found
}

/// Where an object's axis stands on the merged one, both ways.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    map: Arc<ColumnMap>,
    /// Old row by new one.
    sources: Arc<[Option<usize>]>,
    /// Names of the merged axis.
    names: StringArray,
}

impl Placed {
    pub(super) fn new(map: &Arc<ColumnMap>, names: &StringArray) -> Self {
        Self {
            map: Arc::clone(map),
            sources: map.sources().into(),
            names: names.clone(),
        }
    }

    /// Reads the object's rows that stand at some places, and says where each place's is among them.
    pub(super) async fn read<R: ColumnReader + ?Sized>(
        &self,
        reader: &R,
        rows: &RowSelection,
        metrics: &ReadMetrics,
    ) -> Result<(ArrayRef, Vec<Option<usize>>)> {
        let mut places = Vec::with_capacity(usize::try_from(rows.len()).unwrap_or_default());
        for range in rows.ranges() {
            let ends = usize::try_from(range.start)
                .ok()
                .zip(usize::try_from(range.end).ok());
            let own = ends.and_then(|(start, end)| self.sources.get(start..end));
            places.extend_from_slice(own.ok_or_else(|| Error::OutOfRange {
                url: "merge".to_owned(),
                element: reader.key().clone(),
                position: i128::from(range.end) - 1,
                len: self.sources.len() as u64,
            })?);
        }
        let mut wanted: Vec<usize> = places.iter().flatten().copied().collect();
        wanted.sort_unstable();
        let own = RowSelection::from_sorted(wanted.iter().map(|at| *at as u64));
        let values = reader.read(&own.unwrap_or_default(), metrics).await?;
        for place in places.iter_mut().flatten() {
            *place = wanted.partition_point(|at| at < place);
        }
        Ok((values, places))
    }
}

/// The element that the strategy keeps of those that some of `n` objects have.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] for a type of which nothing can be missing, where something is;
/// where elements that must be equal cannot be read.
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
    let first = Aligned::try_new(first)?;
    if strategy.compares() {
        for other in others {
            if !first.equals(&Aligned::try_new(other)?).await? {
                return Ok(None);
            }
        }
    }
    Ok(Some(first))
}

impl Aligned {
    /// A candidate's element on the merged axis.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] for a type of which nothing can be missing, where something is.
    pub(super) fn try_new(candidate: &Candidate) -> Result<Self> {
        let Candidate {
            reader,
            place,
            square,
        } = candidate.clone();
        let map = &place.map;
        let field = match map.is_identity() {
            true => Arc::clone(reader.field()),
            false => Arc::new(aligned_field(
                reader.field(),
                map,
                reader.is_empty(),
                square,
            )?),
        };
        let shape = reader.as_matrix().map(|matrix| {
            let own = matrix.shape();
            let data = match field.data_type() {
                DataType::FixedSizeList(item, _) => DType::from_arrow(item.data_type()),
                _ => None,
            };
            MatrixShape {
                n_rows: map.n_new() as u64,
                n_cols: if square {
                    map.n_new() as u64
                } else {
                    own.n_cols
                },
                nnz: own.nnz.filter(|_| map.is_identity()),
                data: data.unwrap_or_else(|| own.data.clone()),
                csc: false,
                ..own.clone()
            }
        });
        Ok(Self {
            field,
            reader,
            place,
            shape,
            square,
        })
    }

    /// The same element under another name.
    #[must_use]
    pub(super) fn named(mut self, name: &str) -> Self {
        let meta = FieldMeta {
            index_name: None,
            ..FieldMeta::of(&self.field)
        };
        let field = self.field.as_ref().clone().with_name(name);
        self.field = Arc::new(meta.apply(field));
        self
    }

    /// The same column of obs under the name that it has in cells.
    #[must_use]
    pub(super) fn cell(self, name: &str, cells_name: &str) -> Self {
        let mut column = self.named(cells_name);
        let meta = FieldMeta {
            name: (name != cells_name).then(|| name.to_owned()),
            ..FieldMeta::of(&column.field)
        };
        column.field = Arc::new(meta.apply(column.field.as_ref().clone()));
        column
    }

    async fn equals(&self, other: &Self) -> Result<bool> {
        if !comparable(&self.field, &other.field) {
            return Ok(false);
        }
        let metrics = ReadMetrics::default();
        let len = self.len();
        let row_bytes = self.row_bytes().max(other.row_bytes()).max(1);
        let step = (BLOCK_BYTES / row_bytes).clamp(1, BLOCK_ROWS);
        let mut start = 0;
        // Sets of categories are compared, too, where there is no row.
        loop {
            let rows = RowSelection::range(start..len.min(start + step));
            let (a, b) = (
                self.read(&rows, &metrics).await?,
                other.read(&rows, &metrics).await?,
            );
            if !equal(&self.field, &a, &other.field, &b)? {
                return Ok(false);
            }
            start += step;
            if start >= len {
                return Ok(true);
            }
        }
    }
}

#[async_trait]
impl ColumnReader for Aligned {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        self.reader.key()
    }

    fn len(&self) -> u64 {
        self.place.sources.len() as u64
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let frame = matches!(self.field.data_type(), DataType::Struct(m) if is_frame(m));
        if self.place.map.is_identity() && !frame {
            return self.reader.read(rows, metrics).await;
        }
        let reader = self.reader.as_ref();
        let (values, places) = self.place.read(reader, rows, metrics).await?;
        let (to, from) = (&self.field, self.reader.field());
        if let (DataType::Struct(to), DataType::Struct(from)) = (to.data_type(), from.data_type())
            && is_frame(to)
        {
            // A data frame beside an axis has the axis' names.
            let rows = UInt64Array::from_iter_values(rows.iter());
            let mut columns = vec![take(&self.place.names, &rows, None)?];
            let own = to.iter().zip(from).zip(values.as_struct().columns());
            for ((to, from), values) in own.skip(1) {
                columns.push(gather(to, from, values, &places)?);
            }
            return Ok(Arc::new(StructArray::try_new(to.clone(), columns, None)?));
        }
        let values = gather(to, from, &values, &places)?;
        match self.square {
            true => columns_on(&self.place.map, &self.field, &values),
            false => Ok(values),
        }
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        self.shape.as_ref().map(|_| self as &dyn MatrixReader)
    }

    fn row_bytes(&self) -> u64 {
        // Dense rows may be wider, and of a wider type, than they are in the object.
        match MatrixKind::of(self.field.data_type()) {
            Some(MatrixKind::Dense) => value_bytes(self.field.data_type()),
            _ => self.reader.row_bytes(),
        }
    }
}

#[async_trait]
impl MatrixReader for Aligned {
    fn shape(&self) -> &MatrixShape {
        /// Of what is no matrix and so is not asked for its shape.
        static NONE: MatrixShape = MatrixShape {
            kind: MatrixKind::Dense,
            n_rows: 0,
            n_cols: 0,
            nnz: None,
            data: DType::Float64,
            indices: None,
            csc: false,
        };
        self.shape.as_ref().unwrap_or(&NONE)
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        None
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        let values = self.read(rows, metrics).await?;
        Ok(offsets(&values, self.shape().n_cols))
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        Ok(entries(&self.read(rows, metrics).await?, parts))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float32Array, Float64Array, Int8Array};
    use arrow::datatypes::Field;

    use super::*;
    use crate::element::MemoryColumn;

    /// A column of two rows, which go to the third and the first of three places.
    fn aligned(values: ArrayRef) -> Aligned {
        let map = Arc::new(ColumnMap::try_new(&[Some(2), Some(0)], 3).unwrap());
        on(&map, values)
    }

    fn candidate(reader: Arc<dyn ColumnReader>, place: Placed) -> Candidate {
        Candidate {
            reader,
            place,
            square: false,
        }
    }

    fn on(map: &Arc<ColumnMap>, values: ArrayRef) -> Aligned {
        let field = Arc::new(Field::new("x", values.data_type().clone(), false));
        let reader: Arc<dyn ColumnReader> =
            Arc::new(MemoryColumn::new(field, ElementKey::new("var/x"), values));
        let names = vec!["a"; map.n_new()].into();
        let place = Placed::new(map, &names);
        Aligned::try_new(&candidate(reader, place)).unwrap()
    }

    #[tokio::test]
    async fn what_can_not_be_missing_changes_its_type() {
        let column = aligned(Arc::new(Int8Array::from(vec![1, 2])));
        let rows = RowSelection::all(3);
        let values = column.read(&rows, &ReadMetrics::default()).await.unwrap();
        let expected: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.), None, Some(1.)]));
        assert_eq!(&values, &expected);
        let values = column
            .read(&RowSelection::range(2..3), &ReadMetrics::default())
            .await;
        assert_eq!(values.unwrap().data_type(), &DataType::Float64);
        let column = aligned(Arc::new(BooleanArray::from(vec![true, false])));
        assert_eq!(
            FieldMeta::of(column.field()).encoding.unwrap(),
            "nullable-boolean"
        );
        let column = aligned(Arc::new(Float32Array::from(vec![1., 2.])));
        assert_eq!(column.field().data_type(), &DataType::Float32);
    }

    #[tokio::test]
    async fn equality_minds_types_and_not_what_a_missing_number_is_made_of() {
        let same = Arc::new(ColumnMap::identity(2));
        let column = |values: ArrayRef| on(&same, values);
        let nan = column(Arc::new(Float64Array::from(vec![Some(1.), Some(f64::NAN)])));
        let null = column(Arc::new(Float64Array::from(vec![Some(1.), None])));
        assert!(nan.equals(&null).await.unwrap());
        let narrow = column(Arc::new(Float32Array::from(vec![1., f32::NAN])));
        assert!(!nan.equals(&narrow).await.unwrap());
        let of = |column: &Aligned| candidate(Arc::clone(&column.reader), column.place.clone());
        let [nan, null, narrow] = [of(&nan), of(&null), of(&narrow)];
        let unique = Some(MergeStrategy::Unique);
        assert!(
            keep(&[nan.clone(), null], 3, unique)
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            keep(&[nan.clone(), narrow], 2, unique)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            keep(&[nan], 2, Some(MergeStrategy::Same))
                .await
                .unwrap()
                .is_none()
        );
    }
}
