//! Files that the writer makes, as the reference library reads them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::path::Path;
use std::sync::Arc;

use annfusion::model::{DType, ElementKey, StructField};
use annfusion::store::{
    ArraySpec, Attributes, Compression, Extent, Format, StoreWriter, WriteTarget, create,
};
use annfusion::{Error, Result};
use arrow::array::*;
use arrow::datatypes::{DataType, Field};
use hdf5::types::{TypeDescriptor, VarLenUnicode};
use serde_json::json;

use crate::support::fill;

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip(4), Compression::Lzf];

#[tokio::test]
async fn numbers_come_back_in_every_layout() {
    let dir = tempfile::tempdir().unwrap();
    // Lengths around and beyond chunk borders, in appends that straddle them.
    for (case, len) in [0usize, 1, 1000, 262_144, 300_001, 1_500_000]
        .into_iter()
        .enumerate()
    {
        let values: Vec<i32> = (0..len)
            .map(|i| i32::try_from(i / 3 % 1000).unwrap())
            .collect();
        let path = dir.path().join(format!("{case}.h5ad"));
        let writer = create(&target(&path)).await.unwrap();
        let mut names = Vec::new();
        for compression in COMPRESSIONS {
            for appendable in [false, true] {
                for extent in [Extent::Fixed(vec![len as u64]), Extent::Growing(vec![])] {
                    let name = format!("a{}", names.len());
                    let spec = ArraySpec {
                        appendable,
                        compression,
                        ..plain(DType::Int32, extent)
                    };
                    let mut array = writer.create_array(&key(&name), spec).await.unwrap();
                    for part in values.chunks(70_001) {
                        array
                            .append(Arc::new(Int32Array::from(part.to_vec())))
                            .await
                            .unwrap();
                    }
                    array.finish().await.unwrap();
                    names.push((name, appendable));
                }
            }
        }
        finish(writer).await.unwrap();
        let file = hdf5::File::open(&path).unwrap();
        for (name, appendable) in names {
            let dataset = file.dataset(&name).unwrap();
            assert_eq!(dataset.shape(), [len], "{name}");
            assert_eq!(
                dataset.read_raw::<i32>().unwrap(),
                values,
                "{name} of {len}"
            );
            assert!(!appendable || dataset.is_resizable() && dataset.is_chunked());
        }
    }
}

#[tokio::test]
async fn twins_are_stored_as_each_would_be_alone() {
    let dir = tempfile::tempdir().unwrap();
    let len = 1_200_007;
    // Some that get smaller, and some that do not.
    let noise = |i: i32| i.wrapping_mul(-1_640_531_527) ^ (i >> 3).wrapping_mul(2_024_237_689);
    let values: Vec<i32> = (0..len)
        .map(|i| {
            if i % 400_000 < 200_000 {
                i / 3
            } else {
                noise(i)
            }
        })
        .collect();
    let mut sizes = Vec::new();
    for n in [1, 2] {
        let path = dir.path().join(format!("{n}.h5ad"));
        let writer = create(&target(&path)).await.unwrap();
        let mut arrays = Vec::new();
        for at in 0..n {
            let spec = ArraySpec {
                appendable: true,
                compression: Compression::Gzip(4),
                ..plain(DType::Int32, Extent::Fixed(vec![values.len() as u64]))
            };
            let array = writer.create_array(&key(&format!("a{at}")), spec).await;
            arrays.push(array.unwrap());
        }
        let all: ArrayRef = Arc::new(Int32Array::from(values.clone()));
        fill(arrays, &all, 300_001).await;
        finish(writer).await.unwrap();
        let file = hdf5::File::open(&path).unwrap();
        for at in 0..n {
            let dataset = file.dataset(&format!("a{at}")).unwrap();
            assert!(dataset.read_raw::<i32>().unwrap() == values, "a{at} of {n}");
            sizes.push(dataset.storage_size());
        }
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    assert!(sizes[0] < values.len() as u64 * 4);
}

#[tokio::test]
async fn a_run_too_large_for_the_page_cache_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for run_bytes in [0, u64::MAX] {
        let path = dir.path().join(format!("{run_bytes}.h5ad"));
        let to = WriteTarget {
            run_bytes,
            ..target(&path)
        };
        let writer = create(&to).await.unwrap();
        for (name, appendable) in [("a", false), ("b", true)] {
            let values: Vec<i32> = (0..3_000_001).collect();
            let spec = ArraySpec {
                appendable,
                ..plain(DType::Int32, Extent::Fixed(vec![3_000_001]))
            };
            let mut array = writer.create_array(&key(name), spec).await.unwrap();
            for part in values.chunks(70_001) {
                let part = Int32Array::from(part.to_vec());
                array.append(Arc::new(part)).await.unwrap();
            }
            array.finish().await.unwrap();
        }
        finish(writer).await.unwrap();
        files.push(std::fs::read(&path).unwrap());
    }
    assert!(files[0] == files[1], "the files differ");
}

#[tokio::test]
async fn rows_of_two_axes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    for (rows, cols) in [(700usize, 300usize), (3, 700_000), (5, 0)] {
        let values: Vec<f64> = (0..rows * cols).map(|i| (i % 911) as f64).collect();
        for compression in COMPRESSIONS {
            for grow in [false, true] {
                let extent = match grow {
                    true => Extent::Growing(vec![cols as u64]),
                    false => Extent::Fixed(vec![rows as u64, cols as u64]),
                };
                let name = format!("{rows}-{compression:?}-{grow}");
                let spec = ArraySpec {
                    compression,
                    ..plain(DType::Float64, extent)
                };
                let mut array = writer.create_array(&key(&name), spec).await.unwrap();
                for part in values.chunks((cols * 2).max(1)) {
                    array
                        .append(Arc::new(Float64Array::from(part.to_vec())))
                        .await
                        .unwrap();
                }
                array.finish().await.unwrap();
            }
        }
    }
    finish(writer).await.unwrap();
    let file = hdf5::File::open(&path).unwrap();
    for (rows, cols) in [(700usize, 300usize), (3, 700_000)] {
        let values: Vec<f64> = (0..rows * cols).map(|i| (i % 911) as f64).collect();
        for compression in COMPRESSIONS {
            for grow in [false, true] {
                let name = format!("{rows}-{compression:?}-{grow}");
                let dataset = file.dataset(&name).unwrap();
                assert_eq!(dataset.shape(), [rows, cols]);
                assert!(dataset.read_raw::<f64>().unwrap() == values, "{name}");
            }
        }
    }
    assert_eq!(file.dataset("5-None-false").unwrap().shape(), [5, 0]);
}

#[tokio::test]
async fn every_type_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let complex: ArrayRef = Arc::new(StructArray::from(vec![
        (
            field("re", DataType::Float32),
            Arc::new(Float32Array::from(vec![1., 3.])) as ArrayRef,
        ),
        (
            field("im", DataType::Float32),
            Arc::new(Float32Array::from(vec![2., 4.])) as ArrayRef,
        ),
    ]));
    let half = Float16Array::from_iter_values([1.5f32, -2.0].map(half::f16::from_f32));
    let cases: Vec<(&str, DType, ArrayRef)> = vec![
        (
            "bool",
            DType::Bool,
            Arc::new(BooleanArray::from(vec![true, false])),
        ),
        ("i1", DType::Int8, Arc::new(Int8Array::from(vec![-1, 2]))),
        (
            "u2",
            DType::UInt16,
            Arc::new(UInt16Array::from(vec![1, 65_535])),
        ),
        (
            "i8",
            DType::Int64,
            Arc::new(Int64Array::from(vec![i64::MIN, 2])),
        ),
        ("f2", DType::Float16, Arc::new(half)),
        (
            "f8",
            DType::Float64,
            Arc::new(Float64Array::from(vec![0.1, f64::NAN])),
        ),
        ("c8", DType::Complex64, complex),
    ];
    for (name, dtype, values) in &cases {
        assert_eq!(dtype.arrow().as_ref(), Some(values.data_type()));
        write(
            &writer,
            name,
            plain(dtype.clone(), Extent::Fixed(vec![2])),
            values,
        )
        .await
        .unwrap();
        let scalar = values.slice(1, 1);
        write(
            &writer,
            &format!("s_{name}"),
            plain(dtype.clone(), Extent::Scalar),
            &scalar,
        )
        .await
        .unwrap();
    }
    let null = writer
        .create_array(&key("null"), plain(DType::Float32, Extent::Null))
        .await;
    null.unwrap().finish().await.unwrap();
    finish(writer).await.unwrap();

    let file = hdf5::File::open(&path).unwrap();
    let read = |name: &str| file.dataset(name).unwrap();
    assert_eq!(read("bool").read_raw::<bool>().unwrap(), [true, false]);
    assert!(!read("s_bool").read_scalar::<bool>().unwrap());
    assert_eq!(read("i1").read_raw::<i8>().unwrap(), [-1, 2]);
    assert_eq!(read("u2").read_raw::<u16>().unwrap(), [1, 65_535]);
    assert_eq!(read("i8").read_raw::<i64>().unwrap(), [i64::MIN, 2]);
    assert_eq!(
        read("s_f8").read_scalar::<f64>().unwrap().to_bits(),
        f64::NAN.to_bits()
    );
    // Half is read as single: the library converts.
    assert_eq!(read("f2").read_raw::<f32>().unwrap(), [1.5, -2.0]);
    assert_eq!(read("f2").dtype().unwrap().size(), 2);
    let TypeDescriptor::Compound(parts) = read("c8").dtype().unwrap().to_descriptor().unwrap()
    else {
        panic!("complex numbers are records");
    };
    assert_eq!(
        parts
            .fields
            .iter()
            .map(|f| f.name.as_str())
            .collect::<Vec<_>>(),
        ["r", "i"]
    );
    assert_eq!(parts.size, 8);
    assert!(read("null").is_null_space());
}

trait NullSpace {
    fn is_null_space(&self) -> bool;
}

impl NullSpace for hdf5::Dataset {
    fn is_null_space(&self) -> bool {
        self.space().unwrap().is_null()
    }
}

#[tokio::test]
async fn texts_of_any_kind_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let texts: Vec<String> = (0..40_000)
        .map(|i| match i % 5 {
            0 => String::new(),
            1 => "Zelltyp β ☂".to_owned(),
            2 => "x".repeat(i % 97),
            // Longer than a collection of the heap usually is.
            3 if i % 1000 == 3 => "y".repeat(4000 + i),
            _ => format!("cell-{i}"),
        })
        .collect();
    let kinds: [ArrayRef; 3] = [
        Arc::new(StringArray::from_iter_values(&texts)),
        Arc::new(LargeStringArray::from_iter_values(&texts)),
        Arc::new(StringViewArray::from_iter_values(&texts)),
    ];
    let mut names = Vec::new();
    for (kind, values) in kinds.iter().enumerate() {
        for extent in [Extent::Fixed(vec![40_000]), Extent::Growing(vec![])] {
            for compression in COMPRESSIONS {
                let name = format!("{kind}-{}", names.len());
                let spec = ArraySpec {
                    compression,
                    ..plain(DType::String, extent.clone())
                };
                let mut array = writer.create_array(&key(&name), spec).await.unwrap();
                for from in (0..40_000).step_by(15_000) {
                    let len = 15_000.min(40_000 - from);
                    array.append(values.slice(from, len)).await.unwrap();
                }
                array.finish().await.unwrap();
                names.push(name);
            }
        }
    }
    let grid: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "", "d", "e", "f"]));
    let spec = plain(DType::String, Extent::Fixed(vec![3, 2]));
    write(&writer, "grid", spec, &grid).await.unwrap();
    let nulls: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    write(
        &writer,
        "nulls",
        plain(DType::String, Extent::Growing(vec![])),
        &nulls,
    )
    .await
    .unwrap();
    let one: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    write(&writer, "one", plain(DType::String, Extent::Scalar), &one)
        .await
        .unwrap();
    let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    for extent in [Extent::Fixed(vec![0]), Extent::Growing(vec![])] {
        let name = format!("none-{extent:?}");
        write(&writer, &name, plain(DType::String, extent), &none)
            .await
            .unwrap();
    }
    finish(writer).await.unwrap();

    let file = hdf5::File::open(&path).unwrap();
    for name in names {
        assert_eq!(strings(&file, &name), texts, "{name}");
    }
    assert_eq!(strings(&file, "grid"), ["a", "b", "", "d", "e", "f"]);
    assert_eq!(file.dataset("grid").unwrap().shape(), [3, 2]);
    assert_eq!(strings(&file, "nulls"), ["a", ""]);
    assert_eq!(strings(&file, "none-Fixed([0])"), [""; 0]);
    let one = file
        .dataset("one")
        .unwrap()
        .read_scalar::<VarLenUnicode>()
        .unwrap();
    assert_eq!(one.as_str(), "one");
}

#[tokio::test]
async fn records_hold_texts_and_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let member = |name: &str, dtype| StructField {
        name: name.to_owned(),
        dtype,
    };
    let dtype = DType::Struct(vec![
        member("name", DType::String),
        member("score", DType::Float32),
        member("pair", DType::FixedArray(Box::new(DType::Int16), 2)),
        member("flag", DType::Bool),
    ]);
    let DataType::Struct(fields) = dtype.arrow().unwrap() else {
        panic!("records are structs")
    };
    let values: ArrayRef = Arc::new(StructArray::new(
        fields.clone(),
        vec![
            Arc::new(StringArray::from(vec!["ä", "", "c"])),
            Arc::new(Float32Array::from(vec![1., 2., 3.])),
            Arc::new(FixedSizeListArray::new(
                item_of(&fields[2]),
                2,
                Arc::new(Int16Array::from(vec![1, 2, 3, 4, 5, 6])),
                None,
            )),
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ],
        None,
    ));
    for (i, compression) in COMPRESSIONS.into_iter().enumerate() {
        let fixed = plain(dtype.clone(), Extent::Fixed(vec![2]));
        let spec = ArraySpec {
            compression,
            ..fixed
        };
        write(&writer, &format!("r{i}"), spec, &values.slice(1, 2))
            .await
            .unwrap();
    }
    let spec = plain(dtype.clone(), Extent::Scalar);
    write(&writer, "one", spec, &values.slice(0, 1))
        .await
        .unwrap();
    finish(writer).await.unwrap();

    #[derive(hdf5::H5Type, Clone, PartialEq, Debug)]
    #[repr(C)]
    struct Row {
        name: VarLenUnicode,
        score: f32,
        pair: [i16; 2],
        flag: bool,
    }
    let row = |name: &str, score, pair, flag| Row {
        name: name.parse().unwrap(),
        score,
        pair,
        flag,
    };
    let file = hdf5::File::open(&path).unwrap();
    for i in 0..3 {
        let rows = file
            .dataset(&format!("r{i}"))
            .unwrap()
            .read_raw::<Row>()
            .unwrap();
        assert_eq!(
            rows,
            [row("", 2., [3, 4], false), row("c", 3., [5, 6], true)]
        );
    }
    let one = file.dataset("one").unwrap().read_scalar::<Row>().unwrap();
    assert_eq!(one, row("ä", 1., [1, 2], true));
}

#[tokio::test]
async fn attributes_have_the_forms_of_h5py() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let long = "x".repeat(100_000);
    let names: Vec<String> = (0..10_000).map(|i| format!("column {i}")).collect();
    let all = attributes(json!({
        "text": "ü", "empty": "", "long": long, "yes": true, "int": -3, "float": 2.5,
        "names": names, "none": [], "shape": [3, 4], "floats": [0.5, 1], "flags": [true, false],
        "näme": 1,
    }));
    writer.create_group(&key("g"), &all).await.unwrap();
    writer
        .set_attributes(&ElementKey::root(), &all)
        .await
        .unwrap();
    writer
        .set_attributes(&key("g"), &attributes(json!({"int": 4})))
        .await
        .unwrap();
    let spec = ArraySpec {
        attributes: all.clone(),
        ..plain(DType::Int8, Extent::Fixed(vec![0]))
    };
    writer
        .create_array(&key("g/a"), spec)
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let bad = writer
        .create_group(&key("h"), &attributes(json!({"a": {"b": 1}})))
        .await;
    assert!(bad.unwrap_err().to_string().contains("h: "));
    finish(writer).await.unwrap();

    let file = hdf5::File::open(&path).unwrap();
    let (group, dataset) = (file.group("g").unwrap(), file.dataset("g/a").unwrap());
    for location in [&*file.group("/").unwrap(), &*group, &*dataset] {
        let text = |name: &str| {
            let attribute = location.attr(name).unwrap();
            attribute
                .read_scalar::<VarLenUnicode>()
                .unwrap()
                .as_str()
                .to_owned()
        };
        assert_eq!(
            (text("text"), text("empty"), text("long")),
            ("ü".into(), "".into(), long.clone())
        );
        let attr = |name: &str| location.attr(name).unwrap();
        assert!(attr("yes").read_scalar::<bool>().unwrap());
        assert_eq!(attr("float").read_scalar::<f64>().unwrap(), 2.5);
        assert_eq!(attr("shape").read_raw::<i64>().unwrap(), [3, 4]);
        assert_eq!(attr("floats").read_raw::<f64>().unwrap(), [0.5, 1.0]);
        assert_eq!(attr("flags").read_raw::<bool>().unwrap(), [true, false]);
        assert_eq!(attr("none").shape(), [0]);
        assert_eq!(
            attr("none").dtype().unwrap().to_descriptor().unwrap(),
            TypeDescriptor::VarLenUnicode
        );
        assert_eq!(
            attr("names").read_raw::<VarLenUnicode>().unwrap().len(),
            10_000
        );
    }
    assert_eq!(group.attr("int").unwrap().read_scalar::<i64>().unwrap(), 4);
}

#[tokio::test]
async fn equal_calls_give_equal_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in ["a.h5ad", "b.h5ad"] {
        let path = dir.path().join(name);
        let writer = create(&target(&path)).await.unwrap();
        for (i, compression) in COMPRESSIONS.into_iter().enumerate() {
            let group = format!("g{i}");
            let named = attributes(json!({"encoding-type": "dict", "shape": [1, 2]}));
            writer.create_group(&key(&group), &named).await.unwrap();
            for (j, extent) in [Extent::Fixed(vec![400_000]), Extent::Growing(vec![])]
                .iter()
                .enumerate()
            {
                let numbers: ArrayRef = Arc::new(Float32Array::from_iter_values(
                    (0..400_000).map(|i| (i % 77) as f32),
                ));
                let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
                    (0..400_000).map(|i| format!("{}", i % 1000)),
                ));
                let spec = |dtype| ArraySpec {
                    compression,
                    appendable: j == 1,
                    ..plain(dtype, extent.clone())
                };
                write(
                    &writer,
                    &format!("{group}/n{j}"),
                    spec(DType::Float32),
                    &numbers,
                )
                .await
                .unwrap();
                if compression != Compression::Lzf {
                    write(
                        &writer,
                        &format!("{group}/t{j}"),
                        spec(DType::String),
                        &texts,
                    )
                    .await
                    .unwrap();
                }
            }
        }
        finish(writer).await.unwrap();
        // Memory is dirty when the second file is written.
        drop(std::hint::black_box(vec![0xA5u8; 64 << 20]));
        files.push(std::fs::read(&path).unwrap());
    }
    assert!(files[0] == files[1]);
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let spec = plain(DType::Int32, Extent::Fixed(vec![10]));
    let mut array = writer.create_array(&key("a"), spec).await.unwrap();
    array
        .append(Arc::new(Int32Array::from(vec![1; 5])))
        .await
        .unwrap();
    assert!(writer.close().await.is_err(), "an array is not finished");
    assert_eq!(names(dir.path()).len(), 1);
    drop(writer);
    assert_eq!(names(dir.path()), [""; 0]);
    drop(array);

    let writer = create(&target(&path)).await.unwrap();
    writer.close().await.unwrap();
    drop(writer);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test]
async fn an_existing_file_stays_until_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5ad");
    std::fs::write(&path, "old").unwrap();
    let refused = create(&target(&path)).await.unwrap_err();
    assert!(matches!(refused, Error::OutputRefused { .. }), "{refused}");

    let overwrite = WriteTarget {
        overwrite: true,
        fsync: true,
        run_bytes: 0,
        ..target(&path)
    };
    let writer = create(&overwrite).await.unwrap();
    assert!(writer.commit().await.is_err(), "the file is not closed");
    writer.close().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    writer.commit().await.unwrap();
    drop(writer);
    assert!(hdf5::File::open(&path).is_ok());
    assert_eq!(names(dir.path()), ["a.h5ad"]);

    // A file that appears in the meantime is not replaced either.
    let late = dir.path().join("late.h5ad");
    let writer = create(&target(&late)).await.unwrap();
    writer.close().await.unwrap();
    std::fs::write(&late, "mine").unwrap();
    assert!(matches!(
        writer.commit().await,
        Err(Error::OutputRefused { .. })
    ));
    drop(writer);
    assert_eq!(std::fs::read(&late).unwrap(), b"mine");
}

#[tokio::test]
async fn what_dead_processes_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let alive = std::process::id();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let dead = dead.id();
    for name in [
        format!(".a.h5ad.{dead}-0.tmp"),
        format!(".a.h5ad.{alive}-9999999.tmp"),
        format!(".b.h5ad.{dead}-0.tmp"),
        format!(".a.h5ad.{dead}.tmp"),
    ] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    drop(create(&target(&dir.path().join("a.h5ad"))).await.unwrap());
    let mut left = vec![
        format!(".a.h5ad.{alive}-9999999.tmp"),
        format!(".b.h5ad.{dead}-0.tmp"),
        format!(".a.h5ad.{dead}.tmp"),
    ];
    left.sort();
    assert_eq!(names(dir.path()), left);
}

#[tokio::test]
async fn mistakes_name_the_file_and_the_element() {
    let dir = tempfile::tempdir().unwrap();
    let missing = create(&target(&dir.path().join("no/a.h5ad")))
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");

    let path = dir.path().join("a.h5ad");
    let writer = create(&target(&path)).await.unwrap();
    let fixed = |n| plain(DType::Int32, Extent::Fixed(vec![n]));
    let values: ArrayRef = Arc::new(Int32Array::from(vec![1; 5]));

    let short = write(&writer, "short", fixed(6), &values)
        .await
        .unwrap_err();
    assert!(
        matches!(
            short,
            Error::LengthMismatch {
                actual: 5,
                expected: 6,
                ..
            }
        ),
        "{short}"
    );
    let long = write(&writer, "long", fixed(4), &values).await.unwrap_err();
    assert!(
        matches!(
            long,
            Error::LengthMismatch {
                actual: 5,
                expected: 4,
                ..
            }
        ),
        "{long}"
    );
    let ragged = plain(DType::Int32, Extent::Growing(vec![2]));
    let ragged = write(&writer, "ragged", ragged, &values).await.unwrap_err();
    assert!(matches!(ragged, Error::InvalidElement { .. }), "{ragged}");

    let orphan = write(&writer, "no/parent", fixed(5), &values)
        .await
        .unwrap_err();
    let twice = write(&writer, "short", fixed(5), &values)
        .await
        .unwrap_err();
    let wrong = plain(DType::Int64, Extent::Fixed(vec![5]));
    let wrong = write(&writer, "wrong", wrong, &values).await.unwrap_err();
    let nul: ArrayRef = Arc::new(StringArray::from(vec!["a\0b"]));
    let text = plain(DType::String, Extent::Fixed(vec![1]));
    let nul = write(&writer, "nul", text, &nul).await.unwrap_err();
    for (error, element) in [
        (orphan, "no/parent"),
        (twice, "short"),
        (wrong, "wrong"),
        (nul, "nul"),
    ] {
        assert!(matches!(error, Error::Store { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(path.to_str().unwrap()) && message.contains(element),
            "{message}"
        );
    }
}

fn target(path: &Path) -> WriteTarget {
    WriteTarget {
        path: path.to_owned(),
        format: Format::H5ad,
        overwrite: false,
        fsync: false,
        run_bytes: 0,
        consolidated: true,
    }
}

fn key(path: &str) -> ElementKey {
    ElementKey::new(path)
}

fn plain(dtype: DType, extent: Extent) -> ArraySpec {
    ArraySpec {
        dtype,
        extent,
        appendable: false,
        compression: Compression::None,
        pieces: None,
        attributes: Attributes::new(),
    }
}

async fn write(
    writer: &Arc<dyn StoreWriter>,
    name: &str,
    spec: ArraySpec,
    values: &ArrayRef,
) -> Result<()> {
    let mut array = writer.create_array(&key(name), spec).await?;
    array.append(Arc::clone(values)).await?;
    array.finish().await
}

async fn finish(writer: Arc<dyn StoreWriter>) -> Result<()> {
    writer.close().await?;
    writer.commit().await
}

fn attributes(value: serde_json::Value) -> Attributes {
    value.as_object().unwrap().clone()
}

fn field(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type, false))
}

fn item_of(list: &Field) -> Arc<Field> {
    match list.data_type() {
        DataType::FixedSizeList(item, _) => Arc::clone(item),
        other => panic!("{other} is no list"),
    }
}

fn strings(file: &hdf5::File, name: &str) -> Vec<String> {
    let dataset = file.dataset(name).unwrap();
    let texts = dataset.read_raw::<VarLenUnicode>().unwrap();
    texts.iter().map(|text| text.as_str().to_owned()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
