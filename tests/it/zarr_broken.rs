//! Zarr stores that lie: metadata that claims what no disk holds, chunks that are missing, cut,
//! garbled or of another checksum, bombs, links out of the store. An error that names the node, or
//! a result, in little memory and time.
//!
//! The parent runs this binary again with limited memory; see [`crate::fuzz`].

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use annfusion::element::Storage;
use annfusion::model::Location;
use annfusion::ops::{self, ConvertOptions, Quiet, RunOptions, SynthOptions, VerifyOptions};
use annfusion::store::{Compression, Format, ZarrVersion};
use serde_json::{Value, json};

const CHILD: &str = "ANNFUSION_BROKEN_ZARR";
const MEMORY: u64 = 1 << 30;

#[test]
fn stores_that_lie_are_refused_in_little_memory() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let arguments = [
        "--exact",
        "zarr_broken::worker",
        "--nocapture",
        "--test-threads=1",
    ];
    command
        .args(arguments)
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0");
    // SAFETY: setrlimit is async-signal-safe and touches only this process's limits.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: MEMORY,
                rlim_max: MEMORY,
            };
            match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// Does nothing unless the parent says so.
#[test]
fn worker() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for form in [Form::V2, Form::V3, Form::Sharded] {
        let store = Store::new(&runtime, form);
        for (what, node, damage) in damages(form) {
            let broken = store.copy();
            damage(&broken.path);
            let began = Instant::now();
            let said = runtime.block_on(exercise(&broken.path));
            let took = began.elapsed();
            let shown = format!("{form:?}, {what}");
            assert!(took < Duration::from_secs(10), "{shown}: {took:?}");
            assert!(
                said.iter().any(|line| line.contains(node)),
                "{shown}: nothing names {node}: {said:?}"
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    V2,
    V3,
    Sharded,
}

/// A sound store, and copies of it.
struct Store {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Store {
    fn new(runtime: &tokio::runtime::Runtime, form: Form) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zarr");
        let mut storage = Storage::of(Format::Zarr {
            version: if form == Form::V2 {
                ZarrVersion::V2
            } else {
                ZarrVersion::V3
            },
            sharded: form == Form::Sharded,
        });
        storage.compression = Compression::Zstd(0);
        let options = SynthOptions {
            n_obs: 500,
            n_vars: 60,
            storage,
            ..SynthOptions::new(&path)
        };
        runtime.block_on(ops::synth(&options, &Quiet)).unwrap();
        Self { folder, path }
    }

    fn copy(&self) -> Self {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let path = folder.path().join("x.zarr");
        copy_folder(&self.path, &path);
        Self { folder, path }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

/// What is done to a store, which node must be named, and how it is done.
type Damage = (&'static str, &'static str, Box<dyn Fn(&Path)>);

fn damages(form: Form) -> Vec<Damage> {
    let edit = |array: &'static str, change: fn(&mut Value)| -> Box<dyn Fn(&Path)> {
        Box::new(move |store| edit(&store.join(array).join(document(form)), change))
    };
    let chunk = move |store: &Path| match form {
        Form::V2 => store.join("X/data/0"),
        _ => store.join("X/data/c/0"),
    };
    let change = move |with: fn(Vec<u8>) -> Vec<u8>| -> Box<dyn Fn(&Path)> {
        Box::new(move |store| {
            let bytes = std::fs::read(chunk(store)).unwrap();
            std::fs::write(chunk(store), with(bytes)).unwrap();
        })
    };
    let mut all: Vec<Damage> = vec![
        (
            "a shape of 2^60",
            "X",
            edit("X/data", |d| d["shape"] = json!([1u64 << 60])),
        ),
        (
            "an index of 2^60",
            "obs",
            edit("obs/_index", |d| d["shape"] = json!([1u64 << 60])),
        ),
        (
            "columns of 2^60",
            "X_pca",
            edit("obsm/X_pca", |d| d["shape"] = json!([500, 1u64 << 60])),
        ),
        (
            "axes that overflow",
            "X_pca",
            edit("obsm/X_pca", |d| d["shape"] = json!([u64::MAX, u64::MAX])),
        ),
        (
            "no shape",
            "X_pca",
            edit("obsm/X_pca", |d| d["shape"] = json!("none")),
        ),
        (
            "chunks of 2^60",
            "X",
            edit("X/data", |d| set_chunk(d, json!([1u64 << 60]))),
        ),
        (
            "chunks of nothing",
            "X",
            edit("X/data", |d| set_chunk(d, json!([0]))),
        ),
        (
            "chunks of two axes",
            "X",
            edit("X/data", |d| set_chunk(d, json!([4, 4]))),
        ),
        (
            "a chunk that is missing",
            "X/data",
            Box::new(move |store| std::fs::remove_file(chunk(store)).unwrap()),
        ),
        (
            "a chunk that is cut",
            match form {
                Form::Sharded => "shard c/0: the index at the end of its",
                Form::V3 => "chunk c/0 has",
                Form::V2 => "chunk 0 has",
            },
            change(|bytes| bytes[..bytes.len() / 2].to_vec()),
        ),
        ("a chunk that is empty", "X", change(|_| Vec::new())),
        (
            "a chunk of noise",
            "X",
            change(|bytes| bytes.iter().map(|b| b ^ 0x5a).collect()),
        ),
        (
            "a document of noise",
            "X",
            Box::new(move |store| {
                std::fs::write(store.join("X/data").join(document(form)), [0xff; 40]).unwrap();
            }),
        ),
        (
            "a document that nests",
            "X",
            Box::new(move |store| {
                let deep = "[".repeat(1 << 20);
                std::fs::write(store.join("X/data").join(document(form)), deep).unwrap();
            }),
        ),
        (
            "a chunk that is a link out",
            "X",
            Box::new(move |store| {
                let outside = store.parent().unwrap().join("secret");
                std::fs::rename(chunk(store), &outside).unwrap();
                std::os::unix::fs::symlink(&outside, chunk(store)).unwrap();
            }),
        ),
        (
            "a node that is a link out",
            "obsm",
            Box::new(move |store| {
                let outside = store.parent().unwrap().join("elsewhere");
                std::fs::rename(store.join("obsm/X_pca"), &outside).unwrap();
                std::os::unix::fs::symlink(&outside, store.join("obsm/X_pca")).unwrap();
            }),
        ),
        (
            "a document consolidated differently",
            "obsm/X_pca",
            edit("obsm/X_pca", |d| d["fill_value"] = json!(7.0)),
        ),
        ("a bomb", "X", bomb(form)),
    ];
    // A shard finds its index from its end and its chunks from its beginning, so that what stands
    // twice there is the same shard.
    all.extend(match form {
        Form::V2 | Form::V3 => vec![(
            "a chunk of twice its size",
            "X",
            change(|bytes| [bytes.clone(), bytes].concat()),
        )],
        Form::Sharded => vec![
            (
                "an index of another checksum",
                "X",
                change(|mut bytes| {
                    let at = bytes.len() - 1;
                    bytes[at] ^= 1;
                    bytes
                }),
            ),
            (
                "a shard without its first half",
                "X",
                change(|bytes| bytes[bytes.len() / 2..].to_vec()),
            ),
        ],
    });
    all
}

fn document(form: Form) -> &'static str {
    match form {
        Form::V2 => ".zarray",
        _ => "zarr.json",
    }
}

fn edit(path: &Path, change: fn(&mut Value)) {
    let mut document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut document);
    std::fs::write(path, serde_json::to_vec(&document).unwrap()).unwrap();
}

fn set_chunk(document: &mut Value, chunk: Value) {
    match document.get_mut("chunk_grid") {
        Some(grid) => grid["configuration"]["chunk_shape"] = chunk,
        None => document["chunks"] = chunk,
    }
}

/// A small chunk that decodes to 8 GiB of zeros, and a shape and chunks that say so.
fn bomb(form: Form) -> Box<dyn Fn(&Path)> {
    const FLOATS: u64 = 1 << 31;
    Box::new(move |store| {
        edit(&store.join("X/data").join(document(form)), |d| {
            d["shape"] = json!([FLOATS]);
            set_chunk(d, json!([FLOATS]));
            if let Some(codecs) = d.get_mut("codecs") {
                *codecs = json!([
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 0, "checksum": false}}]);
            }
        });
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..(FLOATS * 4) >> 20 {
            std::io::Write::write_all(&mut encoder, &zeros).unwrap();
        }
        let bytes = encoder.finish().unwrap();
        let name = if form == Form::V2 {
            "X/data/0"
        } else {
            "X/data/c/0"
        };
        std::fs::write(store.join(name), bytes).unwrap();
    })
}

/// What the commands say of a store: errors, findings, notes.
async fn exercise(path: &Path) -> Vec<String> {
    let location = Location::parse(path.to_str().unwrap());
    let mut said = Vec::new();
    said.extend(ops::inspect(&location).await.err().map(|e| e.to_string()));
    match ops::verify(&location, &VerifyOptions::default(), &Quiet).await {
        Ok(found) => {
            said.extend(found.notes);
            let findings = found.findings.into_iter();
            said.extend(findings.map(|f| format!("{}: {}", f.element, f.message)));
        }
        Err(error) => said.push(error.to_string()),
    }
    let options = ConvertOptions {
        input: location,
        output: path.with_extension("h5ad"),
        drop: Vec::new(),
        sparse: Vec::new(),
        dense: Vec::new(),
        genes: None,
        run: RunOptions::default(),
    };
    let written = async {
        let prepared = Box::pin(ops::convert(&options)).await?;
        prepared.run(std::sync::Arc::new(Quiet)).await
    };
    said.extend(written.await.err().map(|e| e.to_string()));
    said
}
