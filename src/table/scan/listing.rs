//! `uns` and `elements`: small tables, made in one piece.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::filter_record_batch;

use crate::element::{AnnData, ElementInfo};
use crate::error::Result;
use crate::table::kind::TableKind;
use crate::table::layout::ListingLayout;
use crate::table::scan::expr::Compiled;
use crate::table::scan::{Output, Scan, is_dynamic};

/// Makes the table in the partition that holds its one block.
pub(super) async fn run(table: &ListingLayout, scan: &Scan, mut output: Output) -> Result<()> {
    if scan.partition_rows().is_empty() {
        return Ok(());
    }
    let columns = match table.table {
        TableKind::Uns => uns(&table.object).await?,
        _ => elements(&table.object).await?,
    };
    let mut batch = RecordBatch::try_new(Arc::clone(&table.schema), columns)?;
    // What a join or top-k has learnt is not asked: without it a few rows more come out.
    let (_, conjuncts): (Vec<_>, Vec<_>) = scan.conjuncts.iter().partition(|c| is_dynamic(c));
    for conjunct in conjuncts {
        let compiled = Compiled::new([Arc::clone(conjunct)], &table.schema, |_| false)?;
        let mask = compiled.mask(values(&compiled, &batch), batch.num_rows())?;
        batch = filter_record_batch(&batch, &mask)?;
    }
    batch = batch.slice(0, output.take(batch.num_rows()));
    scan.metrics.add_rows(batch.num_rows());
    let projection = Compiled::new(scan.projection.expr_iter(), &table.schema, |_| false)?;
    let n_rows = batch.num_rows();
    let columns = projection.evaluate(values(&projection, &batch), n_rows)?;
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&scan.schema), columns, &options)?;
    output.send(batch).await?;
    Ok(())
}

/// The slots' values, all of which are columns of the batch.
pub(super) fn values(compiled: &Compiled, batch: &RecordBatch) -> Vec<ArrayRef> {
    compiled
        .slots
        .iter()
        .map(|slot| Arc::clone(batch.column(slot.column())))
        .collect()
}

async fn uns(object: &Arc<AnnData>) -> Result<Vec<ArrayRef>> {
    let leaves = object.uns_leaves().await?;
    let text = |f: fn(&crate::element::UnsLeaf) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(leaves.iter().map(f)))
    };
    Ok(vec![
        text(|l| &l.path),
        text(|l| &l.encoding_type),
        text(|l| &l.value),
    ])
}

async fn elements(object: &Arc<AnnData>) -> Result<Vec<ArrayRef>> {
    let elements = object.elements().await?;
    let text = |f: &dyn Fn(&ElementInfo) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(elements.iter().map(f)))
    };
    let integer = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
    let chunks = elements.iter().map(|e| e.chunk_shape.as_deref().map(shape));
    Ok(vec![
        text(&|e| e.key.to_string()),
        text(&|e| e.encoding_type.clone()),
        text(&|e| e.encoding_version.clone()),
        text(&|e| shape(&e.shape)),
        text(&|e| e.dtype.clone()),
        Arc::new(Int64Array::from_iter(
            elements.iter().map(|e| e.nnz.map(integer)),
        )),
        Arc::new(StringArray::from_iter(chunks)),
        text(&|e| e.compression.clone()),
        Arc::new(Int64Array::from_iter_values(
            elements.iter().map(|e| integer(e.stored_bytes)),
        )),
    ])
}

/// `2638 × 1838`, empty for what has no shape.
fn shape(lengths: &[u64]) -> String {
    lengths
        .iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(" × ")
}
