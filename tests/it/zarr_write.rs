//! Stores that the writer makes, as the reader reads them: random types, shapes, chunks, shards and
//! codecs, in appends of random lengths. What zarr-python makes of them is tested in Python.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annfusion::Error;
use annfusion::model::{DType, ElementKey, Location, RowSelection, StructField};
use annfusion::store::{
    ArrayReader, ArraySpec, Attributes, Compression, Extent, Format, Pieces, ReadMetrics, Run,
    WriteTarget, ZarrVersion, create, gather_runs, open,
};
use arrow::array::*;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field};
use proptest::prelude::*;

use crate::support::fill;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Zstd(0),
    Compression::Gzip(1),
    Compression::BloscLz4(5),
    Compression::BloscZstd(1),
];

/// One array to write.
#[derive(Debug, Clone)]
struct Case {
    kind: usize,
    rows: u64,
    tail: Vec<u64>,
    growing: bool,
    pieces: Option<(u64, u64)>,
    codec: usize,
    /// 0 is version 2, 1 is 3, 2 is 3 with shards.
    form: usize,
    /// Rows of an append.
    step: u64,
    /// How many of the values are fill values, of 8.
    zeros: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = (0usize..7, 0u64..200, prop::collection::vec(0u64..7, 0..3));
    let form = (any::<bool>(), 0usize..CODECS.len(), 0usize..3);
    let pieces = prop::option::of((1u64..70, 1u64..4));
    (size, form, pieces, 1u64..90, 0u64..9).prop_map(|(size, form, pieces, step, zeros)| {
        let (kind, rows, tail) = size;
        let (growing, codec, form) = form;
        Case {
            kind,
            rows,
            // Records have one axis.
            tail: if kind == 6 { Vec::new() } else { tail },
            growing,
            pieces: pieces.map(|(chunk, n)| (chunk, chunk * n)),
            codec,
            form,
            step,
            zeros,
        }
    })
}

/// A type and `n` values of it.
fn values(case: &Case, n: usize) -> (DType, ArrayRef) {
    let is_zero = |i: usize| (i as u64 * 7 + 3) % 8 < case.zeros;
    let number = |i: usize| {
        if is_zero(i) {
            0
        } else {
            i8::try_from(i % 97).unwrap() + 1
        }
    };
    let text = |i: usize| {
        let text = "aé日🦀".repeat(i % 3) + &i.to_string();
        if is_zero(i) { String::new() } else { text }
    };
    match case.kind {
        0 => (
            DType::Bool,
            Arc::new(BooleanArray::new(
                BooleanBuffer::collect_bool(n, |i| !is_zero(i)),
                None,
            )),
        ),
        1 => (
            DType::Int8,
            Arc::new(Int8Array::from_iter_values((0..n).map(number))),
        ),
        2 => (
            DType::UInt16,
            Arc::new(UInt16Array::from_iter_values(
                (0..n).map(|i| u16::from(number(i).unsigned_abs())),
            )),
        ),
        3 => (
            DType::Int64,
            Arc::new(Int64Array::from_iter_values(
                (0..n).map(|i| i64::from(number(i))),
            )),
        ),
        4 => (
            // A negative zero is no fill value.
            DType::Float64,
            Arc::new(Float64Array::from_iter_values((0..n).map(|i| {
                if i % 5 == 0 {
                    -0.0
                } else {
                    f64::from(number(i)) / 3.0
                }
            }))),
        ),
        5 => (
            DType::String,
            Arc::new(StringArray::from_iter_values((0..n).map(text))),
        ),
        _ => {
            let field = |name: &str, dtype: DType| StructField {
                name: name.to_owned(),
                dtype,
            };
            let dtype = DType::Struct(vec![
                field("n", DType::Int32),
                field("s", DType::String),
                field("b", DType::Bool),
            ]);
            let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
                (
                    Arc::new(Field::new("n", DataType::Int32, false)),
                    Arc::new(Int32Array::from_iter_values(
                        (0..n).map(|i| i32::from(number(i))),
                    )),
                ),
                (
                    Arc::new(Field::new("s", DataType::Utf8, false)),
                    Arc::new(StringArray::from_iter_values((0..n).map(text))),
                ),
                (
                    Arc::new(Field::new("b", DataType::Boolean, false)),
                    Arc::new(BooleanArray::from_iter((0..n).map(|i| Some(!is_zero(i))))),
                ),
            ];
            let array: ArrayRef = match n {
                0 => new_empty_array(&dtype.arrow().unwrap()),
                _ => Arc::new(StructArray::from(columns)),
            };
            (dtype, array)
        }
    }
}

fn target(path: &Path, form: usize) -> WriteTarget {
    let (version, sharded) = [
        (ZarrVersion::V2, false),
        (ZarrVersion::V3, false),
        (ZarrVersion::V3, true),
    ][form];
    WriteTarget {
        path: path.to_owned(),
        format: Format::Zarr { version, sharded },
        overwrite: false,
        fsync: form == 0,
        run_bytes: 0,
        consolidated: true,
    }
}

async fn survives(case: Case) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.zarr");
    let row_len: u64 = case.tail.iter().product();
    let (dtype, expected) = values(&case, usize::try_from(case.rows * row_len).unwrap());
    let writer = create(&target(&path, case.form)).await.unwrap();
    let growing = case.growing && row_len > 0;
    let spec = ArraySpec {
        dtype: dtype.clone(),
        extent: match growing {
            true => Extent::Growing(case.tail.clone()),
            false => Extent::Fixed([&[case.rows], case.tail.as_slice()].concat()),
        },
        appendable: true,
        compression: CODECS[case.codec],
        pieces: case.pieces.map(|(chunk, shard)| Pieces::new(chunk, shard)),
        attributes: Attributes::from_iter([("encoding-type".to_owned(), "array".into())]),
    };
    // Twins, of which the second has no chunk that the first has not.
    let keys = ["a", "b"].map(ElementKey::new);
    let mut arrays = Vec::new();
    for key in &keys {
        let array = writer.create_array(key, spec.clone()).await;
        arrays.push(array.unwrap());
    }
    let step = usize::try_from(case.step * row_len).unwrap().max(1);
    fill(arrays, &expected, step).await;
    writer.close().await.unwrap();
    assert!(!path.exists());
    writer.commit().await.unwrap();
    drop(writer);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "leftovers");

    let store = open(&Location::parse(path.to_str().unwrap()))
        .await
        .unwrap();
    for key in &keys {
        let array = store.array(key).await.unwrap();
        let attributes = store.attributes(key).await.unwrap();
        assert_eq!(attributes["encoding-type"], "array");
        check_array(array, &case, &dtype, &expected).await;
    }
}

/// An array is of the case's cut, and the expected values in any order.
async fn check_array(array: Arc<dyn ArrayReader>, case: &Case, dtype: &DType, expected: &ArrayRef) {
    let row_len: u64 = case.tail.iter().product();
    let info = array.info();
    assert_eq!(info.dtype, *dtype);
    assert_eq!(info.shape, [&[case.rows], case.tail.as_slice()].concat());
    if let (Some((chunk, _)), true) = (case.pieces, case.kind != 6) {
        assert_eq!(info.chunk_shape.as_ref().unwrap()[0], chunk);
    }
    let metrics = ReadMetrics::default();
    let all = array.read(&RowSelection::all(case.rows), &metrics).await;
    assert_eq!(&bits(&all.unwrap()), &bits(expected));
    // A part, from the middle of chunks.
    let (from, to) = (case.rows / 3, case.rows - case.rows / 4);
    if from < to {
        let part = array.read(&RowSelection::range(from..to), &metrics).await;
        let at = |row: u64| usize::try_from(row * row_len).unwrap();
        let expected = expected.slice(at(from), at(to) - at(from));
        assert_eq!(&bits(&part.unwrap()), &bits(&expected));
    }
    // Runs in another order, some rows twice.
    let n = case.rows;
    let runs = [
        n * 2 / 3..n,
        0..n / 2,
        n / 3..n / 3,
        n / 3..n / 2 + n % 2,
        n / 5..n / 4,
    ];
    check_runs(&array, &runs, expected, row_len).await;
}

/// Runs of an array are what stands there in order.
async fn check_runs(
    array: &Arc<dyn ArrayReader>,
    runs: &[Range<u64>],
    all: &ArrayRef,
    row_len: u64,
) {
    let at = |row: u64| usize::try_from(row * row_len).unwrap();
    // All in one, and one by one.
    for lists in [vec![runs], runs.chunks(1).collect(), vec![&[], runs, &[]]] {
        let run = |run: &Range<u64>| Run {
            array: 0,
            start: run.start,
            len: run.end - run.start,
        };
        let wanted: Vec<Vec<Run>> = lists
            .iter()
            .map(|runs| runs.iter().map(run).collect())
            .collect();
        let metrics = ReadMetrics::default();
        let found = gather_runs(&[Arc::clone(array)], &wanted.into(), &metrics).await;
        let found = found.unwrap();
        assert_eq!(found.len(), lists.len());
        for (found, runs) in found.iter().zip(lists) {
            let mut parts: Vec<ArrayRef> = vec![all.slice(0, 0)];
            parts.extend(
                runs.iter()
                    .map(|r| all.slice(at(r.start), at(r.end) - at(r.start))),
            );
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            let expected = arrow::compute::concat(&parts).unwrap();
            assert_eq!(&bits(found), &bits(&expected));
        }
    }
}

/// Chunks of several blocks, of which parts are undone.
#[tokio::test]
async fn runs_of_long_chunks_come_to_their_places() {
    const N: u64 = 200_000;
    let zarr = CODECS.map(|codec| (Format::ZARR, codec));
    let h5ad = [Compression::None, Compression::Gzip(1), Compression::Lzf]
        .map(|codec| (Format::H5ad, codec));
    for (format, codec) in zarr
        .into_iter()
        .chain([(Format::ZARR, Compression::BloscLz4(3))])
        .chain(h5ad)
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("x.{}", format.ending()));
        let to = WriteTarget {
            format,
            ..target(&path, 2)
        };
        let writer = create(&to).await.unwrap();
        let mut rng = 1u64;
        let mut random = move |n: u64| {
            rng = rng
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (rng >> 33) % n
        };
        // Counts, sorted positions, noise.
        let counts: Vec<f32> = (0..N)
            .map(|_| f32::from(u8::try_from(random(9)).unwrap()))
            .collect();
        let positions: Vec<u16> = (0..N)
            .map(|i| u16::try_from(i * 37 % 20_000).unwrap())
            .collect();
        let noise: Vec<i64> = (0..N)
            .map(|_| i64::from_ne_bytes((random(1 << 40) << 20 | random(1 << 20)).to_ne_bytes()))
            .collect();
        let arrays: [(&str, DType, ArrayRef); 3] = [
            (
                "counts",
                DType::Float32,
                Arc::new(Float32Array::from(counts)),
            ),
            (
                "positions",
                DType::UInt16,
                Arc::new(UInt16Array::from(positions)),
            ),
            ("noise", DType::Int64, Arc::new(Int64Array::from(noise))),
        ];
        for (name, dtype, values) in &arrays {
            let spec = ArraySpec {
                dtype: dtype.clone(),
                extent: Extent::Fixed(vec![N]),
                appendable: true,
                compression: codec,
                pieces: matches!(format, Format::Zarr { .. }).then(|| Pieces::new(90_001, 180_002)),
                attributes: Attributes::new(),
            };
            let mut array = writer
                .create_array(&ElementKey::new(name), spec)
                .await
                .unwrap();
            array.append(Arc::clone(values)).await.unwrap();
            array.finish().await.unwrap();
        }
        writer.close().await.unwrap();
        writer.commit().await.unwrap();
        let store = open(&Location::parse(path.to_str().unwrap()))
            .await
            .unwrap();
        for (name, _, values) in &arrays {
            let array = store.array(&ElementKey::new(name)).await.unwrap();
            // Zarr that is not compressed is read in order and copied.
            let straight = codec != Compression::None || format == Format::H5ad;
            assert_eq!(array.scattered().is_some(), straight, "{name} {codec:?}");
            for _ in 0..20 {
                let runs = (0..30).map(|_| {
                    let start = random(N);
                    let most = if random(9) == 0 { N } else { 2000 };
                    start..N.min(start + random(most))
                });
                check_runs(&array, &runs.collect::<Vec<_>>(), values, 1).await;
            }
        }
    }
}

/// Parts of chunks of blosc are undone by code of our own: whatever the bytes, there is a value or an
/// error.
#[tokio::test]
async fn runs_of_garbled_chunks_are_values_or_errors() {
    const N: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.zarr");
    let key = ElementKey::new("a");
    let to = WriteTarget {
        format: Format::Zarr {
            version: ZarrVersion::V3,
            sharded: false,
        },
        ..target(&path, 2)
    };
    let writer = create(&to).await.unwrap();
    let spec = ArraySpec {
        dtype: DType::UInt32,
        extent: Extent::Fixed(vec![N]),
        appendable: true,
        compression: Compression::BloscLz4(3),
        pieces: Some(Pieces::new(N, N)),
        attributes: Attributes::new(),
    };
    let mut array = writer.create_array(&key, spec).await.unwrap();
    let values = UInt32Array::from_iter_values((0..60_000).map(|i| i * 7 % 1000));
    array.append(Arc::new(values)).await.unwrap();
    array.finish().await.unwrap();
    writer.close().await.unwrap();
    writer.commit().await.unwrap();
    let chunk = path.join("a/c/0");
    let whole = std::fs::read(&chunk).unwrap();
    let runs: Arc<[Vec<Run>]> = vec![vec![
        Run {
            array: 0,
            start: 100,
            len: 50,
        },
        Run {
            array: 0,
            start: 20_000,
            len: 30_000,
        },
    ]]
    .into();
    let (mut refused, mut seed) = (0, 1u64);
    for case in 0..2000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut garbled = whole.clone();
        // The header and the index of blocks more often than what is compressed.
        let most = if case % 2 == 0 { 64 } else { garbled.len() };
        let at = usize::try_from(seed >> 33).unwrap() % most.min(garbled.len());
        match case % 5 {
            0 => garbled.truncate(at),
            _ => garbled[at] ^= u8::try_from(seed >> 24 & 0xff).unwrap().max(1),
        }
        std::fs::write(&chunk, &garbled).unwrap();
        let store = open(&Location::parse(path.to_str().unwrap()))
            .await
            .unwrap();
        let array = store.array(&key).await.unwrap();
        match gather_runs(&[array], &runs, &ReadMetrics::default()).await {
            Ok(found) => assert_eq!(found[0].len(), 30_050),
            Err(error) => {
                assert!(error.to_string().contains('a'), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused} of 2000 were refused");
}

/// Values whose equality tells zeros apart.
fn bits(values: &ArrayRef) -> ArrayRef {
    match values.as_primitive_opt::<arrow::datatypes::Float64Type>() {
        Some(values) => Arc::new(UInt64Array::from_iter_values(
            values.values().iter().map(|v| v.to_bits()),
        )),
        None => Arc::clone(values),
    }
}

#[test]
fn arrays_survive_in_any_chunks() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    };
    proptest!(config, |(case in cases())| runtime.block_on(survives(case)));
}

#[tokio::test]
async fn long_arrays_are_cut_while_they_come() {
    for (growing, kind) in [(true, 3), (false, 3), (true, 5), (false, 4)] {
        let case = Case {
            kind,
            rows: 1_300_000,
            tail: Vec::new(),
            growing,
            pieces: None,
            codec: 1,
            form: 2,
            step: 70_001,
            zeros: 1,
        };
        survives(case).await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_what_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.zarr");
    let writer = create(&target(&path, 2)).await.unwrap();
    let key = ElementKey::new("g");
    writer.create_group(&key, &Attributes::new()).await.unwrap();
    drop(writer);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn nodes_cannot_be_called_like_documents() {
    let dir = tempfile::tempdir().unwrap();
    let writer = create(&target(&dir.path().join("x.zarr"), 2))
        .await
        .unwrap();
    for name in ["zarr.json", ".zgroup", "a/.."] {
        let (key, attributes) = (ElementKey::new(name), Attributes::new());
        let error = writer.create_group(&key, &attributes).await.unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn absurd_shards_are_bounded_and_absurd_chunks_refused() {
    let dir = tempfile::tempdir().unwrap();
    let writer = create(&target(&dir.path().join("x.zarr"), 2))
        .await
        .unwrap();
    let spec = |pieces| ArraySpec {
        dtype: DType::Int64,
        extent: Extent::Growing(Vec::new()),
        appendable: false,
        compression: Compression::Zstd(0),
        pieces: Some(pieces),
        attributes: Attributes::new(),
    };
    let key = ElementKey::new("a");
    let wide = spec(Pieces::new(1, u64::MAX));
    let mut array = writer.create_array(&key, wide).await.unwrap();
    let values = Int64Array::from_iter_values(1..10);
    array.append(Arc::new(values)).await.unwrap();
    array.finish().await.unwrap();
    let high = spec(Pieces::new(u64::MAX, u64::MAX));
    let mut array = writer.create_array(&key, high).await.unwrap();
    let values = Int64Array::from_iter_values(1..10);
    array.append(Arc::new(values)).await.unwrap();
    let error = array.finish().await.unwrap_err();
    assert!(error.to_string().contains("is the most"), "{error}");
}
