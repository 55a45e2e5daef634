//! The HDF5 reader beside the reference library: same bytes, same text, from every found file.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not know their helpers"
)]

use std::sync::Arc;

use annfusion::model::{ElementKey, Location, RowSelection};
use annfusion::store::{self, NodeKind, ReadMetrics, Store};
use arrow::array::{Array, ArrayRef, AsArray};
use hdf5::types::{TypeDescriptor, VarLenAscii, VarLenUnicode};

use crate::shared_objects;

fn files() -> Vec<String> {
    let mut files: Vec<_> = shared_objects()
        .into_iter()
        .filter(|object| !object.contains(".zarr"))
        .map(|object| object.split('#').next().unwrap().to_owned())
        .collect();
    files.dedup();
    files
}

pub(crate) async fn open(path: &str) -> annfusion::Result<Arc<dyn Store>> {
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
        assert_eq!(
            info.null,
            dataset.space().unwrap().is_null(),
            "{path} {key}"
        );
        if let Some(expected) = library_values(&dataset) {
            compared += 1;
            if ours(&values) != expected {
                problems.push(format!("{path} {key}: {} differs", info.dtype));
            }
        }
    }
    Ok(compared)
}

/// Values in a form that both sides can give; [`Values::Unknown`] equals everything.
#[derive(Debug)]
enum Values {
    Bytes(Vec<u8>),
    Texts(Vec<String>),
    Members(Vec<Self>),
    Unknown,
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Texts(a), Self::Texts(b)) => a == b,
            (Self::Members(a), Self::Members(b)) => a == b,
            (Self::Unknown, _) | (_, Self::Unknown) => true,
            _ => false,
        }
    }
}

fn ours(array: &ArrayRef) -> Values {
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Values::Texts(texts.iter().map(|t| t.unwrap().to_owned()).collect());
    }
    if let Some(bools) = array.as_boolean_opt() {
        return Values::Bytes(bools.values().iter().map(u8::from).collect());
    }
    if let Some(records) = array.as_struct_opt() {
        return Values::Members(records.columns().iter().map(ours).collect());
    }
    if let Some(lists) = array.as_fixed_size_list_opt() {
        return ours(lists.values());
    }
    let data = array.to_data();
    let size = data.data_type().primitive_width().unwrap();
    Values::Bytes(data.buffers()[0].as_slice()[..size * data.len()].to_vec())
}

fn library_values(dataset: &hdf5::Dataset) -> Option<Values> {
    if dataset.space().ok()?.is_null() {
        return None;
    }
    let descriptor = dataset.dtype().unwrap().to_descriptor().ok()?;
    Some(match descriptor {
        TypeDescriptor::VarLenUnicode => texts(dataset.read_raw::<VarLenUnicode>().unwrap()),
        TypeDescriptor::VarLenAscii => texts(dataset.read_raw::<VarLenAscii>().unwrap()),
        other => members(&other, &raw(dataset), other.size(), 0),
    })
}

fn texts<T: ToString>(values: Vec<T>) -> Values {
    Values::Texts(values.iter().map(ToString::to_string).collect())
}

/// One member of all records: numbers as bytes, fixed text without its padding.
fn members(dtype: &TypeDescriptor, bytes: &[u8], record: usize, offset: usize) -> Values {
    use TypeDescriptor as T;
    let picked = bytes
        .chunks_exact(record)
        .map(|record| &record[offset..offset + dtype.size()]);
    match dtype {
        T::Integer(_) | T::Unsigned(_) | T::Float(_) | T::Boolean | T::Enum(_) => {
            Values::Bytes(picked.flatten().copied().collect())
        }
        T::FixedAscii(_) | T::FixedUnicode(_) => Values::Texts(
            picked
                .map(|text| {
                    String::from_utf8_lossy(text)
                        .trim_end_matches('\0')
                        .to_owned()
                })
                .collect(),
        ),
        T::FixedArray(item, _) => {
            let items: Vec<u8> = picked.flatten().copied().collect();
            members(item, &items, item.size(), 0)
        }
        T::Compound(compound) => Values::Members(
            compound
                .fields
                .iter()
                .map(|field| members(&field.ty, bytes, record, offset + field.offset))
                .collect(),
        ),
        _ => Values::Unknown,
    }
}

/// The bytes of a dataset as they are on disk.
fn raw(dataset: &hdf5::Dataset) -> Vec<u8> {
    use hdf5_sys::{h5d::H5Dread, h5p::H5P_DEFAULT, h5s::H5S_ALL};
    let dtype = dataset.dtype().unwrap();
    let mut bytes = vec![0u8; dataset.size() * dtype.size()];
    let status = hdf5::sync::sync(|| unsafe {
        let target = bytes.as_mut_ptr().cast();
        H5Dread(
            dataset.id(),
            dtype.id(),
            H5S_ALL,
            H5S_ALL,
            H5P_DEFAULT,
            target,
        )
    });
    assert!(status >= 0);
    bytes
}
