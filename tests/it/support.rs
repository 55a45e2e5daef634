//! Made objects in folders of tests, what is done with them, and plans sent as bytes.

use std::path::Path;
use std::sync::Arc;

use annfusion::cluster::{AnnDataLogicalCodec, AnnDataPhysicalCodec};
use annfusion::model::Location;
use annfusion::ops::{
    Cut, FilterOptions, Quiet, Report, RunOptions, SliceOptions, SynthOptions, VerifyOptions,
    compare, filter, slice, synth,
};
use annfusion::session::Session;
use annfusion::store::ArrayWriter;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};

/// 300 cells of 40 genes as `in.h5ad`.
pub(crate) async fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let options = SynthOptions {
        n_obs: 300,
        n_vars: 40,
        cell_types: 3,
        seed: 3,
        ..SynthOptions::new(folder.path().join("in.h5ad"))
    };
    synth(&options, &Quiet).await.unwrap();
    folder
}

/// Fills arrays that are open at once with the same values, in appends of `step`, and finishes them.
pub(crate) async fn fill(mut arrays: Vec<Box<dyn ArrayWriter>>, values: &ArrayRef, step: usize) {
    for start in (0..values.len()).step_by(step) {
        let part = values.slice(start, step.min(values.len() - start));
        let appends = arrays
            .iter_mut()
            .map(|array| array.append(Arc::clone(&part)));
        futures::future::try_join_all(appends).await.unwrap();
    }
    for array in arrays {
        array.finish().await.unwrap();
    }
}

pub(crate) fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

pub(crate) fn at(folder: &Path, name: &str) -> Location {
    Location::parse(&path(folder, name))
}

/// `in.h5ad` into shards `s_*.h5ad`.
pub(crate) fn slice_options(folder: &Path, cut: Cut) -> SliceOptions {
    SliceOptions {
        input: at(folder, "in.h5ad"),
        prefix: folder.join("s"),
        cut,
        csv: None,
        predicate: None,
        genes: None,
        shuffle: None,
        output_names: None,
        run: RunOptions::default(),
    }
}

/// All cells of an object into another.
pub(crate) fn filter_options(folder: &Path, input: &str, output: &str) -> FilterOptions {
    FilterOptions {
        input: at(folder, input),
        output: folder.join(output),
        obs_column: None,
        csv: None,
        predicate: None,
        genes: None,
        run: RunOptions::default(),
    }
}

/// Runs a slice: the names of its files, and their cells.
pub(crate) async fn run_slice(options: &SliceOptions) -> Vec<(String, u64)> {
    let prepared = slice(options).await.unwrap();
    let report = prepared.run(Arc::new(Quiet)).await.unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let outputs = report.outputs.iter();
    outputs.map(|o| (name(&o.path), o.n_obs)).collect()
}

pub(crate) async fn run_filter(options: &FilterOptions) -> Report {
    let prepared = filter(options).await.unwrap();
    prepared.run(Arc::new(Quiet)).await.unwrap()
}

pub(crate) async fn assert_equal(folder: &Path, left: &str, right: &str) {
    let [left, right] = [left, right].map(|name| at(folder, name));
    let options = VerifyOptions::default();
    let found = compare(&left, &right, &options, &Quiet).await.unwrap();
    assert!(found.is_ok(), "{left} and {right}: {:?}", found.findings);
}

/// The names of an object's cells.
pub(crate) async fn obs_names(folder: &Path, name: &str) -> Vec<String> {
    let session = Session::try_new().unwrap();
    session.open(&path(folder, name)).await.unwrap();
    let sql = "SELECT obs_names FROM obs ORDER BY obs_idx";
    texts(&session.collect(sql).await.unwrap())
}

/// The first column, as text.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut all = Vec::new();
    for batch in batches {
        let column = cast(batch.column(0), &DataType::Utf8).unwrap();
        all.extend(
            column
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(str::to_owned),
        );
    }
    all
}

/// The plan that a session elsewhere makes of a plan's bytes.
pub(crate) fn sent(plan: Arc<dyn ExecutionPlan>, there: &TaskContext) -> Arc<dyn ExecutionPlan> {
    let codec = AnnDataPhysicalCodec::default();
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).unwrap();
    physical_plan_from_bytes_with_extension_codec(&bytes, there, &codec).unwrap()
}

/// [`sent`] for a plan that is not planned yet.
pub(crate) fn sent_logical(plan: &LogicalPlan, there: &TaskContext) -> LogicalPlan {
    let codec = AnnDataLogicalCodec::default();
    let bytes = logical_plan_to_bytes_with_extension_codec(plan, &codec).unwrap();
    logical_plan_from_bytes_with_extension_codec(&bytes, there, &codec).unwrap()
}

/// Writes what `copy` says for the name of an output, three times: here,
/// as a physical plan of elsewhere and as a logical one. All of them equal `expected`.
pub(crate) async fn assert_copies(
    folder: &Path,
    session: &Session,
    copy: impl Fn(&str) -> String,
    expected: &str,
) {
    session.collect(&copy("c.h5ad")).await.unwrap();
    assert_equal(folder, expected, "c.h5ad").await;

    let other = Session::try_new().unwrap();
    let task = other.context().task_ctx();
    let frame = session.sql(&copy("p.h5ad")).await.unwrap();
    let (state, logical) = frame.into_parts();
    let plan = state.create_physical_plan(&logical).await.unwrap();
    let plan = sent(plan, &task);
    datafusion::physical_plan::collect(plan, Arc::clone(&task))
        .await
        .unwrap();
    assert_equal(folder, expected, "p.h5ad").await;

    let (_, logical) = session.sql(&copy("l.h5ad")).await.unwrap().into_parts();
    let logical = sent_logical(&logical, &task);
    let frame = other.context().execute_logical_plan(logical).await.unwrap();
    frame.collect().await.unwrap();
    assert_equal(folder, expected, "l.h5ad").await;
}
