//! Reading every element of real files: ranges give what the whole gives, and broken objects are
//! refused with a message that names the place.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "small numbers; helpers fail the test"
)]

use std::sync::Arc;

use annfusion::element::{AnnData, ColumnReader, EntryParts, MatrixReader};
use annfusion::error::Result;
use annfusion::model::{Location, RowSelection};
use annfusion::store::ReadMetrics;
use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;

use crate::{shared, shared_objects};

/// Files that are no AnnData objects, with what the message must name.
const REFUSED: [(&str, [&str; 2]); 2] = [
    ("duckdb-test_no_index.h5ad", ["obs", "_index"]),
    ("anndataR-example.zarr.zip", ["obs/leiden", "`ordered`"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_element_of_every_file_reads_in_ranges_as_it_does_whole() {
    let mut wrong = Vec::new();
    for path in shared_objects() {
        if REFUSED.iter().any(|(name, _)| path.ends_with(name)) {
            continue;
        }
        if let Err(error) = check_object(&path).await {
            wrong.push(format!("{path}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    for (name, parts) in REFUSED {
        let Some(path) = shared(&format!("data/found/{name}")) else {
            return;
        };
        let message = open(path.to_str().unwrap()).await.unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mudata_file_names_its_modalities() {
    let Some(path) = shared("data/found/mudata-v0.4.1-mdata_axis1.h5mu") else {
        return;
    };
    let message = open(path.to_str().unwrap()).await.unwrap_err().to_string();
    assert!(
        message.contains("#mod/mod1") && message.contains("#mod/mod2"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_object_is_shared() {
    let Some(path) = shared("data/encodings/p3.h5ad") else {
        return;
    };
    let first = open(path.to_str().unwrap()).await.unwrap();
    let second = open(path.to_str().unwrap()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

async fn open(path: &str) -> Result<Arc<AnnData>> {
    AnnData::open(&Location::parse(path)).await
}

fn matrices(object: &AnnData) -> Vec<&Arc<dyn MatrixReader>> {
    let named = [object.layers(), object.obsp(), object.varp()];
    let named = named.into_iter().flatten().map(|(_, matrix)| matrix);
    let raw = object.raw().and_then(|raw| raw.x());
    named.chain(object.x()).chain(raw).collect()
}

fn columns(object: &AnnData) -> Vec<&dyn ColumnReader> {
    let mut frames = vec![object.obs(), object.var()];
    let mut named = vec![object.obsm(), object.varm()];
    if let Some(raw) = object.raw() {
        frames.push(raw.var());
        named.push(raw.varm());
    }
    let frames = frames
        .into_iter()
        .flat_map(|frame| std::iter::once(frame.index()).chain(frame.columns()));
    let named = named.into_iter().flatten().map(|(_, column)| column);
    let matrices = matrices(object)
        .into_iter()
        .map(|matrix| matrix.as_ref() as &dyn ColumnReader);
    frames
        .chain(named)
        .map(AsRef::as_ref)
        .chain(matrices)
        .collect()
}

/// A few rows from everywhere: the edges, a gap, single rows.
fn some_rows(len: u64) -> RowSelection {
    let ranges = [0..1, 2..len / 3, len / 2..len / 2 + 1, len * 2 / 3..len];
    RowSelection::from_ranges(ranges.map(|range| range.start.min(len)..range.end.min(len)))
}

async fn check_object(path: &str) -> Result<()> {
    let object = open(path).await?;
    for column in columns(&object) {
        check_ranges(column).await?;
    }
    for matrix in matrices(&object) {
        check_parts(matrix).await?;
    }
    object.uns_leaves().await?;
    assert!(object.elements().await?.len() >= 3, "{path}");
    Ok(())
}

async fn check_ranges(column: &dyn ColumnReader) -> Result<()> {
    let metrics = ReadMetrics::default();
    let len = column.len();
    let whole = column.read(&RowSelection::all(len), &metrics).await?;
    assert_eq!(whole.len() as u64, len, "{}", column.key());
    assert_eq!(
        whole.data_type(),
        column.field().data_type(),
        "{}",
        column.key()
    );
    let rows = some_rows(len);
    let expected: Vec<ArrayRef> = rows
        .ranges()
        .iter()
        .map(|range| whole.slice(range.start as usize, (range.end - range.start) as usize))
        .collect();
    let found = column.read(&rows, &metrics).await?;
    if !expected.is_empty() {
        let expected: Vec<&dyn Array> = expected.iter().map(AsRef::as_ref).collect();
        assert_eq!(&found, &concat(&expected)?, "{}", column.key());
    }
    let beyond = column.read(&RowSelection::all(len + 1), &metrics).await;
    assert!(beyond.is_err(), "{}", column.key());
    Ok(())
}

async fn check_parts(matrix: &Arc<dyn MatrixReader>) -> Result<()> {
    let metrics = ReadMetrics::default();
    let rows = some_rows(matrix.len());
    let offsets = matrix.offsets(&rows, &metrics).await?;
    assert_eq!(offsets.len() as u64, rows.len() + 1);
    let both = EntryParts {
        indices: true,
        data: true,
    };
    let (indices, data) = matrix.entries(&rows, both, &metrics).await?;
    let total = *offsets.last().unwrap() as usize;
    assert_eq!(data.unwrap().len(), total, "{}", matrix.key());
    assert!(indices.is_none_or(|indices| indices.len() == total));
    Ok(())
}
