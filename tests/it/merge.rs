//! Merges: cut objects put together again, through the API, through SQL and through protobuf.
//!
//! That merges are what `anndata.concat` makes is asked of anndata itself, in `tests/python`.

use std::path::Path;
use std::sync::Arc;

use annfusion::model::MergeStrategy;
use annfusion::ops::{
    Cut, FilterOptions, GeneList, MergeOptions, Quiet, Report, RunOptions, SynthOptions, merge,
    synth,
};
use annfusion::plan::merge::{FillValue, Join, MergeSpec};
use annfusion::session::Session;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::support::{
    assert_copies, assert_equal, at, filter_options, made, path, run_filter, run_slice,
    slice_options, texts,
};

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_put_together_again() {
    let folder = shards().await;
    let report = run(folder.path(), whole(folder.path()), "m.h5ad").await;
    assert_eq!(report.outputs[0].n_obs, 300);
    assert_equal(folder.path(), "in.h5ad", "m.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inner_join_has_the_genes_of_all_in_the_order_of_the_first() {
    let folder = shards().await;
    let names = gene_names(folder.path(), "in.h5ad").await;
    keep_genes(folder.path(), "s_shard_1.h5ad", "few.h5ad", &names[5..20]).await;
    let spec = spec(folder.path(), &["s_shard_0.h5ad", "few.h5ad"]);
    let prepared = prepared(folder.path(), spec, "m.h5ad").await;
    let details = prepared.estimate().details.join("\n");
    assert!(
        details.contains("15 of 40 genes kept, 25 lost; --join outer keeps them"),
        "{details}"
    );
    prepared.run(Arc::new(Quiet)).await.unwrap();
    assert_eq!(gene_names(folder.path(), "m.h5ad").await, names[5..20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_options_drop_is_said_with_the_option_that_keeps_it() {
    let folder = shards().await;
    let inputs = ["s_shard_0.h5ad", "s_shard_1.h5ad"];
    let report = run(folder.path(), spec(folder.path(), &inputs), "m.h5ad").await;
    let said = report.warnings.join("\n");
    for expected in [
        "var/",
        "--merge first keeps it",
        "--uns-merge first keeps it",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_travel_and_are_written_by_copy() {
    let folder = shards().await;
    run(folder.path(), whole(folder.path()), "m.h5ad").await;
    let session = Session::try_new().unwrap();
    let pattern = path(folder.path(), "s_shard_*.h5ad");
    let copy = |name: &str| {
        let target = path(folder.path(), name);
        let options =
            "{'join': 'outer', 'merge': 'first', 'uns_merge': 'first', 'pairwise': 'true'}";
        format!("COPY (SELECT * FROM merge('{pattern}', {options})) TO '{target}' STORED AS H5AD")
    };
    assert_copies(folder.path(), &session, copy, "m.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_order_whatever_is_asked_of_them() {
    let folder = shards().await;
    let session = Session::try_new().unwrap();
    let merge = format!("merge('{}')", path(folder.path(), "s_shard_*.h5ad"));
    for (sql, expected) in [
        (
            format!("SELECT obs_idx FROM {merge} LIMIT 150"),
            (0..150).collect::<Vec<i64>>(),
        ),
        (format!("SELECT obs_idx FROM {merge}"), (0..300).collect()),
        (
            format!("SELECT obs_idx FROM {merge} WHERE obs_idx BETWEEN 95 AND 205"),
            (95..206).collect(),
        ),
    ] {
        let batches = session.collect(&sql).await.unwrap();
        let rows = batches
            .iter()
            .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values());
        assert_eq!(rows.copied().collect::<Vec<_>>(), expected, "{sql}");
    }
    let count = format!("SELECT count(*) FROM {merge} WHERE cell_type = 'B'");
    let batches = session.collect(&count).await.unwrap();
    assert!(batches[0].column(0).as_primitive::<Int64Type>().value(0) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_is_wrong() {
    let folder = shards().await;
    let refused = |spec: MergeSpec, output: &str| {
        let options = MergeOptions {
            spec,
            output: folder.path().join(output),
            run: RunOptions::default(),
        };
        async move {
            merge(&options)
                .await
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        }
    };
    let inputs = ["s_shard_0.h5ad", "s_shard_1.h5ad"];
    let base = spec(folder.path(), &inputs);
    let message = refused(base.clone(), "s_shard_0.h5ad").await;
    assert!(message.contains("s_shard_0.h5ad"), "{message}");
    let keys = MergeSpec {
        keys: Some(vec!["a".to_owned()]),
        ..base.clone()
    };
    let message = refused(keys, "m.h5ad").await;
    assert!(message.contains("1 keys for 2 objects"), "{message}");
    let align = MergeSpec {
        align_on: Some("nothing".to_owned()),
        ..base
    };
    let message = refused(align, "m.h5ad").await;
    assert!(
        message.contains("--align-on") && message.contains("nothing"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_union_of_a_merge_and_an_object_over_other_genes_is_refused() {
    let folder = shards().await;
    let names = gene_names(folder.path(), "in.h5ad").await;
    keep_genes(folder.path(), "s_shard_1.h5ad", "few.h5ad", &names[5..20]).await;
    let session = Session::try_new().unwrap();
    let [a, few, out] = ["s_shard_0.h5ad", "few.h5ad", "u.h5ad"].map(|n| path(folder.path(), n));
    let copy = format!(
        "COPY (SELECT obs_names, X FROM merge('{a}', '{few}') UNION ALL \
         SELECT obs_names, X FROM read_anndata('{a}')) TO '{out}' STORED AS H5AD"
    );
    let error = session.collect(&copy).await.unwrap_err().to_string();
    assert!(error.contains("genes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_cut_by_what_rows_grow_to() {
    let folder = tempfile::tempdir().unwrap();
    let options = SynthOptions {
        n_obs: 200,
        n_vars: 4_000,
        ..SynthOptions::new(folder.path().join("in.h5ad"))
    };
    synth(&options, &Quiet).await.unwrap();
    let session = Session::try_new().unwrap();
    let [wide, none] = ["in.h5ad", "none.h5ad"].map(|name| path(folder.path(), name));
    let copy = format!(
        "COPY (SELECT obs_names, cell_type FROM read_anndata('{wide}')) TO '{none}' STORED AS H5AD"
    );
    session.collect(&copy).await.unwrap();
    let merge =
        format!("SELECT X FROM merge('{none}', '{wide}', {{'join': 'outer', 'fill_value': 5}})");
    let batches = session.collect(&merge).await.unwrap();
    assert_eq!(
        batches.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        400
    );
    let most = batches.iter().map(RecordBatch::get_array_memory_size).max();
    assert!(most.unwrap() <= 2 << 20, "{most:?}");
    let spec = MergeSpec {
        join: Join::Outer,
        fill_value: Some(FillValue::Int(5)),
        ..spec(folder.path(), &["none.h5ad", "in.h5ad"])
    };
    let prepared = prepared(folder.path(), spec, "m.h5ad").await;
    assert!(prepared.estimate().outputs[0].bytes > 200 * 48_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_without_a_scan_where_no_predicate_is() {
    let folder = shards().await;
    let session = Session::try_new().unwrap();
    let pattern = path(folder.path(), "s_shard_*.h5ad");
    for options in ["", ", {'axis': 'var', 'join': 'outer'}"] {
        let count =
            |what: &str| format!("EXPLAIN SELECT count(*) FROM merge('{pattern}'{options}){what}");
        let plan = plan_text(&session, &count("")).await;
        assert!(plan.contains("300 as count(*)"), "{plan}");
        let plan = plan_text(&session, &count(" WHERE obs_names > 'C'")).await;
        assert!(plan.contains("MergeExec"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_of_objects_beside_each_other_is_counted() {
    let folder = shards().await;
    let session = Session::try_new().unwrap();
    let pattern = path(folder.path(), "s_shard_*.h5ad");
    let sql = format!(
        "EXPLAIN ANALYZE SELECT X FROM merge('{pattern}', {{'axis': 'var', 'join': 'outer'}})"
    );
    let plan = plan_text(&session, &sql).await;
    assert!(
        plan.contains("bytes_read=") && !plan.contains("bytes_read=0"),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_that_json_lacks_travel() {
    let folder = shards().await;
    let session = Session::try_new().unwrap();
    let pattern = path(folder.path(), "s_shard_*.h5ad");
    let spec = MergeSpec {
        fill_value: Some(FillValue::Float(f64::NEG_INFINITY)),
        join: Join::Outer,
        ..spec(
            folder.path(),
            &["s_shard_0.h5ad", "s_shard_1.h5ad", "s_shard_2.h5ad"],
        )
    };
    run(folder.path(), spec, "m.h5ad").await;
    let copy = |name: &str| {
        let target = path(folder.path(), name);
        let options = "{'join': 'outer', 'fill_value': '-inf'}";
        format!("COPY (SELECT * FROM merge('{pattern}', {options})) TO '{target}' STORED AS H5AD")
    };
    assert_copies(folder.path(), &session, copy, "m.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_there_is_dropped() {
    let folder = shards().await;
    let inputs = ["s_shard_0.h5ad", "s_shard_1.h5ad"];
    let drop = |key: &str| MergeOptions {
        spec: MergeSpec {
            drop: vec![key.into()],
            ..spec(folder.path(), &inputs)
        },
        output: folder.path().join("m.h5ad"),
        run: RunOptions::default(),
    };
    for (key, said) in [
        ("obs/nothing", "any input"),
        ("obs/obs_names", "any input"),
        ("var", "left out"),
    ] {
        let error = merge(&drop(key)).await.err().map(|e| e.to_string());
        assert!(
            error.as_ref().is_some_and(|e| e.contains(said)),
            "{key}: {error:?}"
        );
    }
    assert!(merge(&drop("obs/cell_type")).await.is_ok());
}

/// The physical plan that an EXPLAIN gives.
async fn plan_text(session: &Session, sql: &str) -> String {
    let batches = session.collect(sql).await.unwrap();
    let plans = batches.iter().flat_map(|batch| {
        let column = batch.column(batch.num_columns() - 1);
        column.as_string::<i32>().iter().flatten()
    });
    plans.last().unwrap_or_default().to_owned()
}

/// 300 cells of 40 genes as `in.h5ad`, and as three shards.
async fn shards() -> tempfile::TempDir {
    let folder = made().await;
    run_slice(&slice_options(folder.path(), Cut::Size(100))).await;
    folder
}

/// A merge of some files.
fn spec(folder: &Path, inputs: &[&str]) -> MergeSpec {
    MergeSpec::new(inputs.iter().map(|name| at(folder, name)).collect())
}

/// A merge of the three shards that keeps all of them.
fn whole(folder: &Path) -> MergeSpec {
    MergeSpec {
        join: Join::Outer,
        merge: Some(MergeStrategy::First),
        uns_merge: Some(MergeStrategy::First),
        pairwise: true,
        ..spec(
            folder,
            &["s_shard_0.h5ad", "s_shard_1.h5ad", "s_shard_2.h5ad"],
        )
    }
}

async fn prepared(folder: &Path, spec: MergeSpec, output: &str) -> annfusion::ops::Prepared {
    let options = MergeOptions {
        spec,
        output: folder.join(output),
        run: RunOptions::default(),
    };
    merge(&options).await.unwrap()
}

async fn run(folder: &Path, spec: MergeSpec, output: &str) -> Report {
    prepared(folder, spec, output)
        .await
        .run(Arc::new(Quiet))
        .await
        .unwrap()
}

async fn keep_genes(folder: &Path, input: &str, output: &str, genes: &[String]) {
    let options = FilterOptions {
        genes: Some(GeneList(genes.to_vec())),
        ..filter_options(folder, input, output)
    };
    run_filter(&options).await;
}

async fn gene_names(folder: &Path, file: &str) -> Vec<String> {
    let session = Session::try_new().unwrap();
    let sql = format!(
        "SELECT var_names FROM read_anndata('{}', 'var')",
        path(folder, file)
    );
    texts(&session.collect(&sql).await.unwrap())
}
