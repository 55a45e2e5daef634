//! Damaged files: every found file cut at 20 lengths, and 50 copies of it with one bit flipped (of
//! a folder one of its files at a time, which may be missing as well), through `inspect`, the scans of
//! all tables, `verify` and `slice`. An error or a result, never a panic, a crash, more than ten seconds
//! or more than 1 GiB.
//!
//! The parent runs this binary again, once per file and with limited memory; the worker goes
//! through the file's variants in one process, which is some ten times faster than a process each.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use annfusion::model::Location;
use annfusion::ops::{self, Cut, Quiet, RunOptions, SliceOptions, VerifyOptions};
use annfusion::session::Session;

const FILE: &str = "ANNFUSION_FUZZ_FILE";
const CUTS: u64 = 20;
const FLIPS: u64 = 50;
const MEMORY: u64 = 1 << 30;
const SECONDS: u64 = 10;

#[test]
fn damaged_files_end_in_an_error_or_a_result() {
    let mut files: Vec<String> = crate::shared_objects()
        .iter()
        .map(|object| object.split('#').next().unwrap_or(object).to_owned())
        .collect();
    files.dedup();
    let queue = Mutex::new(files.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(file) = queue.lock().unwrap().next() else {
                        break;
                    };
                    if let Err(failure) = run_worker(&file) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run_worker(file: &str) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fuzz::worker", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
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
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let shown: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("FUZZ") || line.contains("panicked"))
        .collect();
    let last = stderr.lines().last().unwrap_or_default();
    Err(format!(
        "{file}: {}\n  {}\n  {last}",
        output.status,
        shown.join("\n  ")
    ))
}

/// What the worker is at, in milliseconds since it began, for the watchdog.
static BEGAN_AT: AtomicU64 = AtomicU64::new(u64::MAX);
static AT: Mutex<String> = Mutex::new(String::new());
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Does nothing unless the parent says which file.
#[test]
fn worker() {
    let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    std::panic::set_hook(Box::new(|info| {
        let at = AT.lock().unwrap().clone();
        eprintln!("FUZZ {at}: {info}");
        PANICS.lock().unwrap().push(at);
    }));
    let start = Instant::now();
    std::thread::spawn(move || watch(start));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(twox_hash::XxHash64::oneshot(0, name.as_bytes()));
    let exercise = |what: String, path: &Path| {
        *AT.lock().unwrap() = format!("{name} {what}");
        BEGAN_AT.store(millis(start), Ordering::Relaxed);
        runtime.block_on(exercise(path, folder.path()));
        BEGAN_AT.store(u64::MAX, Ordering::Relaxed);
    };
    if file.is_dir() {
        damage_folder(&file, &mut rng, &mut |what, path: &Path| {
            exercise(what, path);
            clear(folder.path());
        });
        assert_no_panics();
        return;
    }
    let original = std::fs::read(&file).unwrap();
    for (i, (what, bytes)) in variants(&original, &mut rng).enumerate() {
        let path = folder.path().join(format!("{i}-{name}"));
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        exercise(what, &path);
        clear(folder.path());
    }
    assert_no_panics();
}

/// Goes through copies of a folder of which one file each is damaged.
fn damage_folder(folder: &Path, rng: &mut ChaCha8Rng, exercise: &mut impl FnMut(String, &Path)) {
    let copy = tempfile::tempdir().unwrap();
    let store = copy.path().join(folder.file_name().unwrap());
    let mut files = Vec::new();
    copy_folder(folder, &store, &mut files);
    files.sort();
    for i in 0..CUTS + FLIPS {
        let at = usize::try_from(rng.next_u64()).unwrap() % files.len();
        let path = &files[at];
        let original = std::fs::read(path).unwrap();
        let len = original.len();
        let byte = usize::try_from(rng.next_u64()).unwrap() % len.max(1);
        let what = match i {
            0..5 => {
                std::fs::remove_file(path).unwrap();
                "removed".to_owned()
            }
            5..CUTS => {
                std::fs::write(path, &original[..byte.min(len)]).unwrap();
                format!("cut at {byte}")
            }
            _ if len == 0 => continue,
            _ => {
                let mut bytes = original.clone();
                bytes[byte] ^= 1 << (rng.next_u64() % 8);
                std::fs::write(path, &bytes).unwrap();
                format!("byte {byte} changed")
            }
        };
        let shown = path.strip_prefix(&store).unwrap().display();
        exercise(format!("{shown} {what}"), &store);
        std::fs::write(path, &original).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target, files);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            files.push(target);
        }
    }
}

fn assert_no_panics() {
    // Not locked any more when this panics: the hook takes the lock.
    let n_panics = PANICS.lock().unwrap().len();
    assert!(n_panics == 0, "FUZZ {n_panics} panics");
}

fn clear(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap()
}

/// Ends the process where one variant takes too long: a thread that hangs cannot be stopped.
fn watch(start: Instant) {
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let began = BEGAN_AT.load(Ordering::Relaxed);
        let now = millis(start);
        if began != u64::MAX && now.saturating_sub(began) > SECONDS * 1000 {
            eprintln!("FUZZ {}: more than {SECONDS} s", AT.lock().unwrap());
            std::process::abort();
        }
    }
}

/// The damaged copies of a file, and what was done to each.
fn variants<'a>(
    original: &'a [u8],
    rng: &'a mut ChaCha8Rng,
) -> impl Iterator<Item = (String, Vec<u8>)> + 'a {
    let len = original.len() as u64;
    (0..CUTS + FLIPS).map(move |i| {
        if i < CUTS {
            // Spread over the file, at odd places; the first cuts fall into the superblock.
            let cut = (len * i / CUTS + rng.next_u64() % (len / CUTS).max(1)).min(len - 1);
            let cut = if i == 0 { cut % 100 } else { cut };
            (
                format!("cut at {cut}"),
                original[..usize::try_from(cut).unwrap()].to_vec(),
            )
        } else {
            let mut bytes = original.to_vec();
            let at = usize::try_from(rng.next_u64() % len).unwrap();
            let bit = rng.next_u64() % 8;
            bytes[at] ^= 1 << bit;
            (format!("bit {bit} of byte {at} flipped"), bytes)
        }
    })
}

/// Everything the commands do with a file; errors are fine.
async fn exercise(path: &Path, folder: &Path) {
    let location = Location::parse(path.to_str().unwrap());
    let _ = ops::inspect(&location).await;
    let _ = ops::verify(&location, &VerifyOptions::default(), &Quiet).await;
    let _ = select_all(path.to_str().unwrap()).await;
    let options = SliceOptions {
        input: location,
        prefix: folder.join("out"),
        cut: Cut::Size(1000),
        csv: None,
        predicate: None,
        genes: None,
        shuffle: None,
        output_names: None,
        run: RunOptions::default(),
    };
    if let Ok(prepared) = Box::pin(ops::slice(&options)).await {
        let _ = prepared.run(Arc::new(Quiet)).await;
    }
}

/// All rows of every table, by the scans that `SELECT *` comes down to: to plan it costs the tests'
/// build, in which the planner is not optimised, ten times as much.
async fn select_all(path: &str) -> annfusion::Result<()> {
    let session = Session::builder().target_partitions(2).build()?;
    let schema = session.open(&format!("damaged={path}")).await?.schema;
    let context = session.context();
    let state = context.state();
    let catalog = &state.config().options().catalog.default_catalog;
    let tables = context.catalog(catalog).and_then(|c| c.schema(&schema));
    let tables = tables.unwrap();
    for name in tables.table_names() {
        let Ok(Some(table)) = tables.table(&name).await else {
            continue;
        };
        let Ok(plan) = table.scan(&state, None, &[], None).await else {
            continue;
        };
        let Ok(mut stream) = execute_stream(plan, context.task_ctx()) else {
            continue;
        };
        while let Some(Ok(_)) = stream.next().await {}
    }
    Ok(())
}
