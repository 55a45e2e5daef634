//! Row ends of a sparse matrix, as narrow as scipy has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array};

use crate::element::write::place::Place;
use crate::error::Result;
use crate::model::DType;
use crate::store::ArrayWriter;

/// `indptr`, written as it comes once its width is known.
///
/// scipy has both `indices` and `indptr` in one type, and anndata compares them, so int64 for
/// everything would not do. Where the number of entries is not known, 4 bytes per row wait in
/// memory for the end or for the entry that int32 cannot count, whichever comes first.
#[derive(Debug)]
pub(super) struct Indptr {
    place: Place,
    state: State,
}

#[derive(Debug)]
enum State {
    Narrow(Box<dyn ArrayWriter>),
    Wide(Box<dyn ArrayWriter>),
    Waiting(Vec<i32>),
}

impl Indptr {
    /// Starts the member at `place`, `wide` where the indices are int64.
    pub(super) async fn create(place: Place, wide: bool) -> Result<Self> {
        let state = match place.size.nnz {
            Some(nnz) if !wide && i32::try_from(nnz).is_ok() => {
                State::Narrow(start(&place, DType::Int32).await?)
            }
            None if !wide => State::Waiting(Vec::new()),
            _ => State::Wide(start(&place, DType::Int64).await?),
        };
        let mut indptr = Self { place, state };
        indptr.append(vec![0]).await?;
        Ok(indptr)
    }

    /// Appends ends of rows.
    pub(super) async fn append(&mut self, ends: Vec<u64>) -> Result<()> {
        if let State::Waiting(waiting) = &mut self.state {
            if ends.last().is_none_or(|end| i32::try_from(*end).is_ok()) {
                waiting.extend(ends.iter().filter_map(|end| i32::try_from(*end).ok()));
                return Ok(());
            }
            let seen = std::mem::take(waiting);
            let mut array = start(&self.place, DType::Int64).await?;
            let seen = Int64Array::from_iter_values(seen.into_iter().map(i64::from));
            array.append(Arc::new(seen)).await?;
            self.state = State::Wide(array);
        }
        let too_many = |_| self.place.invalid("more stored entries than the size said");
        match &mut self.state {
            State::Narrow(array) => {
                let ends: Result<Vec<i32>, _> = ends.into_iter().map(i32::try_from).collect();
                let ends: ArrayRef = Arc::new(Int32Array::from(ends.map_err(too_many)?));
                array.append(ends).await
            }
            State::Wide(array) => {
                let ends: Result<Vec<i64>, _> = ends.into_iter().map(i64::try_from).collect();
                let ends: ArrayRef = Arc::new(Int64Array::from(ends.map_err(too_many)?));
                array.append(ends).await
            }
            State::Waiting(_) => Ok(()),
        }
    }

    pub(super) async fn finish(self) -> Result<()> {
        match self.state {
            State::Narrow(array) | State::Wide(array) => array.finish().await,
            State::Waiting(ends) => {
                let mut array = start(&self.place, DType::Int32).await?;
                array.append(Arc::new(Int32Array::from(ends))).await?;
                array.finish().await
            }
        }
    }
}

async fn start(place: &Place, dtype: DType) -> Result<Box<dyn ArrayWriter>> {
    let len = place.size.rows.and_then(|rows| rows.checked_add(1));
    place.member(dtype, len).await
}
