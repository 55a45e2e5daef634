//! [`slice`]: an object cut into outputs.

use std::sync::Arc;

use super::categories::Categories;
use super::options::{Cut, SliceOptions};
use super::order::Order;
use super::outputs::{self, Shard};
use super::prepare::{Prepared, Work};
use super::{csv, genes, prepare, rows, stratify};
use crate::error::{Error, Result};
use crate::kernel::split;
use crate::model::{RowOrder, RowSelection};
use crate::plan::object_paths;

/// Plans the cutting of an object into outputs: every so many cells, or by an obs column. Every
/// element goes along; `obsp` is re-indexed, every category is kept.
///
/// Reads metadata, the columns that decide, and `indptr`; the plan's [`run`](Prepared::run) reads
/// the rest once, in bounded memory.
///
/// # Errors
/// [`Error::InvalidOption`] for options that cannot be met, [`Error::OutputRefused`] for outputs
/// that may not be written, and whatever opening the input meets.
pub async fn slice(options: &SliceOptions) -> Result<Prepared> {
    let (session, object) = prepare::open(&options.input, &options.run).await?;
    let kept = match &options.predicate {
        Some(predicate) => session.rows_matching(predicate).await?,
        None => RowSelection::all(object.n_obs()),
    };
    let genes = genes::chosen(&object, options.genes.as_ref()).await?;
    let format = options.run.storage.format;
    let mut warnings = Vec::new();
    let mut attached = None;
    let mut shards = match &options.cut {
        Cut::Size(0) => return Err(Error::option("--size", "a shard needs at least one cell")),
        Cut::Size(size) => {
            // Of a shuffle these are ranks in the order.
            let cells = match options.shuffle {
                Some(_) => RowSelection::all(kept.len()),
                None => kept.clone(),
            };
            outputs::by_size(&options.prefix, &cells, *size, format)
        }
        Cut::Column {
            column,
            always_include,
        } => {
            let categories = match &options.csv {
                Some(source) => {
                    let names = rows::obs_names(&object).await?;
                    let (field, values) = csv::categorical(source, column, &names)?;
                    let categories = Categories::of(&values)?;
                    attached = Some((field, values));
                    categories
                }
                None => Categories::read("--obs-column", &object, column).await?,
            };
            by_column(
                options,
                column,
                always_include,
                categories,
                &kept,
                &mut warnings,
            )?
        }
        Cut::Stratify { column, size, seed } => {
            let categories = Categories::read("--stratify", &object, column).await?;
            let n_shards = kept.len().div_ceil((*size).max(1)).max(1);
            let order = RowOrder::new(*seed);
            let cells = stratify::deal(&categories.cells, &kept, n_shards, order)?;
            outputs::of_cells(&options.prefix, cells, format)
        }
        Cut::Split { parts, by, seed } => {
            let order = RowOrder::new(*seed);
            let groups = match by {
                Some(column) => Some(Categories::read("--by", &object, column).await?),
                None => None,
            };
            let cells = match &groups {
                Some(groups) => split::groups(parts, &groups.cells, &kept, order),
                None => split::cells(parts, &kept, order),
            };
            warnings.extend(split::empty(parts, &cells));
            if groups.is_some() {
                warnings.extend(split::missed(parts, &cells));
            }
            outputs::named(&options.prefix, parts.names(), cells, format)?
        }
    };
    if kept.is_empty() && options.predicate.is_some() {
        warnings.push("no cell meets --where".to_owned());
    }
    match (&options.output_names, &options.cut) {
        (Some(names), _) => outputs::rename(&mut shards, names)?,
        (None, Cut::Size(_) | Cut::Stratify { .. }) => {
            warnings.extend(outputs::left_behind(&options.prefix, shards.len(), format));
        }
        (None, Cut::Column { .. } | Cut::Split { .. }) => {}
    }
    let order = options.shuffle.map(|shuffle| Order {
        shuffle,
        objects: vec![(Arc::clone(&object), kept)],
        by_rank: matches!(options.cut, Cut::Size(_)),
    });
    let work = Work {
        session,
        object,
        order,
        shards,
        genes,
        attached,
        forms: Vec::new(),
        drop: Vec::new(),
        what: "slice".to_owned(),
        warnings,
    };
    Prepared::try_new(work, &options.run).await
}

fn by_column(
    options: &SliceOptions,
    column: &str,
    always_include: &[String],
    categories: Categories,
    kept: &RowSelection,
    warnings: &mut Vec<String>,
) -> Result<Vec<Shard>> {
    for wanted in always_include {
        if !categories.names.contains(wanted) {
            return Err(Error::option(
                "--always-include",
                format!(
                    "'{wanted}' is no category of {column}; its categories are {}",
                    categories.names.join(", ")
                ),
            ));
        }
    }
    let mut n_cells = 0;
    let mut always = Vec::new();
    let mut own = Vec::new();
    for (name, cells) in categories.names.into_iter().zip(categories.cells) {
        let cells = cells.intersect(kept);
        n_cells += cells.len();
        if always_include.contains(&name) {
            always.extend(cells.ranges().iter().cloned());
        } else {
            own.push((name, cells));
        }
    }
    let names: Vec<String> = own.iter().map(|(name, _)| name.clone()).collect();
    let paths = object_paths(&options.prefix, column, &names, options.run.storage.format)?;
    let mut shards = Vec::with_capacity(own.len());
    for ((label, cells), path) in own.into_iter().zip(paths) {
        if cells.is_empty() {
            warnings.push(format!(
                "category '{label}' of {column} has no cells: no output"
            ));
            continue;
        }
        let ranges = cells.ranges().iter().chain(&always).cloned();
        shards.push(Shard {
            label,
            path,
            rows: RowSelection::from_ranges(ranges),
        });
    }
    if shards.is_empty() {
        return Err(Error::option(
            "--obs-column",
            format!("no category of {column} has cells"),
        ));
    }
    if n_cells < kept.len() {
        warnings.push(format!(
            "{} cells have no category in {column} and are in no output",
            kept.len().saturating_sub(n_cells)
        ));
    }
    Ok(shards)
}
