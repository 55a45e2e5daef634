//! Adding to a collection.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::blocks::spread;
use super::create::{SOURCE_COLUMN, spec_of};
use super::datasets::{Dataset, Plan};
use super::groups;
use super::options::{CollectionOptions, CollectionOrder};
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::{Location, MergeStrategy, RowOrder, RowSelection, VarAxis};
use crate::ops::convert::check_dropped;
use crate::ops::options::RunOptions;
use crate::ops::outputs;
use crate::ops::prepare::{self, Prepared};
use crate::plan::merge::{Join, MergeOutline, MergeSpec};
use crate::store::{Claim, ReadMetrics, url_of};

/// Plans the adding of further objects' cells to a collection: every dataset gets as many blocks of them
/// as every other, but for one, and is shuffled anew. Genes are those of the collection, and cells that
/// it has keep their `src_path`.
///
/// `output` of the options is the collection, which is replaced as a whole once all is written and on
/// the disk; `var`, `varm`, `varp` and `uns` are the collection's own, `obsp` is not kept. `join`, `merge`,
/// `uns_merge` and `genes` are not looked at. The report says which genes an object lacks or loses.
///
/// # Errors
/// Those of [`create`](super::create()); [`Error::InvalidOption`] for what is no collection of `dataset_0`, `dataset_1`, …,
/// is also an input, or lies in a bucket, where it could not be read any more while it is replaced;
/// [`Error::OutputRefused`] where another process adds to it, or plans to, and the file system has locks;
/// [`Error::IncompatibleSchemas`] where `src_path` is not categorical in all inputs that have it, or an
/// object has none of the collection's genes.
pub async fn add(options: &CollectionOptions) -> Result<Prepared> {
    let location = location(options)?;
    // Of two that read the same cells the later would put its own in the place of the other's.
    let claim = Claim::of(&options.output, "another process adds to it just now")?;
    let session = prepare::session(&options.run)?;
    let collection = AnnData::open(&location).await?;
    let ends = ends(&collection)?;
    let spec = spec_of(options);
    let place = location.to_string();
    let names = collection.var_axis().await?;
    let names = names.names().iter().flatten().map(str::to_owned);
    let spec = MergeSpec {
        inputs: std::iter::once(location).chain(spec.inputs).collect(),
        keys: spec
            .keys
            .map(|keys| std::iter::once(place).chain(keys).collect()),
        extends: true,
        join: Join::Outer,
        merge: Some(MergeStrategy::First),
        uns_merge: Some(MergeStrategy::First),
        pairwise: false,
        genes: Some(names.collect()),
        ..spec
    };
    let outline = MergeOutline::of(Arc::new(spec)).await?;
    let added = outline.objects().get(1..).unwrap_or_default();
    let mut said = from_there(&collection, &options.inputs).await?;
    for object in added {
        said.extend(other_genes(object, outline.axis()).await?);
    }
    let inputs = added.iter().flat_map(|object| object.places());
    let inputs: Vec<&str> = inputs.map(Location::path).collect();
    let options = &CollectionOptions {
        run: RunOptions {
            overwrite: true,
            // What was there is gone after it, so the new has to be on the disk.
            fsync: true,
            ..options.run.clone()
        },
        ..options.clone()
    };
    outputs::check(&[options.output.as_path()], &inputs, &options.run).await?;
    check_dropped(outline.objects(), &options.drop).await?;
    let datasets = datasets(options, &ends, outline.n_obs());
    let weight = outline.weigh()?;
    let (groups, lacking) = groups::groups(&session, &outline, options).await?;
    said.extend(lacking);
    let plan = Plan::new(&outline, options, weight);
    let plan = plan.grouped(groups).growing();
    let prepared = plan.prepare(session, &datasets, said).await?;
    Ok(prepared.claiming(claim))
}

/// Where the collection is.
fn location(options: &CollectionOptions) -> Result<Location> {
    let place = options.output.display().to_string();
    let location = Location::parse(&place);
    let refused = if url_of(&options.output).is_some() {
        "a collection in a bucket is not replaced while it is read; collection create makes a new one of \
         it and the objects"
    } else if Path::new(location.path()) != options.output || !location.group().is_empty() {
        "a collection whose path is taken for another"
    } else if options.inputs.contains(&location) {
        "it is also an input"
    } else if options.index_unique.is_some() {
        "index_unique would change the names of cells that are there"
    } else {
        return Ok(location);
    };
    Err(Error::option(place, refused))
}

/// Where the datasets of a collection begin among its cells, and the last one ends.
fn ends(collection: &AnnData) -> Result<Vec<u64>> {
    let refused = |reason: String| Err(Error::option(collection.location().to_string(), reason));
    let mut ends = vec![0];
    for (at, member) in collection.members().iter().enumerate() {
        if member.location().group() != format!("dataset_{at}") {
            let member = member.location();
            return refused(format!(
                "its members are not dataset_0, dataset_1, …: {member}"
            ));
        }
        ends.push(ends.last().copied().unwrap_or(0) + member.n_obs());
    }
    match ends.len() {
        1 => refused("it is one object, not a collection of some".to_owned()),
        _ => Ok(ends),
    }
}

/// The cells of each dataset: its own, and its share of the `n` less those of the collection.
fn datasets(options: &CollectionOptions, ends: &[u64], n: u64) -> Vec<Dataset> {
    let old = ends.last().copied().unwrap_or(0);
    let order = RowOrder::new(options.seed);
    let (block, order) = match options.order {
        CollectionOrder::Blocks { size } => (size, Some(order)),
        CollectionOrder::Exact => (1, Some(order)),
        CollectionOrder::Kept => (1, None),
    };
    let new = spread(n - old, ends.len() as u64 - 1, block, order);
    let datasets = ends.windows(2).zip(&new).map(|(ends, new)| {
        let new = new.ranges().iter();
        let new = new.map(|rows| old + rows.start..old + rows.end);
        let own = std::iter::once(ends[0]..ends[1]);
        Dataset::Rows(RowSelection::from_ranges(own.chain(new)))
    });
    datasets.collect()
}

/// What is to be said of inputs that the collection has cells of.
async fn from_there(collection: &AnnData, inputs: &[Location]) -> Result<Vec<String>> {
    let columns = collection.obs().columns();
    let column = columns
        .iter()
        .find(|column| column.field().name() == SOURCE_COLUMN);
    let Some(column) = column.filter(|column| !column.is_empty()) else {
        return Ok(Vec::new());
    };
    // Any row's array has all categories.
    let values = column
        .read(&RowSelection::range(0..1), &ReadMetrics::default())
        .await?;
    let Some(values) = values
        .as_any_dictionary_opt()
        .map(|d| Arc::clone(d.values()))
    else {
        return Ok(Vec::new());
    };
    let values = cast(&values, &DataType::Utf8)?;
    let known: HashSet<&str> = values.as_string::<i32>().iter().flatten().collect();
    let twice = inputs.iter().map(Location::to_string);
    let twice = twice.filter(|input| known.contains(input.as_str()));
    Ok(twice
        .map(|input| {
            format!("{input}: the collection has cells of an object of this name already; if it is the same, they are in it twice")
        })
        .collect())
}

/// What is to be said of an object whose genes are not those of the collection that it is added to.
async fn other_genes(object: &AnnData, axis: &VarAxis) -> Result<Option<String>> {
    let known: HashSet<&str> = axis.names().iter().flatten().collect();
    let own = object.var_axis().await?;
    let shared = own.names().iter().flatten();
    let shared = shared.filter(|name| known.contains(name)).count();
    let (n, of) = (own.len(), axis.len());
    let location = object.location();
    match shared {
        0 if n > 0 && of > 0 => Err(Error::IncompatibleSchemas(format!(
            "{location}: none of its {n} genes is one of the collection's {of}; are their names of one kind?"
        ))),
        _ if shared == n && shared == of => Ok(None),
        _ => Ok(Some(format!(
            "{location}: it has {shared} of the collection's {of} genes, the others are filled; {} of its \
             own are left out",
            n - shared.min(n)
        ))),
    }
}
