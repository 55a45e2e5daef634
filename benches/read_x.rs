//! Reading all of `X` of a sharded zarr store (blosc, LZ4), against what blosc alone makes of the
//! same chunks on all cores.
//!
//! ```console
//! $ cargo bench --bench read_x
//! ```
//!
//! The store is made first: 40,000 cells, 800 entries a cell (400 cells where it is run as a test). The page cache is warm. "blosc alone"
//! has all encoded chunks in memory and decodes each to its place in memory for all of them that was
//! touched before: no reading, no allocation, no Arrow. "blosc in the cache" decodes each into a buffer of
//! its thread, so that nothing of it ever comes to memory, which no reader can do. "reader" has the object open and reads `X` from the
//! first cell to the last in batches, two at a time as a scan does, indices and values as Arrow owns
//! them, checked. The allocator is that of the command. Bytes are decoded ones.

#![expect(clippy::expect_used, reason = "what fails ends the benchmark")]
#![expect(clippy::print_stdout, reason = "the share is its result")]
#![expect(missing_docs, reason = "criterion's macros make functions without")]

use std::cell::RefCell;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use annfusion::element::{AnnData, MatrixReader};
use annfusion::model::{Location, RowSelection};
use annfusion::ops::{self, Quiet, SynthOptions};
use annfusion::sink::StorageChoice;
use annfusion::store::{Format, ReadMetrics};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use rayon::prelude::*;
use tokio::runtime::Runtime;

/// Cells of a batch: some megabytes, so that most chunks are wanted whole.
const BATCH: u64 = 1000;
/// Turns of both.
const PAIRS: usize = 200;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

thread_local! {
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn read_x(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bench.zarr");
    runtime.block_on(make(&path));
    let location = Location::parse(&path.display().to_string());
    let object = runtime.block_on(AnnData::open(&location)).expect("opens");
    let x = object.x().expect("X").as_ref();
    let bytes = x.shape().nnz.expect("sparse") * 8;

    let chunks = encoded(&path);
    let mut group = criterion.benchmark_group("all of X, zarr, blosc-lz4");
    group.throughput(Throughput::Bytes(bytes)).sample_size(20);
    let mut decoded = vec![1; chunks.iter().map(|chunk| len_of(chunk)).sum()];
    let mut alone = || {
        let mut rest = decoded.as_mut_slice();
        let mut places = Vec::with_capacity(chunks.len());
        for chunk in &chunks {
            places.push(rest.split_off_mut(..len_of(chunk)).expect("room"));
        }
        let pairs = chunks.par_iter().zip(places);
        pairs.for_each(|(chunk, place)| decode(chunk, place));
    };
    group.bench_function("blosc alone", |bencher| bencher.iter(&mut alone));
    group.bench_function("blosc in the cache", |bencher| {
        bencher.iter(|| {
            chunks.par_iter().for_each(|chunk| {
                DECODED.with_borrow_mut(|out| {
                    out.resize(len_of(chunk), 0);
                    decode(chunk, out);
                });
            });
        });
    });
    let reader = || runtime.block_on(read(x));
    group.bench_function("reader", |bencher| bencher.iter(reader));
    group.finish();

    let mut shares: Vec<f64> = (0..if is_measured() { PAIRS } else { 1 })
        .map(|_| {
            seconds(&mut alone)
                / seconds(|| {
                    black_box(reader());
                })
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    println!(
        "reader: {:.0} % of what blosc alone does, in turns (median of {}; quartiles {:.0} %, {:.0} %)",
        100.0 * shares[shares.len() / 2],
        shares.len(),
        100.0 * shares[shares.len() / 4],
        100.0 * shares[3 * shares.len() / 4],
    );
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// Whether it is run to measure, and not as a test.
fn is_measured() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

async fn make(path: &Path) {
    let choice = StorageChoice {
        compression: Some("blosc-lz4".to_owned()),
        ..StorageChoice::default()
    };
    let options = SynthOptions {
        n_obs: if is_measured() { 40_000 } else { 400 },
        n_vars: 20_000,
        mean_genes: Some(800.0),
        storage: choice.in_format(Format::ZARR).expect("a choice"),
        ..SynthOptions::new(path)
    };
    ops::synth(&options, &Quiet).await.expect("a store");
}

async fn read(x: &dyn MatrixReader) -> usize {
    let metrics = ReadMetrics::default();
    let starts = (0..x.len()).step_by(usize::try_from(BATCH).expect("a step"));
    let batches = starts.map(async |start| {
        let rows = RowSelection::range(start..x.len().min(start + BATCH));
        x.read(&rows, &metrics).await.expect("rows")
    });
    let batches = futures::stream::iter(batches).buffered(2);
    let bytes = batches.map(|batch| black_box(batch).get_buffer_memory_size());
    bytes.fold(0, async |sum, bytes| sum + bytes).await
}

/// The inner chunks of `X/data` and `X/indices`, from the indexes of their shards: offset and
/// length of each in words of eight bytes, then a checksum of four (zarr v3, `sharding_indexed`).
fn encoded(store: &Path) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for name in ["data", "indices"] {
        let array = store.join("X").join(name);
        let document = std::fs::read(array.join("zarr.json")).expect("a document");
        let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
        let at = |path: &str| document.pointer(path).and_then(serde_json::Value::as_u64);
        let shard = at("/chunk_grid/configuration/chunk_shape/0").expect("a shard");
        let chunk = at("/codecs/0/configuration/chunk_shape/0").expect("a chunk");
        let len = usize::try_from(shard / chunk).expect("a length") * 16;
        for file in std::fs::read_dir(array.join("c")).expect("shards") {
            let bytes = std::fs::read(file.expect("a shard").path()).expect("bytes");
            let end = bytes.len() - 4;
            for entry in bytes[end - len..end].chunks_exact(16) {
                let word = |i: usize| {
                    let word = u64::from_le_bytes(entry[8 * i..][..8].try_into().expect("a word"));
                    usize::try_from(word).unwrap_or(usize::MAX)
                };
                if word(0) < usize::MAX {
                    chunks.push(bytes[word(0)..][..word(1)].to_vec());
                }
            }
        }
    }
    chunks
}

/// What a chunk of blosc decodes to, by its header: bytes 4 to 8.
fn len_of(chunk: &[u8]) -> usize {
    let len = u32::from_le_bytes(chunk[4..8].try_into().expect("a header"));
    usize::try_from(len).expect("a length")
}

/// Decodes a chunk of blosc.
fn decode(chunk: &[u8], out: &mut [u8]) {
    // SAFETY: the chunk is one that the store's writer made, and the length given is the buffer's.
    let n = unsafe {
        let to = out.as_mut_ptr().cast();
        blosc_src::blosc_decompress_ctx(chunk.as_ptr().cast(), to, out.len(), 1)
    };
    assert_eq!(usize::try_from(n), Ok(out.len()));
}

criterion_group!(benches, read_x);
criterion_main!(benches);
