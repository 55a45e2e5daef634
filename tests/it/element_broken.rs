//! Objects that break AnnData's rules are refused with the place and both values, never read wrong.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers made here; helpers fail the test"
)]

use std::sync::Arc;

use annfusion::element::{AnnData, CopyOptions, copy_tree, inspect_elements};
use annfusion::model::{ElementKey, Location, RowSelection};
use annfusion::ops::{Quiet, VerifyOptions, compare};
use annfusion::store::{Format, ReadMetrics, Store, WriteTarget, create};
use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int8Array, Int32Array, Int64Array, StringArray,
    UInt16Array, UInt64Array,
};
use arrow::datatypes::{Float32Type, Int32Type};
use proptest::prelude::*;
use serde_json::json;

use crate::memory::MemoryStore;

#[tokio::test]
async fn pointers_that_decrease_or_lead_beyond_the_data_are_named() {
    for (indptr, message) in [
        (
            [0, 3, 2, 4],
            "element X: indptr decreases at 2, from 3 to 2",
        ),
        (
            [0, 1, 2, 9],
            "element X: indptr at 3 is 9, but data hold 4 entries",
        ),
        ([1, 1, 2, 4], "element X: indptr starts at 1, not at 0"),
        ([0, -1, 2, 4], "element X: indptr of row 1 is -1, below 0"),
    ] {
        let found = read_x(csr(ints(&indptr), ints(&[0, 1, 0, 1]), 4))
            .await
            .unwrap_err();
        assert!(found.contains(message), "{found}");
    }
}

/// scipy does not look at what stands behind the last pointer.
#[tokio::test]
async fn entries_behind_the_last_pointer_belong_to_no_row() {
    let (mut store, mut tight) = (MemoryStore::object(3, 2), MemoryStore::object(3, 2));
    let data = |n| Arc::new(Float32Array::from(vec![1.0; n])) as ArrayRef;
    let indices = [2, 0, 1, 1, 1];
    let slack = [ints(&[0, 1, 3]), ints(&indices), data(4)];
    store.sparse("X", "csc_matrix", [3, 2], slack);
    let exact = [ints(&[0, 1, 3]), ints(&indices[..3]), data(3)];
    tight.sparse("X", "csc_matrix", [3, 2], exact);
    let (loose, tight) = (read_x(store.clone()).await, read_x(tight).await);
    assert_eq!(&loose.unwrap(), &tight.unwrap());
    let object = open(store).await.unwrap();
    assert_eq!(object.x().unwrap().shape().nnz, Some(3));
    let elements = object.elements().await.unwrap();
    let x = elements.iter().find(|e| e.key.as_str() == "X").unwrap();
    assert_eq!(x.nnz, Some(3));
}

#[tokio::test]
async fn indices_beyond_the_genes_are_named_whatever_their_width() {
    let wide: ArrayRef = Arc::new(UInt64Array::from(vec![0, 1, u64::MAX, 1]));
    let narrow: ArrayRef = Arc::new(UInt16Array::from(vec![0, 1, 7, 1]));
    let signed: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, -2, 1]));
    for (indices, position) in [
        (wide, "18446744073709551615"),
        (narrow, "7"),
        (signed, "-2"),
        (ints(&[0, -3, 0, 1]), "-3"),
    ] {
        let found = read_x(csr(ints(&[0, 1, 2, 4]), indices, 4))
            .await
            .unwrap_err();
        let message = format!("element X: position {position} is not below 2");
        assert!(found.contains(&message), "{found}");
    }
}

#[tokio::test]
async fn lengths_that_disagree_are_named() {
    let found = read_x(csr(ints(&[0, 1, 2, 4]), ints(&[0, 1, 0, 1]), 3))
        .await
        .unwrap_err();
    assert!(
        found.contains("element X: indptr at 3 is 4, but data hold 3 entries"),
        "{found}"
    );
    let found = read_x(csr(ints(&[0, 1, 4]), ints(&[0, 1, 0, 1]), 4))
        .await
        .unwrap_err();
    assert!(
        found.contains("the length of indptr is 3, but shape says 4"),
        "{found}"
    );
    let mut store = csr(ints(&[0, 1, 2, 4]), ints(&[0, 1, 0, 1]), 4);
    store.attribute("X", "shape", json!([3, 5]));
    let found = read_x(store).await.unwrap_err();
    assert!(
        found.contains("element X: the number of its columns is 5, but var says 2"),
        "{found}"
    );
    let mut store = MemoryStore::object(3, 2);
    store.attribute("obs", "column-order", json!(["a"]));
    store.dataset("obs/a", ints(&[1, 2]), json!({}));
    let found = read_x(store).await.unwrap_err();
    assert!(
        found.contains("obs/a: its length is 2, but the index _index says 3"),
        "{found}"
    );
}

/// Frames of writers in R come whole, and types of arrays in uns are compared.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_uns_are_whole_and_compared_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let mut locations = Vec::new();
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    for (name, numbers) in [("a.h5ad", ints(&[1, 2])), ("b.h5ad", wide)] {
        let mut store = MemoryStore::object(3, 2);
        let tag = json!({"encoding-type": "dataframe", "_index": "i", "column-order": "a"});
        store.group("uns", json!({})).group("uns/f", tag);
        store.dataset("uns/f/i", ints(&[7, 8]), json!({}));
        store.dataset("uns/f/a", ints(&[5, 6]), json!({}));
        store.dataset("uns/n", numbers, json!({}));
        let store: Arc<dyn Store> = Arc::new(store);
        let path = folder.path().join(name);
        let target = WriteTarget {
            path: path.clone(),
            format: Format::H5ad,
            overwrite: false,
            fsync: false,
            run_bytes: 0,
            consolidated: true,
        };
        let writer = create(&target).await.unwrap();
        for element in ["obs", "var", "uns"].map(ElementKey::new) {
            let options = CopyOptions::default();
            let copied = copy_tree(&store, &element, &writer, &element, &options).await;
            copied.unwrap();
        }
        writer.close().await.unwrap();
        writer.commit().await.unwrap();
        locations.push(Location::parse(path.to_str().unwrap()));
    }
    let options = VerifyOptions::default();
    let found = compare(&locations[0], &locations[1], &options, &Quiet).await;
    let found = found.unwrap().findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].message, "int32 here, int64 there");
    let object = AnnData::open(&locations[0]).await.unwrap();
    let frame = &object.uns_leaves().await.unwrap()[0];
    assert!(frame.value.contains("\"a\":[5,6]"), "{}", frame.value);
}

#[tokio::test]
async fn codes_without_a_category_are_named() {
    let mut store = MemoryStore::object(3, 2);
    let tag = json!({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": true});
    store
        .attribute("obs", "column-order", json!(["a"]))
        .group("obs/a", tag);
    store.dataset(
        "obs/a/codes",
        Arc::new(Int8Array::from(vec![0, -1, 2])),
        json!({}),
    );
    store.dataset(
        "obs/a/categories",
        Arc::new(StringArray::from(vec!["u", "v"])),
        json!({}),
    );
    let object = open(store).await.unwrap();
    let column = &object.obs().columns()[0];
    let read = |rows| async move { column.read(&rows, &ReadMetrics::default()).await };
    let first = read(RowSelection::range(0..2)).await.unwrap();
    assert_eq!(
        first.as_dictionary::<Int32Type>().keys(),
        &Int32Array::from(vec![Some(0), None])
    );
    let found = read(RowSelection::all(3)).await.unwrap_err().to_string();
    assert!(
        found.contains("element obs/a: position 2 is not below 2"),
        "{found}"
    );
}

#[tokio::test]
async fn unknown_encodings_and_missing_parts_are_named_and_still_listed() {
    let mut store = MemoryStore::object(3, 2);
    let tag = json!({"encoding-type": "csr_matrix", "encoding-version": "9.9"});
    store.group("X", tag);
    let found = read_x(store).await.unwrap_err();
    assert!(
        found.contains("element X has encoding-type \"csr_matrix\" version \"9.9\""),
        "{found}"
    );
    let mut store = MemoryStore::default();
    store
        .group("", json!({}))
        .group("obs", json!({}))
        .dataset("obs/a", ints(&[1]), json!({}));
    let store: Arc<dyn Store> = Arc::new(store);
    let location = Location::parse("memory");
    let found = AnnData::open_in(Arc::clone(&store), location)
        .await
        .unwrap_err()
        .to_string();
    assert!(found.contains("var is missing; it holds obs"), "{found}");
    let elements = inspect_elements(&store, &ElementKey::root()).await.unwrap();
    let keys: Vec<_> = elements
        .iter()
        .map(|element| element.key.as_str())
        .collect();
    assert_eq!(keys, ["obs", "obs/a"]);
}

#[tokio::test]
async fn groups_without_end_are_refused() {
    let mut store = MemoryStore::object(3, 2);
    let mut path = "uns".to_owned();
    for _ in 0..80 {
        store.group(&path, json!({}));
        path.push_str("/u");
    }
    let object = open(store).await.unwrap();
    assert!(object.elements().await.is_err());
    assert!(object.uns_leaves().await.is_err());
}

#[tokio::test]
async fn an_index_of_numbers_becomes_names() {
    let mut store = MemoryStore::object(3, 2);
    store.dataset("obs/_index", ints(&[7, 8, 9]), json!({}));
    let object = open(store).await.unwrap();
    let (rows, metrics) = (RowSelection::all(3), ReadMetrics::default());
    let names = object.obs().index().read(&rows, &metrics).await.unwrap();
    assert_eq!(
        names.as_string::<i32>(),
        &StringArray::from(vec!["7", "8", "9"])
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// A matrix stored by row and the same matrix stored by column read alike, for any rows.
    #[test]
    fn both_layouts_read_alike(
        cells in prop::collection::vec(prop::bool::weighted(0.3), 60),
        rows in prop::collection::vec(prop::bool::ANY, 12),
    ) {
        let (n_rows, n_cols) = (12usize, 5usize);
        let stored = |row: usize, col: usize| cells[row * n_cols + col];
        let layout = |major: usize, minor: usize, by_row: bool| {
            let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
            for i in 0..major {
                for j in 0..minor {
                    let (row, col) = if by_row { (i, j) } else { (j, i) };
                    if stored(row, col) {
                        indices.push(j as i32);
                        data.push((row * 100 + col) as f32);
                    }
                }
                indptr.push(indices.len() as i32);
            }
            [ints(&indptr), ints(&indices), Arc::new(Float32Array::from(data)) as ArrayRef]
        };
        let mut store = MemoryStore::object(n_rows, n_cols);
        let shape = [n_rows as u64, n_cols as u64];
        store.sparse("X", "csr_matrix", shape, layout(n_rows, n_cols, true));
        store.group("layers", json!({}));
        store.sparse("layers/c", "csc_matrix", shape, layout(n_cols, n_rows, false));
        let wanted = (0u64..).zip(&rows).filter(|(_, wanted)| **wanted).map(|(row, _)| row);
        let rows = RowSelection::from_sorted(wanted).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (x, layer, offsets) = runtime.block_on(async {
            let object = open(store).await.unwrap();
            let metrics = ReadMetrics::default();
            let x = object.x().unwrap();
            let offsets = x.offsets(&rows, &metrics).await.unwrap();
            let layer = object.layers()[0].1.read(&rows, &metrics).await.unwrap();
            (x.read(&rows, &metrics).await.unwrap(), layer, offsets)
        });
        prop_assert_eq!(&x, &layer);
        let lists = x.as_list::<i32>();
        prop_assert_eq!(lists.len() as u64, rows.len());
        for (at, row) in rows.iter().enumerate() {
            prop_assert_eq!(offsets[at], lists.value_offsets()[at] as u64);
            let entries = lists.value(at);
            let entries = entries.as_struct();
            let columns = entries.column(0).as_primitive::<Int32Type>().values().to_vec();
            let expected: Vec<i32> = (0..n_cols).filter(|col| stored(row as usize, *col)).map(|col| col as i32).collect();
            prop_assert_eq!(&columns, &expected);
            let values = entries.column(1).as_primitive::<Float32Type>().values().to_vec();
            let expected: Vec<f32> = expected.iter().map(|col| (row as i32 * 100 + col) as f32).collect();
            prop_assert_eq!(values, expected);
        }
    }
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

/// An object of three cells and two genes whose X has these parts.
fn csr(indptr: ArrayRef, indices: ArrayRef, nnz: usize) -> MemoryStore {
    let data = Arc::new(Float32Array::from(vec![1.0; nnz]));
    let mut store = MemoryStore::object(3, 2);
    store.sparse("X", "csr_matrix", [3, 2], [indptr, indices, data]);
    store
}

async fn open(store: MemoryStore) -> annfusion::Result<AnnData> {
    AnnData::open_in(Arc::new(store), Location::parse("memory")).await
}

/// All of X, or the message.
async fn read_x(store: MemoryStore) -> Result<ArrayRef, String> {
    let object = open(store).await.map_err(|error| error.to_string())?;
    let x = object.x().unwrap();
    let rows = RowSelection::all(object.n_obs());
    x.read(&rows, &ReadMetrics::default())
        .await
        .map_err(|error| error.to_string())
}
