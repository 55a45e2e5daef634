//! The HDF5 reader beside the reference library: same bytes, same text, from every found file.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not know their helpers"
)]

use std::sync::Arc;

use annfusion::model::{ElementKey, Location, RowSelection};
use annfusion::store::{self, NodeKind, ReadMetrics, Store};
use arrow::array::{Array, ArrayRef, AsArray};
use hdf5::types::{FixedAscii, TypeDescriptor, VarLenAscii, VarLenUnicode};

use crate::shared_objects;

fn files() -> Vec<String> {
    let mut files: Vec<_> = shared_objects()
        .into_iter()
        .map(|object| object.split('#').next().unwrap().to_owned())
        .collect();
    files.dedup();
    files
}

pub async fn open(path: &str) -> annfusion::Result<Arc<dyn Store>> {
    store::open(&Location::parse(path)).await
}

/// Every node below `key`, depth first.
async fn walk(store: &Arc<dyn Store>) -> annfusion::Result<Vec<(ElementKey, NodeKind)>> {
    let mut found = Vec::new();
    let mut todo = vec![ElementKey::root()];
    while let Some(key) = todo.pop() {
        let kind = store.node(&key).await?.unwrap();
        found.push((key.clone(), kind));
        if kind == NodeKind::Group && key.as_str().split('/').count() < 20 {
            let children = store.children(&key).await?;
            todo.extend(children.iter().map(|name| key.child(name)));
        }
    }
    Ok(found)
}

#[tokio::test]
async fn every_found_dataset_reads_as_the_library_reads_it() {
    let (mut compared, mut problems) = (0, Vec::new());
    for path in files() {
        match compare(&path, &mut problems).await {
            Ok(n) => compared += n,
            Err(error) => problems.push(error.to_string()),
        }
    }
    eprintln!("{compared} datasets compared");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

async fn compare(path: &str, problems: &mut Vec<String>) -> annfusion::Result<usize> {
    let mut compared = 0;
    let store = open(path).await?;
    let library = hdf5::File::open(path).unwrap();
    for (key, kind) in walk(&store).await? {
        if let Err(error) = store.attributes(&key).await {
            problems.push(error.to_string());
        }
        if kind == NodeKind::Group {
            continue;
        }
        let reader = store.array(&key).await?;
        let info = reader.info();
        let rows = RowSelection::all(info.len());
        let values = match reader.read(&rows, &ReadMetrics::default()).await {
            Ok(values) => values,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        assert_eq!(
            Some(values.data_type()),
            info.dtype.arrow().as_ref(),
            "{path} {key}"
        );
        let dataset = library.dataset(key.as_str()).unwrap();
        if let Some(expected) = library_values(&dataset) {
            compared += 1;
            if ours(&values) != expected {
                problems.push(format!("{path} {key}: {} differs", info.dtype));
            }
        }
    }
    Ok(compared)
}

/// Values in a form that both sides can give: bytes of numbers, or texts.
#[derive(Debug, PartialEq)]
enum Values {
    Bytes(Vec<u8>),
    Texts(Vec<String>),
}

fn ours(array: &ArrayRef) -> Values {
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Values::Texts(texts.iter().map(|t| t.unwrap().to_owned()).collect());
    }
    if let Some(bools) = array.as_boolean_opt() {
        return Values::Bytes(bools.values().iter().map(u8::from).collect());
    }
    let data = array.to_data();
    Values::Bytes(data.buffers()[0].as_slice().to_vec())
}

fn library_values(dataset: &hdf5::Dataset) -> Option<Values> {
    let dtype = dataset.dtype().unwrap();
    let n = dataset.size();
    if dataset.space().ok()?.is_null() {
        return None;
    }
    Some(match dtype.to_descriptor().ok()? {
        TypeDescriptor::VarLenUnicode => Values::Texts(
            dataset
                .read_raw::<VarLenUnicode>()
                .unwrap()
                .iter()
                .map(|t| t.to_string())
                .collect(),
        ),
        TypeDescriptor::VarLenAscii => Values::Texts(
            dataset
                .read_raw::<VarLenAscii>()
                .unwrap()
                .iter()
                .map(|t| t.to_string())
                .collect(),
        ),
        TypeDescriptor::FixedAscii(size) if size <= 64 => Values::Texts(
            dataset
                .read_raw::<FixedAscii<64>>()
                .unwrap()
                .iter()
                .map(|t| t.to_string())
                .collect(),
        ),
        TypeDescriptor::Integer(_)
        | TypeDescriptor::Unsigned(_)
        | TypeDescriptor::Float(_)
        | TypeDescriptor::Boolean
        | TypeDescriptor::Enum(_) => {
            let mut bytes = vec![0u8; n * dtype.size()];
            let native = unsafe {
                hdf5_sys::h5t::H5Tget_native_type(dtype.id(), hdf5_sys::h5t::H5T_DIR_ASCEND)
            };
            let status = hdf5::sync::sync(|| unsafe {
                hdf5_sys::h5d::H5Dread(
                    dataset.id(),
                    native,
                    hdf5_sys::h5s::H5S_ALL,
                    hdf5_sys::h5s::H5S_ALL,
                    hdf5_sys::h5p::H5P_DEFAULT,
                    bytes.as_mut_ptr().cast(),
                )
            });
            assert!(status >= 0);
            Values::Bytes(bytes)
        }
        _ => return None,
    })
}
