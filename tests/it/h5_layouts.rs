//! The HDF5 reader on files written here: every layout and filter, row selections across chunks,
//! and files that lie.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not know their helpers"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use annfusion::Error;
use annfusion::model::{ElementKey, RowSelection};
use annfusion::store::{NodeKind, ReadMetrics, Store};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat;
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type};
use hdf5::file::LibraryVersion;
use hdf5::types::VarLenUnicode;
use tempfile::TempDir;

use crate::h5_read::open;
use crate::shared;

const ROWS: usize = 1003;

/// Numbers without a pattern.
fn values(n: usize) -> Vec<i32> {
    (0..n)
        .map(|i| i32::try_from(i * 7919 % 10_007).unwrap())
        .collect()
}

/// One file with an array of each kind, all of 1,003 rows, in the format of h5py's default.
fn write(folder: &TempDir) -> PathBuf {
    write_between(folder, (LibraryVersion::Earliest, LibraryVersion::V110))
}

/// The same in any format: chunks are indexed in five ways by now.
fn write_between(folder: &TempDir, (low, high): (LibraryVersion, LibraryVersion)) -> PathBuf {
    let path = folder.path().join(format!("layouts_{low:?}.h5"));
    let file = hdf5::File::with_options()
        .with_fapl(|fapl| fapl.libver_bounds(low, high))
        .create(&path)
        .unwrap();
    let new = || file.new_dataset::<i32>();
    let fill = |dataset: hdf5::Dataset| dataset.write_raw(&values(dataset.size())).unwrap();
    fill(new().shape(ROWS).create("contiguous").unwrap());
    fill(new().shape(ROWS).chunk(64).create("chunked").unwrap());
    fill(
        new()
            .shape(ROWS)
            .chunk(64)
            .deflate(4)
            .create("gzip")
            .unwrap(),
    );
    fill(
        new()
            .shape(ROWS)
            .chunk(100)
            .shuffle()
            .deflate(1)
            .create("gzip_shuffle")
            .unwrap(),
    );
    fill(new().shape(ROWS).chunk(64).lzf().create("lzf").unwrap());
    fill(
        new()
            .shape(ROWS)
            .chunk(64)
            .shuffle()
            .lzf()
            .create("lzf_shuffle")
            .unwrap(),
    );
    fill(
        new()
            .shape(ROWS)
            .chunk(64)
            .fletcher32()
            .create("fletcher")
            .unwrap(),
    );
    fill(
        new()
            .shape(ROWS)
            .chunk(64)
            .shuffle()
            .deflate(9)
            .fletcher32()
            .create("all")
            .unwrap(),
    );
    fill(
        new()
            .shape(ROWS)
            .chunk(64)
            .nbit()
            .create("library")
            .unwrap(),
    );
    fill(new().shape((ROWS, 7)).create("contiguous_2d").unwrap());
    fill(
        new()
            .shape((ROWS, 7))
            .chunk((10, 7))
            .deflate(1)
            .create("whole_rows")
            .unwrap(),
    );
    fill(
        new()
            .shape((ROWS, 7))
            .chunk((10, 3))
            .create("grid")
            .unwrap(),
    );
    fill(
        new()
            .shape((ROWS, 7))
            .chunk((10, 3))
            .lzf()
            .create("grid_lzf")
            .unwrap(),
    );
    fill(
        new()
            .shape((ROWS, 5, 9))
            .chunk((16, 2, 4))
            .deflate(1)
            .create("grid_3d")
            .unwrap(),
    );
    fill(
        new()
            .shape((ROWS, 2, 3, 4))
            .chunk((300, 2, 2, 3))
            .create("grid_4d")
            .unwrap(),
    );
    let grown = new()
        .shape((ROWS - 500..,))
        .chunk(64)
        .fill_value(-7)
        .create("grown")
        .unwrap();
    fill(grown.clone());
    grown.resize(ROWS).unwrap();
    fill(
        new()
            .shape((ROWS.., 7..))
            .chunk((10, 3))
            .create("both_grow")
            .unwrap(),
    );
    fill(
        new()
            .shape(ROWS)
            .chunk(ROWS)
            .deflate(1)
            .create("one_chunk")
            .unwrap(),
    );
    let unwritten = new().shape((ROWS, 7)).chunk((10, 3)).fill_value(5);
    unwritten.create("unwritten").unwrap();
    let texts: Vec<VarLenUnicode> = (0..ROWS)
        .map(|i| "é".repeat(i % 5).parse().unwrap())
        .collect();
    let text = file.new_dataset::<VarLenUnicode>().shape(ROWS);
    text.create("text").unwrap().write_raw(&texts).unwrap();
    let text = file
        .new_dataset::<VarLenUnicode>()
        .shape(ROWS)
        .chunk(64)
        .deflate(3);
    text.create("text_gzip").unwrap().write_raw(&texts).unwrap();
    path
}

async fn read(store: &Arc<dyn Store>, name: &str, rows: &RowSelection) -> ArrayRef {
    let reader = store.array(&ElementKey::new(name)).await.unwrap();
    reader.read(rows, &ReadMetrics::default()).await.unwrap()
}

#[tokio::test]
async fn every_layout_reads_what_was_written() {
    let folder = TempDir::new().unwrap();
    for bounds in [
        (LibraryVersion::Earliest, LibraryVersion::V110),
        (LibraryVersion::V18, LibraryVersion::V18),
        (LibraryVersion::V110, LibraryVersion::V110),
        (LibraryVersion::V112, LibraryVersion::V114),
        (LibraryVersion::latest(), LibraryVersion::latest()),
    ] {
        let path = write_between(&folder, bounds);
        check_values(path.to_str().unwrap()).await;
    }
}

async fn check_values(path: &str) {
    let store = open(path).await.unwrap();
    for name in store.children(&ElementKey::root()).await.unwrap() {
        let array = read(&store, &name, &RowSelection::all(1003)).await;
        let Some(numbers) = array.as_primitive_opt::<Int32Type>() else {
            let texts = array.as_string::<i32>();
            let expected = (0..ROWS).map(|i| "é".repeat(i % 5));
            assert!(
                texts.iter().eq(expected
                    .map(Some)
                    .collect::<Vec<_>>()
                    .iter()
                    .map(Option::as_deref)),
                "{path} {name}"
            );
            continue;
        };
        let mut expected = values(numbers.len());
        match name.as_str() {
            "grown" => expected[ROWS - 500..].fill(-7),
            "unwritten" => expected.fill(5),
            _ => {}
        }
        assert_eq!(numbers.values()[..], expected, "{path} {name}");
    }
}

#[tokio::test]
async fn selected_rows_are_slices_of_the_whole() {
    let folder = TempDir::new().unwrap();
    let store = open(write(&folder).to_str().unwrap()).await.unwrap();
    let selections: [&[std::ops::Range<u64>]; 6] = [
        &[0..1, 5..7],
        &[64..65, 1002..1003],
        &[3..64, 64..65, 100..300],
        &[9..11, 19..21, 640..641, 700..702],
        &[63..65, 127..129, 400..1003],
        &[],
    ];
    for name in store.children(&ElementKey::root()).await.unwrap() {
        let whole = read(&store, &name, &RowSelection::all(1003)).await;
        let row = whole.len() / ROWS;
        for ranges in selections {
            let rows = RowSelection::from_ranges(ranges.iter().cloned());
            let got = read(&store, &name, &rows).await;
            let at = |n: u64| usize::try_from(n).unwrap() * row;
            let mut parts = vec![whole.slice(0, 0)];
            parts.extend(
                ranges
                    .iter()
                    .map(|r| whole.slice(at(r.start), at(r.end - r.start))),
            );
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            assert_eq!(&got, &concat(&parts).unwrap(), "{name} {ranges:?}");
        }
    }
}

#[tokio::test]
async fn a_scan_in_small_steps_decodes_each_chunk_once() {
    let folder = TempDir::new().unwrap();
    let store = open(write(&folder).to_str().unwrap()).await.unwrap();
    let reader = store.array(&"gzip".into()).await.unwrap();
    let metrics = ReadMetrics::default();
    for start in (0..1003).step_by(17) {
        let rows = RowSelection::range(start..(start + 17).min(1003));
        reader.read(&rows, &metrics).await.unwrap();
    }
    assert_eq!(metrics.chunks(), 16);
    let metrics = ReadMetrics::default();
    reader
        .read(&RowSelection::range(70..71), &metrics)
        .await
        .unwrap();
    assert_eq!(metrics.chunks(), 1);
    let contiguous = store.array(&"contiguous".into()).await.unwrap();
    let metrics = ReadMetrics::default();
    contiguous
        .read(&RowSelection::range(70..80), &metrics)
        .await
        .unwrap();
    assert_eq!((metrics.bytes(), metrics.chunks()), (40, 1));
}

#[tokio::test]
async fn rows_past_the_end_are_out_of_range() {
    let folder = TempDir::new().unwrap();
    let store = open(write(&folder).to_str().unwrap()).await.unwrap();
    let reader = store.array(&"gzip".into()).await.unwrap();
    let result = reader
        .read(&RowSelection::all(1004), &ReadMetrics::default())
        .await;
    assert!(matches!(
        result,
        Err(Error::OutOfRange {
            position: 1003,
            len: 1003,
            ..
        })
    ));
    assert!(matches!(
        store.array(&"nothing".into()).await,
        Err(Error::ElementNotFound { .. })
    ));
    assert!(store.node(&"gzip/deeper".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn no_more_is_reserved_than_a_file_can_hold() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("claims.h5");
    let file = hdf5::File::create(&path).unwrap();
    let new = || file.new_dataset::<i64>();
    drop(
        new()
            .shape(1usize << 50)
            .chunk(1000)
            .deflate(1)
            .create("chunked")
            .unwrap(),
    );
    drop(
        new()
            .shape((1usize << 20, 1 << 30))
            .chunk((1, 1 << 20))
            .create("grid")
            .unwrap(),
    );
    drop(new().shape(1usize << 50).create("contiguous").unwrap());
    // Values of another array are no reason to give more fill values.
    let others = vec![1i64; 1 << 17];
    let dataset = new().shape(others.len()).create("others").unwrap();
    dataset.write_raw(&others).unwrap();
    drop(dataset);
    let many = 1usize << 25;
    drop(new().shape(many).chunk(1000).create("fill").unwrap());
    drop(new().shape(many).create("fill_run").unwrap());
    drop(new().shape((1usize << 40, 0)).create("uns/a").unwrap());
    drop(new().shape((1, 1usize << 40, 0)).create("uns/b").unwrap());
    file.close().unwrap();
    let store = open(path.to_str().unwrap()).await.unwrap();
    let leaves = annfusion::element::uns_leaves(&store, &"uns".into()).await;
    assert!(leaves.unwrap().iter().all(|leaf| leaf.value == "null"));
    for name in ["chunked", "grid", "contiguous", "fill", "fill_run"] {
        let reader = store.array(&name.into()).await.unwrap();
        let all = RowSelection::all(reader.info().len());
        let result = reader.read(&all, &ReadMetrics::default()).await;
        assert!(
            matches!(result, Err(Error::InvalidElement { .. })),
            "{name}"
        );
    }
    let one = read(
        &store,
        "chunked",
        &RowSelection::range(1 << 40..(1 << 40) + 2),
    )
    .await;
    assert_eq!(one.as_primitive::<Int64Type>().values()[..], [0, 0]);
}

#[tokio::test]
async fn both_byte_orders_read_alike() {
    use hdf5::globals::{H5T_IEEE_F64BE, H5T_NATIVE_INT16, H5T_STD_I16BE};
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("big.h5");
    let file = hdf5::File::create(&path).unwrap();
    let numbers: Vec<i16> = (-5..5).collect();
    write_as(&file, "i16", *H5T_STD_I16BE, *H5T_NATIVE_INT16, &numbers);
    write_as(&file, "f64", *H5T_IEEE_F64BE, *H5T_NATIVE_INT16, &numbers);
    file.close().unwrap();
    let store = open(path.to_str().unwrap()).await.unwrap();
    let i16 = read(&store, "i16", &RowSelection::all(10)).await;
    assert_eq!(i16.as_primitive::<Int16Type>().values()[..], numbers);
    let f64 = read(&store, "f64", &RowSelection::range(8..10)).await;
    assert_eq!(f64.as_primitive::<Float64Type>().values()[..], [3.0, 4.0]);
}

fn write_as(file: &hdf5::File, name: &str, stored: i64, given: i64, values: &[i16]) {
    use hdf5_sys::{h5d, h5p::H5P_DEFAULT, h5s};
    let name = std::ffi::CString::new(name).unwrap();
    let len = [values.len() as u64];
    hdf5::sync::sync(|| unsafe {
        let space = h5s::H5Screate_simple(1, len.as_ptr(), std::ptr::null());
        let dataset = h5d::H5Dcreate2(
            file.id(),
            name.as_ptr(),
            stored,
            space,
            H5P_DEFAULT,
            H5P_DEFAULT,
            H5P_DEFAULT,
        );
        let all = h5s::H5S_ALL;
        h5d::H5Dwrite(
            dataset,
            given,
            all,
            all,
            H5P_DEFAULT,
            values.as_ptr().cast(),
        );
        h5d::H5Dclose(dataset);
        h5s::H5Sclose(space);
    });
}

#[tokio::test]
async fn links_are_followed_or_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("links.h5");
    // The format that h5py writes; in groups of the newer one the parser sees no such links.
    let file = hdf5::File::with_options()
        .with_fapl(|fapl| fapl.libver_bounds(LibraryVersion::Earliest, LibraryVersion::V110))
        .create(&path)
        .unwrap();
    let group = file.create_group("group").unwrap();
    let one = group.new_dataset::<i64>().shape(2).create("one").unwrap();
    one.write_raw(&[1i64, 2]).unwrap();
    group.link_soft("/group/one", "soft").unwrap();
    group.link_soft("/group/nowhere", "dangling").unwrap();
    group.link_soft("/group/loop", "loop").unwrap();
    drop((one, group, file));
    let store = open(path.to_str().unwrap()).await.unwrap();
    let names = store.children(&"group".into()).await.unwrap();
    assert_eq!(names, ["dangling", "loop", "one", "soft"]);
    for name in ["group/one", "group/soft"] {
        let array = read(&store, name, &RowSelection::all(2)).await;
        assert_eq!(
            array.as_primitive::<Int64Type>().values()[..],
            [1, 2],
            "{name}"
        );
    }
    let message = |r: annfusion::Result<Option<NodeKind>>| r.unwrap_err().to_string();
    assert!(message(store.node(&"group/dangling".into()).await).contains("group/nowhere"));
    assert!(message(store.node(&"group/loop".into()).await).contains("group/loop"));
}

#[tokio::test]
async fn what_is_no_file_is_said() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing.h5ad");
    let text = folder.path().join("text.h5ad");
    std::fs::write(&text, "cell,gene\n1,2\n").unwrap();
    let cut = folder.path().join("cut.h5ad");
    let whole = std::fs::read(write(&folder)).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    for (path, reason) in [
        (&missing, "no such file"),
        (
            &text,
            "neither an HDF5 file nor a zip archive (starts with \"cell,gen\")",
        ),
        (&cut, "truncated"),
    ] {
        let error = open(path.to_str().unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::StoreNotFound { .. }));
        let message = error.to_string();
        assert!(
            message.contains(reason) && message.contains(path.to_str().unwrap()),
            "{message}"
        );
    }
}

/// Broken copies give errors or values, in time; what matters is that nothing panics or hangs.
#[tokio::test]
async fn broken_files_do_no_harm() {
    let folder = TempDir::new().unwrap();
    let mut originals = vec![write(&folder)];
    let found = ["bpcells-mini_mat.anndata-v0.7.h5ad", "anndata-v0.11.4.h5ad"];
    originals.extend(
        found
            .iter()
            .filter_map(|f| shared(&format!("data/found/{f}"))),
    );
    let broken = folder.path().join("broken.h5");
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).unwrap()
    };
    for original in originals {
        let bytes = std::fs::read(&original).unwrap();
        for round in 0..60 {
            let mut copy = bytes.clone();
            match round % 3 {
                0 => copy.truncate(random(bytes.len())),
                1 => copy[random(bytes.len().min(8192))] = u8::try_from(random(256)).unwrap(),
                _ => (0..30).for_each(|_| {
                    copy[random(bytes.len())] = u8::try_from(random(256)).unwrap();
                }),
            }
            std::fs::write(&broken, copy).unwrap();
            let started = Instant::now();
            read_all(&broken).await;
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{original:?} round {round}"
            );
        }
    }
}

/// Reads whatever can be read. Altered links can make a loop, which is the walker's to end.
async fn read_all(path: &Path) {
    let Ok(store) = open(path.to_str().unwrap()).await else {
        return;
    };
    let mut todo = vec![ElementKey::root()];
    for _ in 0..1000 {
        let Some(key) = todo.pop() else { return };
        let _ = store.attributes(&key).await;
        let children = store.children(&key).await.unwrap_or_default();
        todo.extend(children.iter().map(|name| key.child(name)));
        let Ok(reader) = store.array(&key).await else {
            continue;
        };
        let rows = RowSelection::all(reader.info().len());
        let _ = reader.read(&rows, &ReadMetrics::default()).await;
    }
}
