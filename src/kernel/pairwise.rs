//! Square matrices over one axis (`obsp`, `varp`), cut to a selection of that axis on both sides.
//!
//! ```text
//!  rows a c d of   a b c d e        columns a c d   0 1 2
//!                a . 1 . 2 .   ──►                0 . . 2
//!                c 3 . . . 4                      1 3 . .
//!                d . . 5 . .                      2 . 5 .
//! ```
//! Entries whose column was not selected are dropped; the others get their column's new position.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, ListArray, PrimitiveArray,
    StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use arrow::error::ArrowError;

use crate::error::{Error, Result};
use crate::model::RowSelection;

/// Positions on an axis, in the order of a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// Ascending, without repeats.
    Sorted(RowSelection),
    /// In any order; a position may come more than once.
    Any(Vec<u64>),
}

impl Positions {
    /// Positions as they come; ascending ones are recognised.
    pub fn new(positions: Vec<u64>) -> Self {
        match RowSelection::from_sorted(positions.iter().copied()) {
            Some(rows) => Self::Sorted(rows),
            None => Self::Any(positions),
        }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Sorted(rows) => rows.len(),
            Self::Any(positions) => positions.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether these are all positions of an axis of this length, in order.
    pub fn is_all(&self, len: u64) -> bool {
        matches!(self, Self::Sorted(rows) if *rows == RowSelection::all(len))
    }

    /// The positions of some ranks: what to read, in order and once each, and, where the order or
    /// repeats ask for it, which of the rows read stands at each rank.
    pub fn block(&self, ranks: Range<u64>) -> (RowSelection, Option<UInt64Array>) {
        let positions = match self {
            Self::Sorted(rows) => return (rows.slice(ranks), None),
            Self::Any(positions) => {
                let at = |rank: u64| usize::try_from(rank).unwrap_or(usize::MAX);
                let end = at(ranks.end).min(positions.len());
                &positions[at(ranks.start).min(end)..end]
            }
        };
        let mut sorted = positions.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let places = positions
            .iter()
            .map(|position| sorted.partition_point(|other| other < position) as u64);
        let places = UInt64Array::from_iter_values(places);
        let rows = RowSelection::from_sorted(sorted).unwrap_or_default();
        (rows, Some(places))
    }
}

/// Where each position of an axis stands on the new one.
#[derive(Debug)]
pub struct AxisMap {
    positions: Positions,
    old_len: u64,
    kind: MapKind,
}

#[derive(Debug)]
enum MapKind {
    /// One run: a subtraction.
    Run(Range<u64>),
    /// By old position, [`ABSENT`] where it was not selected.
    Once(Vec<u32>),
    /// By old position, a range of `places`: some stand more than once, or out of order.
    Many { starts: Vec<u32>, places: Vec<u32> },
}

const ABSENT: u32 = u32::MAX;

impl AxisMap {
    /// The map of a selection of an axis of `old_len` positions.
    ///
    /// Takes 4 bytes per old position unless the selection is one run.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) if a position is not below `old_len`;
    /// [`Error::NotImplemented`](crate::Error::NotImplemented) from 2^32 positions on.
    pub fn new(positions: Positions, old_len: u64) -> Result<Self> {
        let kind = match &positions {
            Positions::Sorted(rows) if rows.end() > old_len => {
                return Err(outside(rows.end() - 1, old_len));
            }
            Positions::Sorted(rows) if rows.ranges().len() < 2 => {
                MapKind::Run(rows.ranges().first().cloned().unwrap_or(0..0))
            }
            Positions::Sorted(rows) => {
                let mut places = vec![ABSENT; table_len(old_len)?];
                for (position, place) in rows.iter().zip(0..) {
                    if let Some(slot) = usize::try_from(position)
                        .ok()
                        .and_then(|position| places.get_mut(position))
                    {
                        *slot = place;
                    }
                }
                MapKind::Once(places)
            }
            Positions::Any(positions) => many(positions, old_len)?,
        };
        Ok(Self {
            positions,
            old_len,
            kind,
        })
    }

    /// The selection.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Cuts sparse rows to the selected columns.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) if a column is not below the axis' length.
    pub fn sparse(&self, rows: &ListArray) -> Result<ListArray> {
        if self.positions.is_all(self.old_len) {
            return Ok(rows.clone());
        }
        let entries = rows.values().as_struct();
        match entries.column(0).data_type() {
            DataType::Int32 => self.sparse_typed::<Int32Type>(rows, entries),
            _ => self.sparse_typed::<Int64Type>(rows, entries),
        }
    }

    fn sparse_typed<T: ArrowPrimitiveType>(
        &self,
        rows: &ListArray,
        entries: &StructArray,
    ) -> Result<ListArray>
    where
        T::Native: TryFrom<u64> + Into<i64>,
    {
        let indices = entries.column(0).as_primitive::<T>().values();
        let mut offsets: Vec<i32> = Vec::with_capacity(rows.len() + 1);
        let mut kept: Vec<(u32, u32)> = Vec::new(); // new column, place of the entry
        offsets.push(0);
        for row in rows.value_offsets().windows(2) {
            let begin = kept.len();
            for at in row[0]..row[1] {
                let place = u32::try_from(at).map_err(too_many)?;
                let column: i64 = indices[usize::try_from(at).map_err(too_many)?].into();
                let column = u64::try_from(column)
                    .ok()
                    .filter(|column| *column < self.old_len)
                    .ok_or_else(|| outside(column, self.old_len))?;
                self.places(column, |new| kept.push((new, place)));
            }
            if matches!(self.kind, MapKind::Many { .. }) {
                kept[begin..].sort_unstable();
            }
            offsets.push(i32::try_from(kept.len()).map_err(too_many)?);
        }
        let columns: Result<Vec<T::Native>, _> = kept
            .iter()
            .map(|(column, _)| T::Native::try_from(u64::from(*column)))
            .collect();
        let columns = columns.map_err(|_| outside(self.positions.len(), self.old_len))?;
        let places = UInt32Array::from_iter_values(kept.iter().map(|(_, place)| *place));
        let data = take(entries.column(1), &places, None)?;
        let columns: ArrayRef = Arc::new(PrimitiveArray::<T>::new(columns.into(), None));
        let entries = StructArray::try_new(entries.fields().clone(), vec![columns, data], None)?;
        let DataType::List(item) = rows.data_type() else {
            return Ok(rows.clone());
        };
        Ok(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::new(offsets.into()),
            Arc::new(entries),
            None,
        )?)
    }

    /// Cuts dense rows to the selected columns.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) if rows are not of the axis' length.
    pub fn dense(&self, rows: &FixedSizeListArray) -> Result<FixedSizeListArray> {
        let width = u64::try_from(rows.value_length()).unwrap_or_default();
        if width != self.old_len {
            return Err(outside(width, self.old_len));
        }
        let mut places = Vec::new();
        for row in 0..rows.len() as u64 {
            let start = row * width;
            match &self.positions {
                Positions::Sorted(rows) => places.extend(rows.iter().map(|at| start + at)),
                Positions::Any(positions) => places.extend(positions.iter().map(|at| start + at)),
            }
        }
        let values = take(rows.values(), &UInt64Array::from(places), None)?;
        let item = Field::new("item", values.data_type().clone(), false);
        let width = i32::try_from(self.positions.len()).map_err(too_many)?;
        Ok(FixedSizeListArray::try_new_with_length(
            Arc::new(item),
            width,
            values,
            None,
            rows.len(),
        )?)
    }

    /// Calls `each` with every new position of an old one.
    fn places(&self, old: u64, mut each: impl FnMut(u32)) {
        let slot = usize::try_from(old).unwrap_or(usize::MAX);
        match &self.kind {
            MapKind::Run(run) => {
                if run.contains(&old)
                    && let Ok(new) = u32::try_from(old - run.start)
                {
                    each(new);
                }
            }
            MapKind::Once(places) => match places.get(slot) {
                Some(new) if *new != ABSENT => each(*new),
                _ => {}
            },
            MapKind::Many { starts, places } => {
                if let (Some(start), Some(end)) = (starts.get(slot), starts.get(slot + 1)) {
                    let (start, end) = (*start as usize, *end as usize);
                    places[start..end].iter().for_each(|new| each(*new));
                }
            }
        }
    }
}

/// A counting sort of new positions by old ones.
fn many(positions: &[u64], old_len: u64) -> Result<MapKind> {
    u32::try_from(positions.len()).map_err(too_many)?;
    let mut starts = vec![0_u32; table_len(old_len)? + 1];
    for position in positions {
        let slot = usize::try_from(*position).unwrap_or(usize::MAX);
        match slot.checked_add(1).and_then(|next| starts.get_mut(next)) {
            Some(count) => *count += 1,
            None => return Err(outside(*position, old_len)),
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut next = starts.clone();
    let mut places = vec![0; positions.len()];
    for (position, new) in positions.iter().zip(0_u32..) {
        let slot = usize::try_from(*position).unwrap_or(usize::MAX);
        places[next[slot] as usize] = new;
        next[slot] += 1;
    }
    Ok(MapKind::Many { starts, places })
}

fn table_len(len: u64) -> Result<usize> {
    match u32::try_from(len) {
        Ok(len) if len < ABSENT => Ok(len as usize),
        _ => Err(Error::NotImplemented(format!(
            "a selection of a square matrix over {len} positions"
        ))),
    }
}

fn outside(position: impl Into<i128>, len: u64) -> Error {
    Error::OutOfRange {
        url: String::new(),
        element: crate::model::ElementKey::root(),
        position: position.into(),
        len,
    }
}

fn too_many<E>(_: E) -> Error {
    ArrowError::OffsetOverflowError(usize::try_from(u32::MAX).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int32Array};

    use super::*;
    use crate::model::matrix_type;

    #[test]
    fn keeps_selected_columns_at_their_new_place() {
        let rows = sparse(&[&[(1, 1.), (3, 2.)], &[(0, 3.), (4, 4.)], &[(2, 5.)]]);
        let map = AxisMap::new(Positions::new(vec![0, 2, 3]), 5).unwrap();
        let expected = sparse(&[&[(2, 2.)], &[(0, 3.)], &[(1, 5.)]]);
        assert_eq!(map.sparse(&rows).unwrap(), expected);
    }

    #[test]
    fn follows_any_order_and_repeats() {
        let rows = sparse(&[&[(0, 1.), (2, 2.)]]);
        let map = AxisMap::new(Positions::new(vec![2, 0, 2]), 3).unwrap();
        let expected = sparse(&[&[(0, 2.), (1, 1.), (2, 2.)]]);
        assert_eq!(map.sparse(&rows).unwrap(), expected);
        let (read, order) = map.positions().block(0..3);
        assert_eq!(read, RowSelection::from_ranges([0..1, 2..3]));
        assert_eq!(order.unwrap().values().to_vec(), [1, 0, 1]);
    }

    #[test]
    fn one_run_of_a_sliced_list() {
        let rows = sparse(&[&[(9, 9.)], &[(1, 1.), (2, 2.), (5, 5.)]]).slice(1, 1);
        let map = AxisMap::new(Positions::new(vec![2, 3, 4, 5]), 10).unwrap();
        assert_eq!(map.sparse(&rows).unwrap(), sparse(&[&[(0, 2.), (3, 5.)]]));
    }

    #[test]
    fn dense_rows_and_columns_out_of_range() {
        let values: ArrayRef = Arc::new(Float32Array::from(vec![1., 2., 3., 4., 5., 6.]));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let rows = FixedSizeListArray::new(item, 3, values, None);
        let map = AxisMap::new(Positions::new(vec![2, 0]), 3).unwrap();
        let cut = map.dense(&rows).unwrap();
        let cut = cut.values().as_primitive::<arrow::datatypes::Float32Type>();
        assert_eq!(cut.values().to_vec(), [3., 1., 6., 4.]);
        assert!(AxisMap::new(Positions::new(vec![3]), 3).is_err());
        let map = AxisMap::new(Positions::new(vec![0]), 2).unwrap();
        assert!(map.sparse(&sparse(&[&[(2, 1.)]])).is_err());
    }

    fn sparse(rows: &[&[(i32, f32)]]) -> ListArray {
        let DataType::List(item) = matrix_type(DataType::Float32, DataType::Int32) else {
            unreachable!()
        };
        let DataType::Struct(fields) = item.data_type() else {
            unreachable!()
        };
        let flat: Vec<_> = rows.concat();
        let indices: ArrayRef = Arc::new(Int32Array::from_iter_values(flat.iter().map(|e| e.0)));
        let data: ArrayRef = Arc::new(Float32Array::from_iter_values(flat.iter().map(|e| e.1)));
        let entries = StructArray::new(fields.clone(), vec![indices, data], None);
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.len()));
        ListArray::new(item, offsets, Arc::new(entries), None)
    }
}
