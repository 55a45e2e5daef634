//! Queries, slices, shuffles and merges on two slots, with more partitions than that.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use annfusion::model::Location;
use annfusion::ops::{
    CollectionOptions, Cut, MergeOptions, Prepared, Quiet, RunOptions, Shards, ShuffleOptions,
    SliceOptions, SynthOptions, VerifyOptions, compare, create_collection, merge, shuffle, slice,
    synth,
};
use annfusion::plan::merge::{Join, MergeSpec};
use annfusion::plan::{Shuffle, ShuffleWay};
use annfusion::session::Session;
use annfusion::sink::StorageChoice;
use annfusion::store::Format;
use annfusion_ballista::Cluster;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::ExecutionPlan;

const SLOTS: usize = 2;
const PARTITIONS: usize = 7;
/// So many cells that scans have all partitions.
const CELLS: u64 = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_there_is_what_runs_here() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    object(&here.join("a.h5ad"), CELLS, 40, 1).await;
    object(&here.join("b.h5ad"), 9_000, 55, 2).await;
    let there = Cluster::start(SLOTS, PARTITIONS).await.unwrap();

    queries(here, &there).await;
    copies(here, &there).await;
    plans(here, &there).await;
}

/// Scans are cut into tasks, shuffles and merges are not.
async fn queries(here: &Path, there: &Cluster) {
    let local = Session::builder().target_partitions(PARTITIONS);
    let local = local.build().unwrap();
    let [a, b] = ["a.h5ad", "b.h5ad"].map(|name| here.join(name).display().to_string());
    let by_type = "cell_type, count(*) AS n, sum(total_counts(X)) AS counts, \
                   sum(obs_idx) AS places";
    let merged = format!("merge('{a}', '{b}', {{'join': 'outer'}})");
    for table in [
        format!("read_anndata('{a}')"),
        format!("shuffle('{a}', 5)"),
        merged,
    ] {
        let sql = format!("SELECT {by_type} FROM {table} GROUP BY cell_type ORDER BY cell_type");
        let expected = local.collect(&sql).await.unwrap();
        let found = there.sql(&sql).await.unwrap();
        let text = |batches: &[_]| pretty_format_batches(batches).unwrap().to_string();
        assert_eq!(text(&found), text(&expected), "{sql}");
    }
}

/// Statements that write, planned by the scheduler.
async fn copies(here: &Path, there: &Cluster) {
    let local = Session::builder().target_partitions(PARTITIONS);
    let local = local.build().unwrap();
    let [a, b] = ["a.h5ad", "b.h5ad"].map(|name| here.join(name).display().to_string());
    let sources = [
        (
            "cells",
            format!("read_anndata('{a}') WHERE cell_type = 'B'"),
        ),
        ("shuffled", format!("shuffle('{a}', 5)")),
        ("merged", format!("merge('{a}', '{b}')")),
    ];
    for (name, source) in sources {
        let copy = |end: &str| {
            let path = here.join(format!("{name}_{end}.h5ad"));
            let sql = format!(
                "COPY (SELECT * FROM {source}) TO '{}' STORED AS H5AD",
                path.display()
            );
            (path, sql)
        };
        let (expected, sql) = copy("here");
        local.collect(&sql).await.unwrap();
        let (found, sql) = copy("there");
        there.sql(&sql).await.unwrap();
        assert_equal(&found, &expected).await;
    }
}

/// Plans of the operations, made here.
async fn plans(here: &Path, there: &Cluster) {
    let at = |name: &str| Location::parse(&here.join(name).display().to_string());
    let run = |jobs| RunOptions {
        jobs: Some(jobs),
        ..RunOptions::default()
    };
    for (name, order) in [
        ("slice", None),
        ("gather", Some(ShuffleWay::Gather)),
        ("scatter", Some(ShuffleWay::Scatter)),
        ("passes", Some(ShuffleWay::Passes)),
    ] {
        let options = |end: &str| SliceOptions {
            input: at("a.h5ad"),
            prefix: here.join(format!("{name}_{end}")),
            cut: Cut::Size(CELLS / 9),
            csv: None,
            predicate: None,
            genes: None,
            shuffle: order.map(|way| Shuffle {
                way: Some(way),
                ..Shuffle::new(3)
            }),
            output_names: None,
            run: run(3),
        };
        let (ours, theirs) = (
            slice(&options("here")).await,
            slice(&options("there")).await,
        );
        both(ours.unwrap(), theirs.unwrap(), there).await;
    }
    std::fs::copy(here.join("a.h5ad"), here.join("again.h5ad")).unwrap();
    let options = |end: &str| ShuffleOptions {
        inputs: vec![at("a.h5ad"), at("again.h5ad")],
        output: here.join(format!("twice_{end}.h5ad")),
        shards: Shards::One,
        shuffle: Shuffle::new(7),
        genes: None,
        run: run(1),
    };
    let (ours, theirs) = (
        shuffle(&options("here")).await,
        shuffle(&options("there")).await,
    );
    both(ours.unwrap(), theirs.unwrap(), there).await;
    for join in [Join::Inner, Join::Outer] {
        let options = |end: &str| MergeOptions {
            spec: MergeSpec {
                join,
                ..MergeSpec::new(vec![at("a.h5ad"), at("b.h5ad")])
            },
            output: here.join(format!("{join}_{end}.h5ad")),
            run: run(1),
        };
        let (ours, theirs) = (
            merge(&options("here")).await,
            merge(&options("there")).await,
        );
        both(ours.unwrap(), theirs.unwrap(), there).await;
    }
    let storage = StorageChoice::default().in_format(Format::ZARR).unwrap();
    let options = |end: &str| CollectionOptions {
        run: RunOptions { storage, ..run(1) },
        ..CollectionOptions::new(
            vec![at("a.h5ad"), at("b.h5ad")],
            here.join(format!("collection_{end}.zarr")),
        )
    };
    let ours = create_collection(&options("here")).await;
    let theirs = create_collection(&options("there")).await;
    both(ours.unwrap(), theirs.unwrap(), there).await;
}

/// Runs one plan here and the same with other names there; their outputs are equal.
async fn both(ours: Prepared, theirs: Prepared, there: &Cluster) {
    let paths = |prepared: &Prepared| -> Vec<PathBuf> {
        let outputs = prepared.estimate().outputs.iter();
        outputs.map(|output| output.path.clone()).collect()
    };
    let (expected, found) = (paths(&ours), paths(&theirs));
    ours.run(Arc::new(Quiet)).await.unwrap();
    let plan: Arc<dyn ExecutionPlan> = Arc::clone(theirs.plan()) as _;
    there.run(plan).await.unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_equal(found, expected).await;
    }
}

async fn object(path: &Path, n_obs: u64, n_vars: u32, seed: u64) {
    let options = SynthOptions {
        n_obs,
        n_vars,
        cell_types: 3,
        seed,
        ..SynthOptions::new(path)
    };
    synth(&options, &Quiet).await.unwrap();
}

async fn assert_equal(found: &Path, expected: &Path) {
    let [left, right] = [found, expected].map(|path| Location::parse(&path.display().to_string()));
    let options = VerifyOptions::default();
    let compared = compare(&left, &right, &options, &Quiet).await.unwrap();
    assert!(
        compared.is_ok(),
        "{left} and {right}: {:?}",
        compared.findings
    );
}
