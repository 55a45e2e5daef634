//! Minibatches against the cells of the object, read in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use annfusion::loader::{ClassWeights, Loader, LoaderOptions, Minibatch, Position, Sampling};
use annfusion::ops::{CollectionOptions, Quiet, create_collection};
use annfusion::session::Session;
use annfusion::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use proptest::prelude::*;
use tokio::sync::OnceCell;

use crate::support::{at, made, path};

/// `in.h5ad` and collections of it: `kept.zarr` in its order, `coll.zarr` shuffled.
async fn folder() -> &'static Path {
    static MADE: OnceCell<tempfile::TempDir> = OnceCell::const_new();
    let made = MADE.get_or_init(|| async {
        let folder = made().await;
        for (name, order) in [
            ("kept.zarr", annfusion::ops::CollectionOrder::Kept),
            (
                "coll.zarr",
                annfusion::ops::CollectionOrder::Blocks { size: 20 },
            ),
        ] {
            let options = CollectionOptions {
                order,
                dataset_size: annfusion::element::Amount::Cells(100),
                ..CollectionOptions::new(
                    vec![at(folder.path(), "in.h5ad")],
                    folder.path().join(name),
                )
            };
            let prepared = create_collection(&options).await.unwrap();
            prepared.run(Arc::new(Quiet)).await.unwrap();
        }
        folder
    });
    made.await.path()
}

fn small() -> LoaderOptions {
    LoaderOptions {
        batch_size: 32,
        chunk_size: 8,
        preload_nchunks: 8,
        return_index: true,
        obs: vec!["cell_type".to_owned()],
        obsm: vec!["X_pca".to_owned()],
        ..LoaderOptions::default()
    }
}

/// Minibatches, and where the first cell of each is in the order.
async fn epoch(loader: &Loader, epoch: u64) -> Vec<(u64, RecordBatch)> {
    let mut minibatches = loader.epoch(epoch);
    let mut all = Vec::new();
    while let Some(minibatch) = minibatches.next().await {
        let minibatch = minibatch.unwrap();
        all.push((minibatch.cells.ranges()[0].start, minibatch.batch));
    }
    all
}

/// What stands in a row of a column, whatever the types of indices and codes.
fn shown(column: &ArrayRef, row: usize) -> String {
    if let Some(list) = column.as_list_opt::<i32>() {
        let entries = list.value(row);
        let entries = entries.as_struct();
        let indices = cast(entries.column(0), &DataType::Int64).unwrap();
        let data = cast(entries.column(1), &DataType::Float64).unwrap();
        let pairs = indices.as_primitive::<Int64Type>().values().iter();
        let pairs = pairs.zip(data.as_primitive::<Float64Type>().values());
        return format!("{:?}", pairs.collect::<BTreeMap<_, _>>());
    }
    if let Some(list) = column.as_fixed_size_list_opt() {
        let values = cast(&list.value(row), &DataType::Float64).unwrap();
        return format!("{:?}", values.as_primitive::<Float64Type>().values());
    }
    let text = cast(&column.slice(row, 1), &DataType::Utf8).unwrap();
    format!("{:?}", text.as_string::<i32>().iter().next().flatten())
}

/// Every row by its position, over the columns of a minibatch.
async fn expected(name: &str, of: &RecordBatch) -> Vec<Vec<String>> {
    let session = Session::try_new().unwrap();
    session.open(&path(folder().await, name)).await.unwrap();
    let schema = of.schema();
    let names: Vec<String> = schema
        .fields()
        .iter()
        .map(|f| format!("\"{}\"", f.name()))
        .collect();
    let sql = format!("SELECT {} FROM cells ORDER BY obs_idx", names.join(", "));
    let batches = session.collect(&sql).await.unwrap();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    (0..all.num_rows())
        .map(|row| all.columns().iter().map(|c| shown(c, row)).collect())
        .collect()
}

async fn check(name: &str, minibatches: &[(u64, RecordBatch)]) -> Vec<i64> {
    let expected = expected(name, &minibatches[0].1).await;
    let mut seen = Vec::new();
    for (_, batch) in minibatches {
        for row in 0..batch.num_rows() {
            let position = batch.column(0).as_primitive::<Int64Type>().value(row);
            let found: Vec<String> = batch.columns().iter().map(|c| shown(c, row)).collect();
            assert_eq!(found, expected[usize::try_from(position).unwrap()]);
            seen.push(position);
        }
    }
    seen
}

#[tokio::test]
async fn an_epoch_has_every_cell_once_as_it_is() {
    for name in ["in.h5ad", "kept.zarr", "coll.zarr"] {
        let loader = Loader::open(&[at(folder().await, name)], small())
            .await
            .unwrap();
        assert_eq!((loader.n_obs(), loader.n_minibatches()), (300, 10));
        let minibatches = epoch(&loader, 0).await;
        let mut seen = check(name, &minibatches).await;
        assert_ne!(seen, epoch_of(&loader, 1).await);
        assert_eq!(seen, epoch_of(&loader, 0).await);
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
    }
}

async fn epoch_of(loader: &Loader, number: u64) -> Vec<i64> {
    let minibatches = epoch(loader, number).await;
    let of = minibatches.iter().flat_map(|(_, batch)| {
        batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    });
    of.collect()
}

#[tokio::test]
async fn objects_side_by_side_are_numbered_on() {
    let folder = folder().await;
    let several = ["coll.zarr", "kept.zarr"].map(|name| at(folder, name));
    let options = LoaderOptions {
        sampling: Sampling::Sequential,
        drop_last: true,
        ..small()
    };
    let loader = Loader::open(&several, options).await.unwrap();
    let seen = epoch_of(&loader, 0).await;
    assert_eq!(seen, (0..576).collect::<Vec<_>>());
}

#[tokio::test]
async fn predicates_classes_and_repeats_choose_cells() {
    let folder = folder().await;
    let open = async |change: fn(&mut LoaderOptions)| {
        let mut options = small();
        change(&mut options);
        Loader::open(&[at(folder, "coll.zarr")], options).await
    };
    let loader = open(|o| o.predicate = Some("obs_idx % 3 = 1".to_owned()))
        .await
        .unwrap();
    let minibatches = epoch(&loader, 0).await;
    let seen = check("coll.zarr", &minibatches).await;
    assert_eq!(seen.len() as u64, loader.n_obs());
    assert_eq!(loader.n_obs(), 100);

    let loader = open(|o| {
        o.sampling = Sampling::Classes {
            column: "cell_type".to_owned(),
            weights: ClassWeights::Balanced,
            num_samples: Some(3000),
        };
    });
    let minibatches = epoch(&loader.await.unwrap(), 0).await;
    check("coll.zarr", &minibatches).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, batch) in &minibatches {
        let column = batch.column_by_name("cell_type").unwrap();
        (0..batch.num_rows()).for_each(|row| *counts.entry(shown(column, row)).or_default() += 1);
    }
    assert_eq!(counts.len(), 3);
    assert!(
        counts.values().all(|n| (850..1150).contains(n)),
        "{counts:?}"
    );

    let loader = open(|o| {
        o.sampling = Sampling::Replacement {
            num_samples: Some(100),
        }
    });
    let minibatches = epoch(&loader.await.unwrap(), 0).await;
    assert_eq!(check("coll.zarr", &minibatches).await.len(), 100);

    let unknown: Result<Loader> = open(|o| o.obs = vec!["nothing".to_owned()]).await;
    let message = unknown.unwrap_err().to_string();
    assert!(message.contains("no 'nothing'; there are"), "{message}");
    let none = open(|o| o.predicate = Some("false".to_owned())).await;
    assert!(matches!(none, Err(Error::InvalidOption { .. })));
}

#[tokio::test]
async fn genes_totals_and_logs_are_those_of_the_cells() {
    let folder = folder().await;
    let options = LoaderOptions {
        genes: Some(vec!["Gene7".to_owned(), "Gene3".to_owned()]),
        normalize_total: Some(1e4),
        log1p: true,
        dense: true,
        ..small()
    };
    let session = Session::try_new().unwrap();
    session.open(&path(folder, "in.h5ad")).await.unwrap();
    let names = session.collect("SELECT var_names FROM var").await.unwrap();
    let names = crate::support::texts(&names);
    let options = LoaderOptions {
        genes: Some(vec![names[7].clone(), names[3].clone()]),
        ..options
    };
    let loader = Loader::open(&[at(folder, "in.h5ad")], options)
        .await
        .unwrap();
    let sql = format!(
        "SELECT gene(X, '{}'), gene(X, '{}'), total_counts(X) FROM cells ORDER BY obs_idx",
        names[7], names[3]
    );
    let cells = session.collect(&sql).await.unwrap();
    let cells = concat_batches(&cells[0].schema(), &cells).unwrap();
    let number = |column: usize, row: usize| {
        let values = cast(cells.column(column), &DataType::Float64).unwrap();
        values.as_primitive::<Float64Type>().value(row)
    };
    for (_, batch) in epoch(&loader, 0).await {
        let x = batch.column_by_name("X").unwrap().as_fixed_size_list();
        for row in 0..batch.num_rows() {
            let cell = batch.column(0).as_primitive::<Int64Type>().value(row);
            let cell = usize::try_from(cell).unwrap();
            let found = x.value(row);
            let found = found.as_primitive::<Float32Type>();
            for gene in 0..2 {
                let expected = (number(gene, cell) / number(2, cell).max(1e-30) * 1e4).ln_1p();
                let found = f64::from(found.value(gene));
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.max(1.0),
                    "{found} {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Ranks are parts of one epoch, and others may take over at any minibatch: every cell comes once,
    /// to one of them, and all have equally many minibatches.
    #[test]
    fn ranks_and_positions_do_not_change_the_order(
        (batch, preload) in (0u32..4).prop_flat_map(|log| (Just(4u64 << log), 1u64..5)),
        world_size in 1u64..5,
        next_size in 1u64..5,
        stop in 0u64..20,
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let options = LoaderOptions {
                batch_size: batch,
                chunk_size: batch / 4,
                preload_nchunks: 4 * preload,
                seed,
                x: false,
                obsm: Vec::new(),
                ..small()
            };
            let locations = [at(folder().await, "coll.zarr")];
            let open = async |rank, world_size| {
                let options = LoaderOptions { rank, world_size, ..options.clone() };
                Loader::open(&locations, options).await.unwrap()
            };
            let whole = open(0, 1).await;
            let mut order = Vec::new();
            for (_, batch) in epoch(&whole, 3).await {
                order.extend_from_slice(positions(&batch));
            }
            prop_assert_eq!(order.len() as u64, whole.n_obs());
            let mut found = vec![None; order.len()];
            let mut put = |minibatch: &Minibatch| {
                let places = minibatch.cells.iter();
                for (place, row) in places.zip(positions(&minibatch.batch)) {
                    let before = found[usize::try_from(place).unwrap()].replace(*row);
                    assert_eq!(before, None, "a cell came twice");
                }
            };
            let mut done = Position::start(3);
            for rank in 0..world_size {
                let loader = open(rank, world_size).await;
                let mut minibatches = loader.epoch(3);
                prop_assert_eq!(minibatches.left() * world_size, loader.n_minibatches());
                for _ in 0..stop {
                    let Some(minibatch) = minibatches.next().await else { break };
                    put(&minibatch.unwrap());
                }
                done = done.and(minibatches.position());
            }
            let text = serde_json::to_string(&done).unwrap();
            let done: Position = serde_json::from_str(&text).unwrap();
            let left = order.len() as u64 - done.done.len();
            let mut lens = Vec::new();
            for rank in 0..next_size {
                let mut minibatches = open(rank, next_size).await.resume(&done);
                lens.push(minibatches.left());
                while let Some(minibatch) = minibatches.next().await {
                    put(&minibatch.unwrap());
                }
            }
            prop_assert!(lens.iter().all(|len| *len == lens[0]), "{:?}", lens);
            // Of fewer cells than ranks there is none for each.
            if left >= next_size {
                let found: Option<Vec<i64>> = found.into_iter().collect();
                prop_assert_eq!(found, Some(order));
            }
            Ok(())
        })?;
    }
}

fn positions(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive::<Int64Type>().values()
}
