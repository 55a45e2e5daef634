//! Shuffles of made objects: every way, limit and cut gives the order that the rule says.

use std::path::Path;
use std::sync::Arc;

use annfusion::element::AnnData;
use annfusion::error::Result;
use annfusion::model::{RowGroups, RowOrder, RowSelection};
use annfusion::ops::{
    ConvertOptions, Cut, Quiet, RunOptions, Shards, ShuffleOptions, SliceOptions, SplitParts,
    SynthOptions, VerifyOptions, compare, convert, shuffle, synth,
};
use annfusion::plan::{
    Shuffle, ShuffleMemory, ShuffleRequest, ShuffleWay, ShuffledObject, ShuffledScan,
};
use annfusion::session::Session;
use annfusion::store::Format;
use annfusion::table::{CellsScan, RowWeight, scan_cells};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use crate::support::{
    at, made, obs_names, path, run_slice, sent, sent_logical, slice_options, texts,
};

const CELLS: u64 = 300;
const GIB: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn every_way_and_limit_writes_the_same_bytes_in_the_order_of_keys() {
    let folder = made().await;
    let mut expected = None;
    for way in ShuffleWay::ALL.map(Some).into_iter().chain([None]) {
        for (limit, jobs) in [(192 << 20, 1), (4 * GIB, 2)] {
            let options = SliceOptions {
                shuffle: Some(Shuffle {
                    way,
                    ..Shuffle::new(9)
                }),
                run: RunOptions {
                    memory_limit: Some(limit),
                    jobs: Some(jobs),
                    overwrite: true,
                    ..RunOptions::default()
                },
                ..slice_options(folder.path(), Cut::Size(110))
            };
            run_slice(&options).await;
            let bytes: Vec<Vec<u8>> = (0..3)
                .map(|i| std::fs::read(folder.path().join(format!("s_shard_{i}.h5ad"))).unwrap())
                .collect();
            let expected = expected.get_or_insert_with(|| bytes.clone());
            assert!(*expected == bytes, "{way:?} with {limit} and {jobs} jobs");
        }
    }
    let all = obs_names(folder.path(), "in.h5ad").await;
    let mut shuffled = Vec::new();
    for i in 0..3 {
        shuffled.extend(obs_names(folder.path(), &format!("s_shard_{i}.h5ad")).await);
    }
    let by_rule: Vec<String> = in_order(9, 0..CELLS)
        .into_iter()
        .map(|row| all[usize::try_from(row).unwrap()].clone())
        .collect();
    assert_eq!(shuffled, by_rule);
}

#[tokio::test(flavor = "multi_thread")]
async fn zarr_and_several_files_give_the_same_order() {
    let folder = made().await;
    run_slice(&slice_options(folder.path(), Cut::Size(77))).await;
    let store = ConvertOptions {
        input: at(folder.path(), "in.h5ad"),
        output: folder.path().join("in.zarr"),
        drop: Vec::new(),
        sparse: Vec::new(),
        dense: Vec::new(),
        genes: None,
        run: RunOptions {
            storage: annfusion::element::Storage::of(Format::ZARR),
            ..RunOptions::default()
        },
    };
    convert(&store)
        .await
        .unwrap()
        .run(Arc::new(Quiet))
        .await
        .unwrap();
    let parts: Vec<_> = (0..4).map(|i| format!("s_shard_{i}.h5ad")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let mut orders = Vec::new();
    for (inputs, output) in [
        (vec!["in.h5ad"], "a.h5ad"),
        (vec!["in.zarr"], "b.h5ad"),
        (parts, "c.h5ad"),
    ] {
        let options = shuffle_options(folder.path(), &inputs, output, Shards::One);
        run_shuffle(&options).await;
        orders.push(obs_names(folder.path(), output).await);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    let [a, b] = ["a.h5ad", "b.h5ad"].map(|name| at(folder.path(), name));
    let found = compare(&a, &b, &VerifyOptions::default(), &Quiet)
        .await
        .unwrap();
    assert!(found.is_ok(), "{:?}", found.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_not_shuffled_with_itself() {
    let folder = made().await;
    let session = Session::try_new().unwrap();
    let input = path(folder.path(), "in.h5ad");
    let sql = format!("SELECT obs_idx FROM shuffle('{input}', '{input}', 1)");
    let error = session.collect(&sql).await.unwrap_err().to_string();
    assert!(error.contains("given twice"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_the_order_of_the_rest_and_seeds_differ() {
    let folder = made().await;
    let order = |seed, predicate: &str| {
        let sql = format!("SELECT obs_idx FROM shuffle('cells', {seed}) WHERE {predicate}");
        let path = path(folder.path(), "in.h5ad");
        async move {
            let session = Session::try_new().unwrap();
            session.open(&path).await.unwrap();
            integers(&session.collect(&sql).await.unwrap())
        }
    };
    let all = order(3, "true").await;
    assert_eq!(all, in_order(3, 0..CELLS));
    let even: Vec<u64> = all.iter().copied().filter(|row| row % 2 == 0).collect();
    assert_eq!(order(3, "obs_idx % 2 = 0").await, even);
    assert_ne!(order(4, "true").await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_numbered_as_its_rows_come() {
    let folder = made().await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    session
        .collect("CREATE VIEW late AS SELECT obs_idx, X FROM cells WHERE obs_idx >= 100")
        .await
        .unwrap();
    let rows = session
        .collect("SELECT obs_idx FROM shuffle('late', 8)")
        .await
        .unwrap();
    let expected: Vec<u64> = in_order(8, 0..200)
        .into_iter()
        .map(|row| row + 100)
        .collect();
    let mut sorted = integers(&rows);
    assert_eq!(sorted, expected);
    sorted.sort_unstable();
    assert_eq!(sorted, (100..CELLS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffle_survives_the_trip_as_bytes() {
    let folder = made().await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    let context = session.context();
    let task = context.task_ctx();
    for way in ShuffleWay::ALL {
        let sql = format!(
            "SELECT obs_idx, X FROM shuffle('cells', 5, '{}')",
            way.name()
        );
        let frame = session.sql(&sql).await.unwrap();
        let logical = frame.logical_plan().clone();
        let logical = sent_logical(&logical, &task);
        let plan = context
            .state()
            .create_physical_plan(&logical)
            .await
            .unwrap();
        let plan = sent(plan, &task);
        let batches = collect(plan, Arc::clone(&task)).await.unwrap();
        assert_eq!(integers(&batches), in_order(5, 0..CELLS), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_hold_every_cell_once_and_follow_the_seed() {
    let folder = made().await;
    let mut orders = Vec::new();
    for (seed, output) in [(1, "a.h5ad"), (1, "b.h5ad"), (2, "c.h5ad")] {
        let options = ShuffleOptions {
            shuffle: Shuffle {
                block: Some(7),
                ..Shuffle::new(seed)
            },
            ..shuffle_options(folder.path(), &["in.h5ad"], output, Shards::One)
        };
        run_shuffle(&options).await;
        orders.push(obs_names(folder.path(), output).await);
    }
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
    let mut sorted = orders.swap_remove(0);
    let mut all = obs_names(folder.path(), "in.h5ad").await;
    assert_ne!(sorted, all);
    sorted.sort_unstable();
    all.sort_unstable();
    assert_eq!(sorted, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_even_and_outputs_of_categories_are_shuffled() {
    let folder = made().await;
    let options = shuffle_options(folder.path(), &["in.h5ad"], "o.h5ad", Shards::Count(7));
    let report = run_shuffle(&options).await;
    let sizes: Vec<u64> = report.outputs.iter().map(|o| o.n_obs).collect();
    assert_eq!(sizes, [42, 43, 43, 43, 43, 43, 43]);
    let cut = Cut::Column {
        column: "cell_type".to_owned(),
        always_include: Vec::new(),
    };
    let options = SliceOptions {
        shuffle: Some(Shuffle::new(6)),
        ..slice_options(folder.path(), cut)
    };
    run_slice(&options).await;
    let session = Session::try_new().unwrap();
    session.open(&path(folder.path(), "in.h5ad")).await.unwrap();
    let sql = "SELECT obs_names FROM shuffle('cells', 6) WHERE cell_type = 'B'";
    let expected = texts(&session.collect(sql).await.unwrap());
    assert_eq!(obs_names(folder.path(), "s_B.h5ad").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_keeps_donors_whole_and_every_cell() {
    let folder = made().await;
    let cut = Cut::Split {
        parts: "train=0.7,test=0.3".parse::<SplitParts>().unwrap(),
        by: Some("donor".to_owned()),
        seed: 2,
    };
    run_slice(&slice_options(folder.path(), cut)).await;
    let session = Session::try_new().unwrap();
    for name in ["s_train.h5ad", "s_test.h5ad"] {
        session.open(&path(folder.path(), name)).await.unwrap();
    }
    let both = "SELECT (SELECT count(*) FROM s_train.obs) + (SELECT count(*) FROM s_test.obs)";
    assert_eq!(integers(&session.collect(both).await.unwrap()), [CELLS]);
    let shared = "SELECT count(*) FROM (SELECT DISTINCT CAST(donor AS TEXT) AS d FROM s_train.obs) a \
                  JOIN (SELECT DISTINCT CAST(donor AS TEXT) AS d FROM s_test.obs) b ON a.d = b.d";
    assert_eq!(integers(&session.collect(shared).await.unwrap()), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_work_starts() {
    let folder = made().await;
    let refused = |options: ShuffleOptions| async move {
        shuffle(&options)
            .await
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    let twice = shuffle_options(
        folder.path(),
        &["in.h5ad", "in.h5ad"],
        "o.h5ad",
        Shards::One,
    );
    assert!(refused(twice).await.contains("twice"));
    let other = SynthOptions {
        n_obs: 10,
        n_vars: 7,
        ..SynthOptions::new(folder.path().join("other.h5ad"))
    };
    synth(&other, &Quiet).await.unwrap();
    let inputs = ["in.h5ad", "other.h5ad"];
    let message = refused(shuffle_options(
        folder.path(),
        &inputs,
        "o.h5ad",
        Shards::One,
    ))
    .await;
    assert!(
        message.contains("genes") && message.contains("merge"),
        "{message}"
    );
    let many = shuffle_options(folder.path(), &["in.h5ad"], "o.h5ad", Shards::Count(301));
    assert!(
        refused(many)
            .await
            .contains("300 cells do not fill 301 shards")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Small memory, so that there are several windows, and any cut into partitions.
    #[test]
    fn any_cut_way_and_memory_gives_the_order(
        seed in any::<u64>(),
        cuts in proptest::collection::vec(0..=CELLS, 0..6),
        kept in proptest::collection::vec(0..CELLS, 1..4),
        way in 0usize..4,
        rooms in 1u64..40,
        parts in 1usize..3,
        held in 0u64..2,
        groups in proptest::option::of((proptest::collection::vec(0u32..5, 1..9), any::<bool>())),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let folder = FIXTURE.get_or_init(made).await;
            let object = AnnData::open(&at(folder.path(), "in.h5ad")).await.unwrap();
            let rows = RowSelection::from_ranges(kept.iter().map(|at| *at..(*at + 90).min(CELLS)));
            let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut * rows.len() / CELLS).collect();
            cuts.extend([0, rows.len()]);
            cuts.sort_unstable();
            let partitions: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            let n = partitions.len();
            let request = ShuffleRequest {
                shuffle: Shuffle { way: Some(ShuffleWay::ALL[way]), ..Shuffle::new(seed) },
                groups: groups.as_ref().map(|(groups, keeps)| {
                    let of_rows = (0..CELLS).map(|row| group_of(groups, row)).collect();
                    let groups = RowGroups::new(of_rows).unwrap();
                    Arc::new(if *keeps { groups.keeping_order() } else { groups })
                }),
                objects: vec![ShuffledObject::at(object.location(), CELLS, rows.clone())],
                scanned: 1,
                weight: RowWeight { bytes: 100, arrays: 2, random: true, held: 64 * held, ..RowWeight::default() },
                partitions,
                memory: ShuffleMemory {
                    bytes: match ShuffleWay::ALL[way] {
                        ShuffleWay::InMemory => 1 << 30,
                        _ => 26_000 + rooms * 1_000,
                    },
                    at_a_time: 1,
                    beside: 0,
                },
            };
            let plan = request
                .plan(|scan: ShuffledScan| scan_of(&object, &rows, scan, parts))
                .unwrap();
            prop_assert_eq!(plan.output_partitioning().partition_count(), n);
            let context = SessionContext::new();
            let mut found = Vec::new();
            for (partition, cut) in cuts.windows(2).enumerate() {
                let stream = plan.execute(partition, context.task_ctx()).unwrap();
                let batches: Vec<RecordBatch> =
                    futures::TryStreamExt::try_collect(stream).await.unwrap();
                let rows: Vec<u64> = integers(&batches);
                prop_assert_eq!(rows.len() as u64, cut[1] - cut[0]);
                found.extend(rows);
            }
            let mut expected: Vec<u64> = in_order(seed, 0..CELLS);
            expected.retain(|row| rows.contains(*row));
            if let Some((groups, keeps)) = &groups {
                if *keeps {
                    expected.sort_unstable();
                }
                expected.sort_by_key(|row| group_of(groups, *row));
            }
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}

/// Some windows, of each of which both objects have rows.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_puts_rows_of_several_objects_in_one_order() {
    let folder = made().await;
    let names = ["in.h5ad", "again.h5ad"];
    std::fs::copy(folder.path().join(names[0]), folder.path().join(names[1])).unwrap();
    let mut objects = Vec::new();
    for name in names {
        objects.push(AnnData::open(&at(folder.path(), name)).await.unwrap());
    }
    let all = RowSelection::all(CELLS);
    let shuffled =
        |object: &Arc<AnnData>| ShuffledObject::at(object.location(), CELLS, all.clone());
    for way in ShuffleWay::ALL {
        let request = ShuffleRequest {
            shuffle: Shuffle {
                way: Some(way),
                ..Shuffle::new(4)
            },
            groups: None,
            objects: objects.iter().map(shuffled).collect(),
            scanned: objects.len(),
            weight: RowWeight {
                bytes: 100,
                arrays: 2,
                random: true,
                held: 16,
                ..RowWeight::default()
            },
            partitions: vec![0..130, 130..131, 131..2 * CELLS],
            memory: ShuffleMemory {
                bytes: match way {
                    ShuffleWay::InMemory => 1 << 30,
                    _ => 40_000,
                },
                at_a_time: 1,
                beside: 0,
            },
        };
        let plan = request.plan(|scan| scan_of(&objects[scan.object], &all, scan, 1));
        let plan = plan.unwrap();
        let context = SessionContext::new();
        let mut found = Vec::new();
        for partition in 0..3 {
            let stream = plan.execute(partition, context.task_ctx()).unwrap();
            let batches: Vec<RecordBatch> =
                futures::TryStreamExt::try_collect(stream).await.unwrap();
            for batch in &batches {
                let from = cast(batch.column_by_name("__object").unwrap(), &DataType::Utf8);
                let from = from.unwrap();
                let from = from.as_string::<i32>().iter().flatten();
                let rows = integers(std::slice::from_ref(batch));
                found.extend(from.zip(rows).map(|(from, row)| match from {
                    from if from.ends_with(names[1]) => CELLS + row,
                    _ => row,
                }));
            }
        }
        assert_eq!(found, in_order(4, 0..2 * CELLS), "{way:?}");
    }
}

/// The group of a row, of some in turn.
fn group_of(groups: &[u32], row: u64) -> u32 {
    groups[usize::try_from(row).unwrap() % groups.len()]
}

static FIXTURE: tokio::sync::OnceCell<tempfile::TempDir> = tokio::sync::OnceCell::const_new();

fn scan_of(
    object: &Arc<AnnData>,
    rows: &RowSelection,
    scan: ShuffledScan,
    parts: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = match scan.order {
        Some(_) => scan.partitions,
        None => {
            let half = rows.len() / parts as u64;
            if parts == 1 {
                std::iter::once(0..rows.len()).collect()
            } else {
                vec![0..half, half..rows.len()]
            }
        }
    };
    scan_cells(CellsScan {
        object: Arc::clone(object),
        rows: rows.clone(),
        partitions,
        order: scan.order,
        genes: None,
        provenance: true,
        columns: Some(vec![
            "obs_idx".to_owned(),
            "X".to_owned(),
            "cell_type".to_owned(),
        ]),
        batch_bytes: 2_000,
    })
}

/// The rows by the rule, worked out the plain way.
fn in_order(seed: u64, rows: std::ops::Range<u64>) -> Vec<u64> {
    let order = RowOrder::new(seed);
    let mut rows: Vec<u64> = rows.collect();
    rows.sort_by_key(|row| (order.key(*row), *row));
    rows
}

fn shuffle_options(folder: &Path, inputs: &[&str], output: &str, shards: Shards) -> ShuffleOptions {
    ShuffleOptions {
        inputs: inputs.iter().map(|name| at(folder, name)).collect(),
        output: folder.join(output),
        shards,
        shuffle: Shuffle::new(11),
        genes: None,
        run: RunOptions::default(),
    }
}

async fn run_shuffle(options: &ShuffleOptions) -> annfusion::ops::Report {
    shuffle(options)
        .await
        .unwrap()
        .run(Arc::new(Quiet))
        .await
        .unwrap()
}

fn integers(batches: &[RecordBatch]) -> Vec<u64> {
    let Some(first) = batches.first() else {
        return Vec::new();
    };
    let all = concat_batches(&first.schema(), batches).unwrap();
    let column = cast(all.column(0), &DataType::Int64).unwrap();
    let values = column.as_primitive::<Int64Type>().values().to_vec();
    values
        .into_iter()
        .map(|v| u64::try_from(v).unwrap())
        .collect()
}
