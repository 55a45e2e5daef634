//! Slices and filters of a made object, and the same through SQL and through protobuf.

use std::path::Path;

use annfusion::ops::{CsvColumn, Cut, FilterOptions, GeneList, SliceOptions, slice};
use annfusion::session::Session;
use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};

use crate::support::{
    assert_copies, assert_equal, filter_options, made, obs_names, path, run_filter, run_slice,
    slice_options,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_is_the_whole_object() {
    let folder = made().await;
    let report = run_slice(&slice_options(folder.path(), Cut::Size(1000))).await;
    assert_eq!(report, [("s_shard_0.h5ad".to_owned(), 300)]);
    assert_equal(folder.path(), "in.h5ad", "s_shard_0.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_follow_each_other_and_the_last_is_short() {
    let folder = made().await;
    let report = run_slice(&slice_options(folder.path(), Cut::Size(140))).await;
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
    run_slice(&slice_options(folder.path(), Cut::Size(140))).await;
    filter_by(folder.path(), "f.h5ad", "obs_idx BETWEEN 140 AND 279").await;
    assert_equal(folder.path(), "s_shard_1.h5ad", "f.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_written_in_one_pass_and_share_what_is_always_included() {
    let folder = made().await;
    let cut = Cut::Column {
        column: "cell_type".to_owned(),
        always_include: vec!["B".to_owned()],
    };
    let report = run_slice(&slice_options(folder.path(), cut)).await;
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
    filter_by(folder.path(), "f.h5ad", &predicate).await;
    assert_equal(folder.path(), name, "f.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_column_cuts_and_goes_along() {
    let folder = made().await;
    let names = obs_names(folder.path(), "in.h5ad").await;
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
        ..slice_options(folder.path(), cut)
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
    let names = obs_names(folder.path(), "in.h5ad").await;
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
        ..slice_options(folder.path(), cut)
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
    filter_by(folder.path(), "f.h5ad", "cell_type = 'B'").await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    let copy = |name: &str| {
        let target = path(folder.path(), name);
        format!("COPY (SELECT * FROM cells WHERE cell_type = 'B') TO '{target}' STORED AS H5AD")
    };
    assert_copies(folder.path(), &session, copy, "f.h5ad").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_copy_is_named_as_slices_are() {
    let folder = made().await;
    let cut = Cut::Column {
        column: "cell_type".to_owned(),
        always_include: Vec::new(),
    };
    let report = run_slice(&slice_options(folder.path(), cut)).await;
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
    let base = slice_options(folder.path(), Cut::Size(100));
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

async fn filter_by(folder: &Path, output: &str, predicate: &str) {
    let options = FilterOptions {
        predicate: Some(predicate.to_owned()),
        ..filter_options(folder, "in.h5ad", output)
    };
    run_filter(&options).await;
}
