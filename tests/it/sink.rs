//! Objects written by the sink are the objects that were read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use annfusion::element::{AnnData, ColumnReader, Frame, MatrixReader, Storage};
use annfusion::model::{
    AxisRegistry, FieldMeta, Location, OBJECT_COLUMN, ROW_COLUMN, RowSelection, VarAxis,
};
use annfusion::sink::{FinishedObject, ObjectSink, ObjectSize, SinkOptions};
use annfusion::store::{Compression, ReadMetrics};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, DictionaryArray, DurationSecondArray,
    FixedSizeListArray, Float32Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef, UInt8Type};
use arrow::util::display::array_value_to_string;

use crate::{shared, shared_objects};

#[tokio::test(flavor = "multi_thread")]
async fn found_objects_survive() {
    for name in shared_objects() {
        let Ok(object) = AnnData::open(&Location::parse(&name)).await else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.h5ad");
        let rows = RowSelection::all(object.n_obs());
        let size = Some(rows.len());
        let finished = write(&object, &rows, size, &path, &SinkOptions::default()).await;
        assert_eq!(finished.warnings(), &[] as &[String], "{name}");
        finished.commit().await.unwrap();
        let copy = AnnData::open(&Location::parse(path.to_str().unwrap()))
            .await
            .unwrap();
        assert_same(&object, &copy, &rows, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_rows_of_found_objects_survive_compression() {
    let options = SinkOptions {
        storage: Storage {
            compression: Compression::Gzip(1),
            ..Storage::default()
        },
        ..SinkOptions::default()
    };
    for name in shared_objects() {
        let Ok(object) = AnnData::open(&Location::parse(&name)).await else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.h5ad");
        let n = object.n_obs();
        let rows = RowSelection::from_ranges([n / 7..n / 3, n / 2..n / 2 + 1, n - n / 4..n]);
        let finished = write(&object, &rows, None, &path, &options).await;
        finished.commit().await.unwrap();
        let copy = AnnData::open(&Location::parse(path.to_str().unwrap()))
            .await
            .unwrap();
        assert_same(&object, &copy, &rows, &name).await;
    }
}

/// obsp follows rows in any order, repeats included.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_rows() {
    let Some(path) = shared("data/found/soma-pbmc-small.h5ad") else {
        return;
    };
    let object = open(&path).await;
    let all = RowSelection::all(object.n_obs());
    let columns = cells(&object);
    let schema = cells_schema(&object, &columns);
    let order = [7_u64, 3, 3, 79, 0, 41];
    let batch = batch(&object, &columns, &schema, &all).await;
    let batch = take_record_batch(&batch, &UInt64Array::from(order.to_vec())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.h5ad");
    let copy = write_batch(&batch, &path).await.unwrap();
    let before = dense(object.obsp()[0].1.as_ref(), &all).await;
    let after = dense(copy.obsp()[0].1.as_ref(), &RowSelection::all(6)).await;
    for (i, a) in order.iter().enumerate() {
        for (j, b) in order.iter().enumerate() {
            assert_eq!(after.get(&(i, j)), before.get(&(index(*a), index(*b))));
        }
    }
    assert!(!before.is_empty());
}

/// What is aligned to genes follows a selection of them.
#[tokio::test(flavor = "multi_thread")]
async fn some_genes() {
    let Some(path) = shared("data/found/duckdb-test_obsp_varp.h5ad") else {
        return;
    };
    let object = open(&path).await;
    let axis = object.var_axis().await.unwrap();
    let genes = [2_u64, 3, 30];
    let names: StringArray = genes
        .iter()
        .map(|g| Some(axis.names().value(index(*g))))
        .collect();
    let cut = VarAxis::new(names, axis.source().cloned(), Some(genes.to_vec()));
    let cut = AxisRegistry::global().register(Arc::new(cut));
    let meta = FieldMeta {
        axis: Some(cut.id().to_owned()),
        ..FieldMeta::default()
    };
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let x = Field::new("X", DataType::FixedSizeList(Arc::clone(&item), 3), false);
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1., 2., 3.]));
    let values = FixedSizeListArray::new(item, 3, values, None);
    let schema = Arc::new(Schema::new(vec![meta.apply(x)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = write_batch(&batch, &folder.path().join("copy.h5ad"))
        .await
        .unwrap();
    let rows = RowSelection::from_sorted(genes).unwrap();
    let all = RowSelection::all(3);
    assert_column(object.var().index(), &rows, copy.var().index(), &all, "var").await;
    for ((_, a), (_, b)) in object.varm().iter().zip(copy.varm()) {
        assert_column(a, &rows, b, &all, "varm").await;
    }
    let before = dense(
        object.varp()[0].1.as_ref(),
        &RowSelection::all(object.n_vars()),
    )
    .await;
    let after = dense(copy.varp()[0].1.as_ref(), &all).await;
    assert_eq!(after.get(&(1, 2)), before.get(&(3, 30)));
    assert_eq!(copy.n_vars(), 3);
}

/// Columns that a query made, without metadata.
#[tokio::test(flavor = "multi_thread")]
async fn derived_columns() {
    let colours: DictionaryArray<UInt8Type> = ["red", "blue", "red"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "n",
            Arc::new(Int16Array::from(vec![Some(1), None, Some(3)])),
        ),
        ("m", Arc::new(Int16Array::from(vec![1, 2, 3]))),
        (
            "t",
            Arc::new(StringArray::from(vec![Some("a"), None, None])),
        ),
        (
            "f",
            Arc::new(Float32Array::from(vec![Some(1.), None, None])),
        ),
        ("day", Arc::new(Date32Array::from(vec![0, 1, 2]))),
        ("colour", Arc::new(colours)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, values)| (name, values, true)),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = write_batch(&batch, &folder.path().join("copy.h5ad"))
        .await
        .unwrap();
    let columns = copy.obs().columns();
    let encodings: Vec<_> = columns
        .iter()
        .map(|c| FieldMeta::of(c.field()).encoding.unwrap())
        .collect();
    let expected = [
        "nullable-integer",
        "array",
        "nullable-string-array",
        "array",
        "string-array",
        "categorical",
    ];
    assert_eq!(encodings, expected);
    let all = RowSelection::all(3);
    let days = read(columns[4].as_ref(), &all).await;
    assert_eq!(days.as_string::<i32>().value(2), "1970-01-03");
    let names = read(copy.obs().index().as_ref(), &all).await;
    assert_eq!(names.as_string::<i32>().value(2), "2");
    assert_eq!((copy.n_vars(), copy.x().is_some()), (0, false));
}

/// What cannot be written is refused with the column's name, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.h5ad");
    let spans: ArrayRef = Arc::new(DurationSecondArray::from(vec![1]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    for (name, values, message) in [
        ("span", spans, "column 'span' is of type Duration(s)"),
        (
            "a/b",
            Arc::clone(&numbers),
            "column name 'a/b' holds a slash",
        ),
        ("_index", numbers, "column name '_index' is reserved"),
    ] {
        let batch = RecordBatch::try_from_iter([(name, values)]).unwrap();
        let error = write_batch(&batch, &path).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

async fn write_batch(batch: &RecordBatch, path: &Path) -> annfusion::Result<Arc<AnnData>> {
    let (size, options) = (ObjectSize::default(), SinkOptions::default());
    let mut sink = ObjectSink::create(path, &batch.schema(), &size, &options).await?;
    sink.append(batch).await?;
    sink.finish().await?.commit().await?;
    Ok(open(path).await)
}

async fn open(path: &Path) -> Arc<AnnData> {
    let location = Location::parse(path.to_str().unwrap());
    AnnData::open(&location).await.unwrap()
}

/// A matrix by position, zeros aside.
async fn dense(matrix: &dyn MatrixReader, rows: &RowSelection) -> HashMap<(usize, usize), String> {
    let values = read(matrix, rows).await;
    let mut found = HashMap::new();
    for i in 0..values.len() {
        let (indices, data): (Vec<usize>, ArrayRef) = match values.as_list_opt::<i32>() {
            Some(rows) => {
                let row = rows.value(i);
                let entries = row.as_struct();
                let indices = entries.column(0).as_primitive::<Int32Type>();
                let indices = indices
                    .values()
                    .iter()
                    .map(|j| usize::try_from(*j).unwrap());
                (indices.collect(), Arc::clone(entries.column(1)))
            }
            None => {
                let row = values.as_fixed_size_list().value(i);
                ((0..row.len()).collect(), row)
            }
        };
        for (at, j) in indices.into_iter().enumerate() {
            let value = array_value_to_string(&data, at).unwrap();
            if value != "0.0" {
                found.insert((i, j), value);
            }
        }
    }
    found
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

/// Writes rows of an object as a scan of `cells` with provenance would bring them.
async fn write(
    object: &Arc<AnnData>,
    rows: &RowSelection,
    size: Option<u64>,
    path: &Path,
    options: &SinkOptions,
) -> FinishedObject {
    let columns = cells(object);
    let schema = cells_schema(object, &columns);
    let size = ObjectSize {
        rows: size,
        ..ObjectSize::default()
    };
    let mut sink = ObjectSink::create(path, &schema, &size, options)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", object.location()));
    let step = rows.len() / 3 + 1;
    for start in (0..rows.len()).step_by(usize::try_from(step).unwrap()) {
        let batch = batch(object, &columns, &schema, &rows.slice(start..start + step)).await;
        sink.append(&batch)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", object.location()));
    }
    sink.finish()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", object.location()))
}

/// The columns of `cells`, by the names they have there.
fn cells(object: &AnnData) -> Vec<(String, Arc<dyn ColumnReader>)> {
    let column =
        |reader: &Arc<dyn ColumnReader>| (reader.field().name().clone(), Arc::clone(reader));
    let mut columns = vec![column(object.obs().index())];
    for (name, reader) in object.obs().columns().iter().map(column) {
        let reserved = ["X", "raw_X", "obs_names", "obs_idx"].contains(&name.as_str());
        let taken = reserved || name.starts_with("layers_") || name.starts_with("obsm_");
        columns.push((if taken { format!("obs.{name}") } else { name }, reader));
    }
    if let Some(x) = object.x() {
        columns.push(("X".to_owned(), Arc::clone(x) as Arc<dyn ColumnReader>));
    }
    for (name, layer) in object.layers() {
        columns.push((format!("layers_{name}"), Arc::clone(layer) as _));
    }
    for (name, element) in object.obsm() {
        columns.push((format!("obsm_{name}"), Arc::clone(element)));
    }
    if let Some(x) = object.raw().and_then(|raw| raw.x()) {
        columns.push(("raw_X".to_owned(), Arc::clone(x) as _));
    }
    columns
}

fn cells_schema(object: &AnnData, columns: &[(String, Arc<dyn ColumnReader>)]) -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields: Vec<FieldRef> = columns
        .iter()
        .map(|(name, reader)| {
            let field = reader.field().as_ref().clone();
            let mut meta = FieldMeta::of(&field);
            meta.name = name.strip_prefix("obs.").map(str::to_owned);
            Arc::new(meta.apply(field).with_name(name))
        })
        .collect();
    let meta = FieldMeta {
        object: Some(object.location().to_string()),
        ..FieldMeta::default()
    };
    fields.push(Arc::new(meta.apply(Field::new(OBJECT_COLUMN, text, false))));
    fields.push(Arc::new(Field::new(ROW_COLUMN, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

async fn batch(
    object: &AnnData,
    columns: &[(String, Arc<dyn ColumnReader>)],
    schema: &SchemaRef,
    rows: &RowSelection,
) -> RecordBatch {
    let mut arrays = Vec::new();
    for (_, reader) in columns {
        arrays.push(reader.read(rows, &ReadMetrics::default()).await.unwrap());
    }
    let n = usize::try_from(rows.len()).unwrap();
    let location: ArrayRef = Arc::new(StringArray::from(vec![object.location().to_string()]));
    let keys = Int32Array::from(vec![0; n]);
    arrays.push(Arc::new(DictionaryArray::new(keys, location)));
    let positions = rows.iter().map(|row| i64::try_from(row).unwrap());
    arrays.push(Arc::new(Int64Array::from_iter_values(positions)));
    RecordBatch::try_new(Arc::clone(schema), arrays).unwrap()
}

async fn assert_same(a: &AnnData, b: &AnnData, rows: &RowSelection, name: &str) {
    assert_eq!(b.n_obs(), rows.len(), "{name}");
    let all = RowSelection::all(rows.len());
    let (ours, theirs) = (cells(b), cells(a));
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for ((ours, b), (theirs, a)) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{name}");
        assert_column(a, rows, b, &all, name).await;
    }
    let (genes, raw) = (RowSelection::all(a.n_vars()), a.raw().zip(b.raw()));
    assert_frame(a.var(), b.var(), &genes, name).await;
    for ((_, a), (_, b)) in a.varm().iter().zip(b.varm()) {
        assert_column(a, &genes, b, &genes, name).await;
    }
    for ((_, a), (_, b)) in a.varp().iter().zip(b.varp()) {
        let (a, b) = (
            read(a.as_ref(), &genes).await,
            read(b.as_ref(), &genes).await,
        );
        assert_eq!(&a, &b, "{name}");
    }
    if let Some((a, b)) = raw {
        let genes = RowSelection::all(a.var().n_rows());
        assert_frame(a.var(), b.var(), &genes, name).await;
    }
    assert_eq!(keys(a.varm()), keys(b.varm()), "{name}");
    assert_eq!(keys(a.varp()), keys(b.varp()), "{name}");
    assert_eq!(keys(a.obsp()), keys(b.obsp()), "{name}");
    assert_eq!(a.raw().is_some(), b.raw().is_some(), "{name}");
    if rows.len() == a.n_obs() {
        for ((_, a), (_, b)) in a.obsp().iter().zip(b.obsp()) {
            let (a, b) = (read(a.as_ref(), rows).await, read(b.as_ref(), rows).await);
            assert_eq!(&a, &b, "{name}");
        }
    }
    let (ours, theirs) = (b.uns_leaves().await.unwrap(), a.uns_leaves().await.unwrap());
    let leaf = |leaf: &annfusion::element::UnsLeaf| format!("{} = {}", leaf.path, leaf.value);
    let ours: Vec<_> = ours.iter().map(leaf).collect();
    assert_eq!(ours, theirs.iter().map(leaf).collect::<Vec<_>>(), "{name}");
}

fn keys<T>(elements: &[(String, T)]) -> Vec<&str> {
    elements.iter().map(|(name, _)| name.as_str()).collect()
}

async fn assert_frame(a: &Frame, b: &Frame, rows: &RowSelection, name: &str) {
    assert_eq!(a.index_name(), b.index_name(), "{name}");
    assert_eq!(a.columns().len(), b.columns().len(), "{name}");
    assert_column(a.index(), rows, b.index(), rows, name).await;
    for (a, b) in a.columns().iter().zip(b.columns()) {
        assert_eq!(a.field().name(), b.field().name(), "{name}");
        assert_column(a, rows, b, rows, name).await;
    }
}

async fn assert_column(
    a: &Arc<dyn ColumnReader>,
    rows: &RowSelection,
    b: &Arc<dyn ColumnReader>,
    all: &RowSelection,
    name: &str,
) {
    let what = format!("{name}: {} and {}", a.key(), b.key());
    assert_eq!(a.field().data_type(), b.field().data_type(), "{what}");
    let (before, after) = (FieldMeta::of(a.field()), FieldMeta::of(b.field()));
    assert_eq!(before.categories, after.categories, "{what}");
    assert_eq!(before.ordered, after.ordered, "{what}");
    assert_eq!(before.na_value, after.na_value, "{what}");
    let (a, b) = (read(a.as_ref(), rows).await, read(b.as_ref(), all).await);
    assert_eq!(&a, &b, "{what}");
}

async fn read(reader: &(impl ColumnReader + ?Sized), rows: &RowSelection) -> ArrayRef {
    reader.read(rows, &ReadMetrics::default()).await.unwrap()
}
