//! Slices and filters of a made object, and the same through SQL and through protobuf.

use std::path::Path;
use std::sync::Arc;

use annfusion::cluster::{AnnDataLogicalCodec, AnnDataPhysicalCodec};
use annfusion::model::Location;
use annfusion::ops::{
    CsvColumn, Cut, FilterOptions, GeneList, Quiet, RunOptions, SliceOptions, SynthOptions,
    VerifyOptions, compare, filter, slice, synth,
};
use annfusion::session::Session;
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::physical_plan::collect;
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_is_the_whole_object() {
    let folder = made().await;
    let report = run_slice(&options(folder.path(), Cut::Size(1000))).await;
    assert_eq!(report, [("s_shard_0.h5ad".to_owned(), 300)]);
    assert_equal(folder.path(), "in.h5ad", "s_shard_0.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_follow_each_other_and_the_last_is_short() {
    let folder = made().await;
    let report = run_slice(&options(folder.path(), Cut::Size(140))).await;
    let expected = [
        ("s_shard_0.h5ad", 140),
        ("s_shard_1.h5ad", 140),
        ("s_shard_2.h5ad", 20),
    ];
    assert_eq!(report, expected.map(|(name, n)| (name.to_owned(), n)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_equals_the_filter_of_its_cells() {
    let folder = made().await;
    run_slice(&options(folder.path(), Cut::Size(140))).await;
    run_filter(folder.path(), "f.h5ad", "obs_idx BETWEEN 140 AND 279").await;
    assert_equal(folder.path(), "s_shard_1.h5ad", "f.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_written_in_one_pass_and_share_what_is_always_included() {
    let folder = made().await;
    let cut = Cut::Column {
        column: "cell_type".to_owned(),
        always_include: vec!["B".to_owned()],
    };
    let report = run_slice(&options(folder.path(), cut)).await;
    assert!(
        !report.iter().any(|(name, _)| name == "s_B.h5ad"),
        "{report:?}"
    );
    let (name, _) = &report[0];
    let kind = name
        .strip_prefix("s_")
        .unwrap()
        .strip_suffix(".h5ad")
        .unwrap();
    let predicate = format!("cell_type IN ('B', '{}')", kind.replace('_', " "));
    run_filter(folder.path(), "f.h5ad", &predicate).await;
    assert_equal(folder.path(), name, "f.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_column_cuts_and_goes_along() {
    let folder = made().await;
    let names = names(folder.path()).await;
    let rows = names
        .iter()
        .enumerate()
        .map(|(i, name)| format!("{name},{}\n", i % 2));
    let text = "cell,half\n".to_owned() + &rows.collect::<String>();
    std::fs::write(folder.path().join("half.csv"), text).unwrap();
    let cut = Cut::Column {
        column: "half".to_owned(),
        always_include: Vec::new(),
    };
    let options = SliceOptions {
        csv: Some(CsvColumn {
            file: folder.path().join("half.csv"),
            join_column: None,
        }),
        ..options(folder.path(), cut)
    };
    assert_eq!(
        run_slice(&options).await,
        [("s_0.h5ad".to_owned(), 150), ("s_1.h5ad".to_owned(), 150)]
    );
    let session = Session::try_new().unwrap();
    session
        .open(&path(folder.path(), "s_1.h5ad"))
        .await
        .unwrap();
    let rows = session
        .collect("SELECT DISTINCT half FROM obs")
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|b| b.num_rows()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_column_called_x_leaves_the_matrix_alone() {
    let folder = made().await;
    let names = names(folder.path()).await;
    let text =
        "cell,X\n".to_owned() + &names.iter().map(|n| format!("{n},a\n")).collect::<String>();
    std::fs::write(folder.path().join("x.csv"), text).unwrap();
    let cut = Cut::Column {
        column: "X".to_owned(),
        always_include: Vec::new(),
    };
    let options = SliceOptions {
        csv: Some(CsvColumn {
            file: folder.path().join("x.csv"),
            join_column: None,
        }),
        ..options(folder.path(), cut)
    };
    run_slice(&options).await;
    let session = Session::try_new().unwrap();
    session
        .open(&path(folder.path(), "s_a.h5ad"))
        .await
        .unwrap();
    let sums = "SELECT sum(total_counts(X)) AS n, count(\"obs.X\") AS m FROM cells";
    let batches = session.collect(sums).await.unwrap();
    assert!(batches[0].column(0).as_primitive::<Float64Type>().value(0) > 0.0);
    assert_eq!(
        batches[0].column(1).as_primitive::<Int64Type>().value(0),
        300
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_writes_what_filter_writes_and_travels() {
    let folder = made().await;
    run_filter(folder.path(), "f.h5ad", "cell_type = 'B'").await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    let copy = |name: &str| {
        let target = path(folder.path(), name);
        format!("COPY (SELECT * FROM cells WHERE cell_type = 'B') TO '{target}' STORED AS H5AD")
    };
    session.collect(&copy("c.h5ad")).await.unwrap();
    assert_equal(folder.path(), "f.h5ad", "c.h5ad").await;

    let other = Session::try_new().unwrap();
    let task = other.context().task_ctx();
    let frame = session.sql(&copy("p.h5ad")).await.unwrap();
    let (state, logical) = frame.into_parts();
    let plan = state.create_physical_plan(&logical).await.unwrap();
    let codec = AnnDataPhysicalCodec::default();
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).unwrap();
    let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &task, &codec).unwrap();
    collect(plan, Arc::clone(&task)).await.unwrap();
    assert_equal(folder.path(), "f.h5ad", "p.h5ad").await;

    let (_, logical) = session.sql(&copy("l.h5ad")).await.unwrap().into_parts();
    let codec = AnnDataLogicalCodec::default();
    let bytes = logical_plan_to_bytes_with_extension_codec(&logical, &codec).unwrap();
    let logical = logical_plan_from_bytes_with_extension_codec(&bytes, &task, &codec).unwrap();
    let frame = other.context().execute_logical_plan(logical).await.unwrap();
    frame.collect().await.unwrap();
    assert_equal(folder.path(), "f.h5ad", "l.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_copy_is_named_as_slices_are() {
    let folder = made().await;
    let cut = Cut::Column {
        column: "cell_type".to_owned(),
        always_include: Vec::new(),
    };
    let report = run_slice(&options(folder.path(), cut)).await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    let target = path(folder.path(), "c.h5ad");
    let copy = format!(
        "COPY (SELECT * FROM cells) TO '{target}' STORED AS H5AD PARTITIONED BY (cell_type)"
    );
    session.collect(&copy).await.unwrap();
    for (name, _) in report {
        assert_equal(folder.path(), &name, &name.replacen("s_", "c_", 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_is_wrong() {
    let folder = made().await;
    let refused = |options: SliceOptions| async move {
        slice(&options)
            .await
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    let base = options(folder.path(), Cut::Size(100));
    run_slice(&base).await;
    let message = refused(base.clone()).await;
    assert!(
        message.contains("s_shard_0.h5ad") && message.contains("exists"),
        "{message}"
    );
    let message = refused(SliceOptions {
        genes: Some(GeneList(vec!["CD3".to_owned()])),
        ..base.clone()
    })
    .await;
    assert!(message.contains("no gene 'CD3'"), "{message}");
    let message = refused(SliceOptions {
        predicate: Some("cell_typ = 'B'".to_owned()),
        ..base.clone()
    })
    .await;
    assert!(
        message.contains("cell_typ") && message.contains("cell_type"),
        "{message}"
    );
    let message = refused(SliceOptions {
        predicate: Some("true LIMIT 5".to_owned()),
        ..base.clone()
    })
    .await;
    assert!(!message.is_empty());
    let cut = Cut::Column {
        column: "celltype".to_owned(),
        always_include: Vec::new(),
    };
    let message = refused(SliceOptions { cut, ..base }).await;
    assert!(message.contains("did you mean 'cell_type'"), "{message}");
}

/// 300 cells of 40 genes as `in.h5ad`.
async fn made() -> tempfile::TempDir {
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

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn options(folder: &Path, cut: Cut) -> SliceOptions {
    SliceOptions {
        input: Location::parse(&path(folder, "in.h5ad")),
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

async fn run_slice(options: &SliceOptions) -> Vec<(String, u64)> {
    let report = slice(options)
        .await
        .unwrap()
        .run(Arc::new(Quiet))
        .await
        .unwrap();
    let outputs = report.outputs.into_iter();
    outputs
        .map(|o| {
            (
                o.path.file_name().unwrap().to_str().unwrap().to_owned(),
                o.n_obs,
            )
        })
        .collect()
}

async fn run_filter(folder: &Path, output: &str, predicate: &str) {
    let options = FilterOptions {
        input: Location::parse(&path(folder, "in.h5ad")),
        output: folder.join(output),
        obs_column: None,
        csv: None,
        predicate: Some(predicate.to_owned()),
        genes: None,
        run: RunOptions::default(),
    };
    filter(&options)
        .await
        .unwrap()
        .run(Arc::new(Quiet))
        .await
        .unwrap();
}

async fn assert_equal(folder: &Path, left: &str, right: &str) {
    let [left, right] = [left, right].map(|name| Location::parse(&path(folder, name)));
    let found = compare(&left, &right, &VerifyOptions::default(), &Quiet)
        .await
        .unwrap();
    assert!(found.is_ok(), "{left} and {right}: {:?}", found.findings);
}

async fn names(folder: &Path) -> Vec<String> {
    let session = Session::try_new().unwrap();
    session.open(&path(folder, "in.h5ad")).await.unwrap();
    let batches = session
        .collect("SELECT obs_names FROM obs ORDER BY obs_idx")
        .await
        .unwrap();
    let mut names = Vec::new();
    for batch in &batches {
        let column = cast(batch.column(0), &DataType::Utf8).unwrap();
        names.extend(
            column
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(str::to_owned),
        );
    }
    names
}
