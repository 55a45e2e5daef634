//! Tables of real and made objects: every one runs, pushdowns read less, plans survive protobuf.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fixture fails the test"
)]

use std::sync::{Arc, OnceLock};

use annfusion::ops::{Quiet, SynthOptions, synth};
use annfusion::session::Session;
use annfusion::table::{AnnDataSource, TableKind};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::collect;

use crate::support::{sent, sent_logical};

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_every_object_runs_and_counts_its_rows() {
    for location in crate::shared_objects() {
        let session = session();
        let opened = match session.open(&format!("o={location}")).await {
            Ok(opened) => opened,
            Err(error)
                if location.contains("no_index") || location.contains("anndataR-example.zarr") =>
            {
                assert!(error.to_string().contains("obs"), "{error}");
                continue;
            }
            Err(error) => panic!("{location}: {error}"),
        };
        for table in TableKind::all(&opened.object) {
            let all = session.collect(&format!("SELECT * FROM \"{table}\"")).await;
            let all = all.unwrap_or_else(|error| panic!("{location} {table}: {error}"));
            let n_rows: usize = all.iter().map(RecordBatch::num_rows).sum();
            let counted = text(&session, &format!("SELECT count(*) FROM \"{table}\"")).await;
            assert!(
                counted.contains(&format!("| {n_rows} ")),
                "{location} {table}: {n_rows}\n{counted}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushdowns_read_less() {
    let session = demo().await;
    let bytes = async |sql: &str| bytes_read(&session, sql).await;
    let x = bytes("SELECT X FROM cells").await;
    assert!(x > 1_000_000, "{x}");
    assert_eq!(bytes("SELECT count(*) FROM cells").await, 0);
    // Projection: no other column is touched.
    assert!(bytes("SELECT cell_type FROM cells").await < 30_000);
    // Late materialisation: the matrix is read for the rows that survive.
    assert!(bytes("SELECT X FROM cells WHERE obs_idx BETWEEN 100 AND 199").await < x / 20);
    assert!(bytes("SELECT X FROM cells WHERE donor_age < 0").await < x / 20);
    // A matrix function reads the part it needs: data, not indices.
    let counts = bytes("SELECT total_counts(X) FROM cells").await;
    assert!(counts < x * 6 / 10, "{counts} of {x}");
    let filtered = bytes("SELECT gene(X, 'CD3D') FROM cells WHERE obs_idx < 100").await;
    assert!(filtered < x / 20, "{filtered} of {x}");
    // A limit stops.
    assert!(bytes("SELECT X FROM cells LIMIT 5").await < x / 4);
    // One gene's entries: all indices, and data of few rows.
    let coo = bytes("SELECT value FROM X_coo WHERE obs_idx < 50 AND var_names = 'CD3D'").await;
    assert!(coo < x / 20, "{coo} of {x}");
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_functions_in_the_scan_equal_those_above_it() {
    let session = demo().await;
    let calls = "n_genes(X) a, total_counts(X) b, gene(X, 'CD3D') c";
    let inside = session
        .collect(&format!("SELECT {calls} FROM cells"))
        .await
        .unwrap();
    // Where the rows are wanted too, the functions run on them.
    let above = session
        .collect(&format!("SELECT {calls}, X FROM cells"))
        .await
        .unwrap();
    let above: Vec<_> = above
        .iter()
        .map(|batch| batch.project(&[0, 1, 2]).unwrap())
        .collect();
    let one = |batches: &[RecordBatch]| concat_batches(&batches[0].schema(), batches).unwrap();
    assert_eq!(one(&inside), one(&above));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_survive_protobuf_and_give_the_same_rows() {
    let session = demo().await;
    let opened = session
        .open(&format!("again={}", demo_path().await))
        .await
        .unwrap();
    let mut queries: Vec<String> = TableKind::all(&opened.object)
        .iter()
        .map(|table| format!("SELECT * FROM \"{table}\" ORDER BY 1, 2, 3 LIMIT 50"))
        .filter(|sql| !sql.contains("\"X\"") && !sql.contains("cells"))
        .collect();
    queries.extend(
        [
            "SELECT obs_names, X FROM cells WHERE n_genes(X) > 90 AND cell_type <> 'B' ORDER BY obs_idx",
            "SELECT cell_type, avg(gene(X, 'CD3D')), count(*) FROM cells GROUP BY cell_type ORDER BY 1",
            "SELECT obs_idx + 1, total_counts(X) * 2 FROM cells WHERE obs_idx IN (1, 5000, 9999) ORDER BY 1",
            "SELECT a.obs_idx FROM obs a JOIN obs b ON a.obs_idx = b.obs_idx + 1 WHERE b.donor_age > 50 ORDER BY 1",
            "SELECT * FROM X LIMIT 3",
        ]
        .map(str::to_owned),
    );
    for sql in queries {
        let expected = text(&session, &sql).await;
        let frame = session.sql(&sql).await.unwrap();
        let (state, logical) = frame.clone().into_parts();
        let other = session_of_another_machine();
        let task = other.context().task_ctx();

        let plan = sent(frame.create_physical_plan().await.unwrap(), &task);
        let rows = collect(plan, other.context().task_ctx()).await.unwrap();
        assert_eq!(expected, show(&rows), "{sql}");

        let logical = sent_logical(&state.optimize(&logical).unwrap(), &task);
        let frame = other.context().execute_logical_plan(logical).await.unwrap();
        assert_eq!(expected, show(&frame.collect().await.unwrap()), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_a_script_run_as_they_were_parsed() {
    let session = demo().await;
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name).display().to_string();
    let script = format!(
        "CREATE EXTERNAL TABLE few STORED AS H5AD LOCATION '{}' OPTIONS ('h5ad.table' 'var');
         COPY (SELECT * FROM cells LIMIT 5) TO '{}' STORED AS H5AD
           OPTIONS ('h5ad.compression' 'gzip');
         SELECT count(*) AS n FROM few;",
        demo_path().await,
        to("five.h5ad"),
    );
    let mut last = String::new();
    for statement in session.parse(&script).unwrap() {
        let frame = session.run_statement(statement).await.unwrap();
        last = show(&frame.collect().await.unwrap());
    }
    assert!(last.contains("| 500 |"), "{last}");
    session
        .open(&format!("five={}", to("five.h5ad")))
        .await
        .unwrap();
    let sql = "SELECT count(*) AS n FROM five.elements WHERE compression LIKE '%gzip%'";
    assert!(!text(&session, sql).await.contains("| 0 "));
    let typo = session
        .parse("SELECT 1 FROM cell; SELECT 2")
        .unwrap()
        .remove(0);
    let error = session.run_statement(typo).await.unwrap_err().to_string();
    assert!(error.contains("did you mean cells?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_weigh_what_is_projected() {
    let session = demo().await;
    let bytes = async |sql: &str| {
        let frame = session.sql(sql).await.unwrap();
        let mut plan = frame.create_physical_plan().await.unwrap();
        while let Some(child) = plan.children().first().map(|c| Arc::clone(c)) {
            plan = child;
        }
        let leaf = plan.downcast_ref::<DataSourceExec>().unwrap();
        let (_, source) = leaf.downcast_to_file_source::<AnnDataSource>().unwrap();
        source.matrix_row_bytes()
    };
    let x = bytes("SELECT X FROM cells").await;
    let pca = bytes("SELECT \"obsm_X_pca\" FROM cells").await;
    assert!(0 < pca && pca < x, "{pca} of {x}");
    assert_eq!(bytes("SELECT X, \"obsm_X_pca\" FROM cells").await, x + pca);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_frame_is_read_once_for_all_its_columns() {
    let Some(path) = crate::shared("data/encodings/p3.h5ad") else {
        return;
    };
    let session = session();
    session
        .open(&format!("p={}", path.display()))
        .await
        .unwrap();
    let one = bytes_read(&session, "SELECT a FROM obsm_df").await;
    let all = bytes_read(
        &session,
        "SELECT * EXCLUDE (obs_names, obs_idx) FROM obsm_df",
    )
    .await;
    assert!(one > 0);
    assert_eq!(one, all);
}

fn session() -> Session {
    Session::builder().target_partitions(4).build().unwrap()
}

/// A session that has opened nothing.
fn session_of_another_machine() -> Session {
    session()
}

async fn text(session: &Session, sql: &str) -> String {
    show(
        &session
            .collect(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}")),
    )
}

fn show(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// What EXPLAIN ANALYZE says that the scans of a query read.
async fn bytes_read(session: &Session, sql: &str) -> usize {
    let plan = session
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    collect(std::sync::Arc::clone(&plan), session.context().task_ctx())
        .await
        .unwrap();
    let mut total = 0;
    let mut todo = vec![plan];
    while let Some(node) = todo.pop() {
        let metrics = node.metrics().and_then(|m| m.sum_by_name("bytes_read"));
        total += metrics.map_or(0, |m| m.as_usize());
        todo.extend(node.children().into_iter().cloned());
    }
    total
}

async fn demo() -> Session {
    let session = session();
    session
        .open(&format!("demo={}", demo_path().await))
        .await
        .unwrap();
    session
}

/// 10,000 cells of 500 genes, made once.
async fn demo_path() -> String {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    static MAKE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = MAKE.lock().await;
    if DEMO.get().is_none() {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions {
            n_obs: 10_000,
            n_vars: 500,
            mean_genes: Some(60.0),
            cell_types: 3,
            seed: 7,
            ..SynthOptions::new(folder.path().join("demo.h5ad"))
        };
        synth(&options, &Quiet).await.unwrap();
        DEMO.set(folder).unwrap();
    }
    DEMO.get()
        .unwrap()
        .path()
        .join("demo.h5ad")
        .display()
        .to_string()
}
