//! Making a collection.

use std::sync::Arc;

use super::blocks::deal;
use super::datasets::{Dataset, Plan};
use super::groups;
use super::options::{CollectionOptions, CollectionOrder};
use crate::element::Amount;
use crate::error::{Error, Result};
use crate::model::{Location, MergeStrategy, RowOrder, value_bytes};
use crate::ops::convert::check_dropped;
use crate::ops::genes;
use crate::ops::outputs;
use crate::ops::prepare::{self, Prepared};
use crate::plan::merge::{MergeOutline, MergeSpec};

/// The obs column that says which input a cell came from, as annbatch calls it.
pub(super) const SOURCE_COLUMN: &str = "src_path";

/// Plans the writing of a collection for training from objects of any format: their cells over the
/// joined genes, with a categorical `src_path` that names the input, in random order, dealt out to
/// datasets.
///
/// Of one input everything is kept; of several what `merge` and `uns_merge` say, and no `obsp`, as
/// `anndata.concat` has it. The report says what is left out.
///
/// # Errors
/// [`Error::InvalidOption`] for options that cannot be met, [`Error::IncompatibleSchemas`] for
/// elements that cannot be merged, [`Error::OutputRefused`] where the output may not be written, and
/// whatever opening the inputs meets.
pub async fn create(options: &CollectionOptions) -> Result<Prepared> {
    groups::check(options)?;
    let session = prepare::session(&options.run)?;
    let outline = outline(options, spec_of(options)).await?;
    let inputs = outline.objects().iter().flat_map(|object| object.places());
    let inputs: Vec<&str> = inputs.map(Location::path).collect();
    outputs::check(&[options.output.as_path()], &inputs, &options.run).await?;
    check_dropped(outline.objects(), &options.drop).await?;
    if outline.n_obs() == 0 {
        let reason = "the inputs have no cells, and a collection is of some";
        return Err(Error::option("collection", reason));
    }
    if outline.axis().is_empty() && outline.objects().iter().any(|object| object.n_vars() > 0) {
        let reason = "the inputs have no gene in common; --join outer keeps the genes of all";
        return Err(Error::option("collection", reason));
    }
    let weight = outline.weigh()?;
    let size = match options.dataset_size {
        Amount::Cells(cells) => cells,
        Amount::Bytes(bytes) => bytes / row_bytes(&outline, weight.bytes).max(1),
    };
    let datasets = datasets(options, outline.n_obs(), size)?;
    let (groups, said) = groups::groups(&session, &outline, options).await?;
    let plan = Plan::new(&outline, options, weight).grouped(groups);
    plan.prepare(session, &datasets, said).await
}

/// The cells of each dataset of at most `most`, of `n` cells.
fn datasets(options: &CollectionOptions, n: u64, most: u64) -> Result<Vec<Dataset>> {
    let (block, order) = match options.order {
        _ if most == 0 => {
            return Err(Error::option("dataset size", "it is not even one cell"));
        }
        CollectionOrder::Blocks { size: 0 } => {
            return Err(Error::option("block", "a block has a cell at least"));
        }
        CollectionOrder::Blocks { size } if size > most && most < n => {
            return Err(Error::option(
                "dataset size",
                format!(
                    "{most} cells of a dataset are not even a block of {size} (--shuffle-chunk-size)"
                ),
            ));
        }
        CollectionOrder::Blocks { size } => (size, Some(RowOrder::new(options.seed))),
        CollectionOrder::Exact | CollectionOrder::Kept => (1, None),
    };
    let datasets = deal(n, most, block, order).into_iter();
    Ok(match options.order {
        CollectionOrder::Exact => {
            let ranks = datasets.filter_map(|rows| rows.ranges().first().cloned());
            ranks.map(Dataset::Ranks).collect()
        }
        _ => datasets.map(Dataset::Rows).collect(),
    })
}

/// The merge of the inputs, over all genes.
pub(super) fn spec_of(options: &CollectionOptions) -> MergeSpec {
    let lone = options.inputs.len() == 1;
    MergeSpec {
        join: options.join,
        // There is nothing to agree on.
        merge: options.merge.or(lone.then_some(MergeStrategy::First)),
        uns_merge: options.uns_merge.or(lone.then_some(MergeStrategy::First)),
        pairwise: lone,
        label: Some(SOURCE_COLUMN.to_owned()),
        keys: Some(options.inputs.iter().map(Location::to_string).collect()),
        index_unique: options.index_unique.clone(),
        drop: options.drop.clone(),
        ..MergeSpec::new(options.inputs.clone())
    }
}

/// The merge of the inputs, over the genes asked for.
async fn outline(options: &CollectionOptions, spec: MergeSpec) -> Result<Arc<MergeOutline>> {
    let outline = MergeOutline::of(Arc::new(spec.clone())).await?;
    let Some(genes) = &options.genes else {
        return Ok(outline);
    };
    let kept = genes::positions(outline.axis(), genes)?;
    let kept = genes::names_at(outline.axis(), &kept).map(str::to_owned);
    let spec = MergeSpec {
        genes: Some(kept.collect()),
        ..spec
    };
    MergeOutline::of(Arc::new(spec)).await
}

/// Bytes of a row in memory, by estimate.
fn row_bytes(outline: &MergeOutline, matrices: u64) -> u64 {
    let fields = outline.schema().fields().iter();
    let narrow = fields.filter(|field| !field.data_type().is_nested());
    let narrow = narrow.map(|field| value_bytes(field.data_type()));
    narrow.fold(matrices, u64::saturating_add)
}
