//! [`shuffle`]: the cells of objects in a seeded order, as one object or as shards.

use std::path::Path;
use std::sync::Arc;

use super::options::{Shards, ShuffleOptions};
use super::order::Order;
use super::outputs::{self, Shard};
use super::prepare::{Prepared, Work};
use super::{genes, prepare};
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::plan::ShuffleTable;
use crate::store::Format;
use crate::table::{AnnDataTable, TableKind};

/// Plans the shuffling of all cells of the inputs: every order has the same probability, and the same
/// seed and inputs give the same one, whatever the memory limit and the number of threads.
///
/// Of one input every element goes along, `obsp` re-indexed. Of several the cells must have the same
/// columns over the same genes; their `obsp` and `uns` are not kept, which the report says.
///
/// # Errors
/// [`Error::InvalidOption`] for options that cannot be met, [`Error::IncompatibleSchemas`] for inputs
/// that differ, [`Error::OutputRefused`] for outputs that may not be written, and whatever opening
/// the inputs meets.
pub async fn shuffle(options: &ShuffleOptions) -> Result<Prepared> {
    let [first, rest @ ..] = options.inputs.as_slice() else {
        return Err(Error::option("shuffle", "there is no input"));
    };
    let (session, object) = prepare::open(first, &options.run).await?;
    let mut objects = vec![Arc::clone(&object)];
    objects.extend(AnnData::open_all(rest).await?);
    check(&objects, options)?;
    let genes = genes::chosen(&object, options.genes.as_ref()).await?;
    let n_obs = objects.iter().map(|object| object.n_obs()).sum();
    let shards = shards(options, n_obs)?;
    let kept = objects.into_iter().map(|object| {
        let all = RowSelection::all(object.n_obs());
        (object, all)
    });
    let work = Work {
        session,
        object,
        shards,
        genes,
        attached: None,
        order: Some(Order {
            shuffle: options.shuffle,
            objects: kept.collect(),
            by_rank: true,
        }),
        drop: Vec::new(),
        forms: Vec::new(),
        what: "shuffle".to_owned(),
        warnings: Vec::new(),
    };
    Prepared::try_new(work, &options.run).await
}

/// Whether the cells can be cells of one object.
fn check(objects: &[Arc<AnnData>], options: &ShuffleOptions) -> Result<()> {
    if objects.len() == 1 {
        return Ok(());
    }
    let tables = objects
        .iter()
        .map(|object| Ok(Arc::new(AnnDataTable::try_new(object, TableKind::Cells)?) as _))
        .collect::<Result<Vec<_>>>()?;
    ShuffleTable::try_new(tables, options.shuffle).map(|_| ())
}

fn shards(options: &ShuffleOptions, n_obs: u64) -> Result<Vec<Shard>> {
    let format = options.run.storage.format;
    let all = RowSelection::all(n_obs);
    let prefix = options.output.with_extension("");
    match options.shards {
        Shards::One => Ok(vec![Shard::lone(&options.output, all)]),
        Shards::Size(0) => Err(Error::option("--size", "a shard needs at least one cell")),
        Shards::Size(size) => Ok(outputs::by_size(&prefix, &all, size, format)),
        Shards::Count(0) => Err(Error::option("--shards", "there must be one at least")),
        Shards::Count(count) if count > n_obs.max(1) => Err(Error::option(
            "--shards",
            format!("{n_obs} cells do not fill {count} shards"),
        )),
        Shards::Count(count) => Ok(even(&prefix, n_obs, count, format)),
    }
}

/// Shards whose sizes differ by one at most.
fn even(prefix: &Path, n_obs: u64, count: u64, format: Format) -> Vec<Shard> {
    let cut = |i: u64| {
        let at = u128::from(n_obs) * u128::from(i) / u128::from(count);
        u64::try_from(at).unwrap_or(n_obs)
    };
    (0..count)
        .map(|i| Shard {
            label: i.to_string(),
            path: outputs::shard_path(prefix, i, format),
            rows: RowSelection::range(cut(i)..cut(i + 1)),
        })
        .collect()
}
