//! Owned pieces of batches.
//!
//! A slice keeps its parent's buffers, and DataFusion accounts for buffers, not for slices: sorts
//! of slices run out of memory they do not use.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, make_array,
};

use crate::error::Result;

/// A batch in parts of so many rows at most; one of no rows stays one.
pub(crate) fn cut(batch: RecordBatch, rows: usize) -> impl Iterator<Item = Result<RecordBatch>> {
    let n_rows = batch.num_rows();
    let starts = (0..n_rows.max(1)).step_by(rows.max(1));
    starts.map(move |start| piece(&batch, start..n_rows.min(start.saturating_add(rows))))
}

/// The rows of a range, copied, unless that is all of them.
pub(crate) fn piece(batch: &RecordBatch, rows: Range<usize>) -> Result<RecordBatch> {
    if rows == (0..batch.num_rows()) {
        return Ok(batch.clone());
    }
    let columns = batch
        .columns()
        .iter()
        .map(|c| copy(c, rows.clone()))
        .collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(
        batch.schema(),
        columns,
        &options,
    )?)
}

/// The rows of a range, copied, unless that is all of them. Dictionaries share their values.
pub(crate) fn copy(array: &ArrayRef, rows: Range<usize>) -> Result<ArrayRef> {
    if rows == (0..array.len()) {
        return Ok(ArrayRef::clone(array));
    }
    let data = array.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, rows.len());
    copy.try_extend(0, rows.start, rows.end)?;
    Ok(make_array(copy.freeze()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_piece_owns_its_codes_and_shares_its_categories() {
        let codes = Int32Array::from(vec![Some(1), None, Some(0), Some(1)]);
        let categories: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let whole: ArrayRef = Arc::new(DictionaryArray::new(codes, Arc::clone(&categories)));
        let part = copy(&whole, 1..3).unwrap();
        let part = part.as_dictionary::<Int32Type>();
        assert_eq!(part.keys(), &Int32Array::from(vec![None, Some(0)]));
        assert_eq!(part.values().len(), 3);
        assert_eq!(
            part.values().to_data().buffers()[1].as_ptr(),
            categories.to_data().buffers()[1].as_ptr()
        );
    }
}
