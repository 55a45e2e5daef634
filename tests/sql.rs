//! Runs `sql/**/*.slt`: the manual, encodings, plans and errors.
//!
//! Each file runs twice, on its objects as they are and on what `convert` makes of them as zarr, in a
//! session of its own. `open NAME` and `open alias=NAME` (statements of this
//! runner) open an object: `demo` is made by `synth`, others are found in the shared data, whose
//! absence skips the file with a visible line. `$OUT` is an empty folder, `$FILE(NAME)` an
//! object's path. `SQL_ONLY=text` runs the files whose path holds the text; `SQL_UPDATE=1` writes
//! the answers into the files, to be read before they are committed.

#![expect(clippy::unwrap_used, reason = "a fixture fails the test")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use annfusion::element::Amount;
use annfusion::model::Location;
use annfusion::ops::{ConvertOptions, Quiet, RunOptions, convert};
use annfusion::session::Session;
use annfusion::sink::StorageChoice;
use annfusion::store::Format;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

#[test]
fn sql_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let only = std::env::var("SQL_ONLY").unwrap_or_default();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut failed = Vec::new();
    for file in files.iter().filter(|f| f.to_string_lossy().contains(&only)) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        for form in FORMS {
            match run(file, form) {
                Ok(()) => println!("ok: {name} {form:?}"),
                Err(Failure::Skipped(what)) => println!("SKIPPED: {name} needs {what}"),
                Err(Failure::Failed(message)) => {
                    println!("FAILED: {name} {form:?}\n{message}");
                    failed.push(format!("{name} {form:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Which form of its objects a file runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    AsFound,
    Zarr,
}

/// All forms, or the first one where answers are written.
const FORMS: [Form; 2] = [Form::AsFound, Form::Zarr];

enum Failure {
    Skipped(String),
    Failed(String),
}

fn run(file: &Path, form: Form) -> Result<(), Failure> {
    for object in objects(file) {
        if resolve(&object, form).is_none() {
            return Err(Failure::Skipped(object));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let session = Session::builder().target_partitions(4).build().unwrap();
    let out_dir = out.path().to_path_buf();
    let session = std::sync::Arc::new(session);
    let mut runner = Runner::new(|| {
        let db = Db {
            session: std::sync::Arc::clone(&session),
            out: out_dir.clone(),
            form,
        };
        async { Ok(db) }
    });
    runner.with_column_validator(|_, _| true);
    if std::env::var_os("SQL_UPDATE").is_some() {
        if form != Form::AsFound {
            return Ok(());
        }
        let updated = runtime.block_on(runner.update_test_file(
            file,
            " ",
            sqllogictest::default_validator,
            sqllogictest::default_normalizer,
            sqllogictest::default_column_validator,
        ));
        return updated.map_err(|e| Failure::Failed(e.to_string()));
    }
    let result = runtime.block_on(runner.run_file_async(file));
    result.map_err(|e| Failure::Failed(e.display(false).to_string()))
}

/// What a file opens.
fn objects(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let opens = text.lines().filter_map(|line| line.strip_prefix("open "));
    opens
        .map(|o| o.rsplit('=').next().unwrap().trim().to_owned())
        .collect()
}

/// The location of an object by the name a file gives it, in a form.
fn resolve(object: &str, form: Form) -> Option<PathBuf> {
    let found = find(object)?;
    match form {
        Form::AsFound => Some(found),
        Form::Zarr if object == "demo" => Some(as_zarr(&found).unwrap()),
        // What cannot be converted, because it is broken on purpose, stays as it is.
        Form::Zarr => Some(as_zarr(&found).unwrap_or(found)),
    }
}

/// The object as zarr, converted once: chunks of a few cells, so that there are several.
fn as_zarr(found: &Path) -> Option<PathBuf> {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    let name = found.file_stem()?.to_str()?;
    let output = folder.path().join(name).with_extension("zarr");
    if found.extension()? != "h5ad" || output.exists() {
        return output.exists().then_some(output);
    }
    let choice = StorageChoice {
        chunk_size: Some(Amount::Cells(40)),
        shard_size: Some(Amount::Cells(120)),
        ..StorageChoice::default()
    };
    let options = ConvertOptions {
        input: Location::parse(found.to_str()?),
        output: output.clone(),
        drop: Vec::new(),
        sparse: Vec::new(),
        dense: Vec::new(),
        genes: None,
        run: RunOptions {
            storage: choice.in_format(Format::ZARR).unwrap(),
            ..RunOptions::default()
        },
    };
    // Of its own thread, since files run in a runtime.
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let prepared = convert(&options).await?;
            prepared.run(std::sync::Arc::new(Quiet)).await
        })
    });
    done.join().unwrap().ok()?;
    Some(output)
}

/// An object by the name a file gives it.
fn find(object: &str) -> Option<PathBuf> {
    if object == "demo" {
        return demo();
    }
    let shared = match std::env::var_os("ANNFUSION_SHARED") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let folders = ["data/encodings", "data/found"].map(|folder| shared.join(folder));
    let names = [format!("{object}.h5ad"), object.to_owned()];
    let mut paths = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.find(|path| path.exists())
}

/// 300 cells of 200 genes and three types, made once.
fn demo() -> Option<PathBuf> {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = DEMO.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = annfusion::ops::SynthOptions {
            n_obs: 300,
            n_vars: 200,
            mean_genes: Some(40.0),
            cell_types: 3,
            seed: 7,
            ..annfusion::ops::SynthOptions::new(folder.path().join("demo.h5ad"))
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime
            .block_on(annfusion::ops::synth(&options, &annfusion::ops::Quiet))
            .unwrap();
        folder
    });
    Some(folder.path().join("demo.h5ad"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "slt") {
            files.push(path);
        }
    }
}

struct Db {
    session: std::sync::Arc<Session>,
    out: PathBuf,
    form: Form,
}

#[derive(Debug)]
struct DbError(String);

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DbError {}

impl From<annfusion::Error> for DbError {
    fn from(error: annfusion::Error) -> Self {
        Self(error.to_string())
    }
}

#[async_trait]
impl AsyncDB for Db {
    type Error = DbError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DbError> {
        if let Some(object) = sql.strip_prefix("open ") {
            let (alias, name) = object.trim().split_once('=').unwrap_or(("", object.trim()));
            let path =
                resolve(name, self.form).ok_or_else(|| DbError(format!("no object {name}")))?;
            let text = match alias {
                "" => path.display().to_string(),
                alias => format!("{alias}={}", path.display()),
            };
            self.session.open(&text).await?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let sql = sql.replace("$OUT", &self.out.display().to_string());
        let mut sql = sql;
        while let Some((before, rest)) = sql.split_once("$FILE(") {
            let (name, after) = rest.split_once(')').ok_or_else(|| DbError(sql.clone()))?;
            let path =
                resolve(name, self.form).ok_or_else(|| DbError(format!("no object {name}")))?;
            sql = format!("{before}{}{after}", path.display());
        }
        let batches = self.session.collect(&sql).await?;
        let Some(first) = batches.first() else {
            return Ok(DBOutput::StatementComplete(0));
        };
        let schema = first.schema();
        let types = schema
            .fields()
            .iter()
            .map(|field| kind(field.data_type()))
            .collect();
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|column| cell(column, row));
                rows.extend(lines(cells.collect()));
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "annfusion"
    }
}

/// A cell of several lines (a plan) becomes a row per line.
fn lines(cells: Vec<String>) -> Vec<Vec<String>> {
    match cells.as_slice() {
        [kind, plan] if plan.contains('\n') => {
            let mut rows = vec![vec![kind.clone()]];
            // Plans name the objects they scan; the form of those is no difference.
            let plan = plan.replace(".zarr:", ".h5ad:");
            rows.extend(plan.lines().map(|line| vec![line.to_owned()]));
            rows
        }
        _ => vec![cells],
    }
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    let text = match column.data_type() {
        DataType::Dictionary(_, _) => {
            let column = column.as_any_dictionary();
            let key = column.normalized_keys()[row];
            return cell(column.values(), key);
        }
        DataType::Float32 => column
            .as_primitive::<arrow::datatypes::Float32Type>()
            .value(row)
            .to_string(),
        DataType::Float64 => column
            .as_primitive::<arrow::datatypes::Float64Type>()
            .value(row)
            .to_string(),
        _ => {
            let options = FormatOptions::default().with_null("NULL");
            ArrayFormatter::try_new(column, &options)
                .unwrap()
                .value(row)
                .to_string()
        }
    };
    if text.is_empty() {
        "(empty)".to_owned()
    } else {
        text
    }
}

fn kind(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DefaultColumnType::Text,
        DataType::Dictionary(_, values) => kind(values),
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Any,
    }
}
