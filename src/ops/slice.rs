//! [`slice`]: an object cut into outputs.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};

use super::options::{Cut, SliceOptions};
use super::order::Order;
use super::outputs::{self, Shard};
use super::prepare::{Prepared, Work};
use super::{csv, genes, prepare, rows};
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::plan::object_paths;
use crate::store::ReadMetrics;

/// Rows per step when codes are read.
const BLOCK: u64 = 1 << 20;

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
        Some(predicate) => rows::matching(&session, predicate).await?,
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
                None => Categories::read(&object, column).await?,
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
    };
    if kept.is_empty() && options.predicate.is_some() {
        warnings.push("no cell meets --where".to_owned());
    }
    match (&options.output_names, &options.cut) {
        (Some(names), _) => outputs::rename(&mut shards, names)?,
        (None, Cut::Size(_)) => {
            warnings.extend(outputs::left_behind(&options.prefix, shards.len(), format));
        }
        (None, Cut::Column { .. }) => {}
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
        drop: Vec::new(),
        what: "slice".to_owned(),
        warnings,
    };
    Prepared::try_new(work, &options.run).await
}

/// The categories of a column and the cells of each.
struct Categories {
    names: Vec<String>,
    cells: Vec<RowSelection>,
}

impl Categories {
    /// Reads the codes of a categorical obs column, in blocks.
    async fn read(object: &AnnData, column: &str) -> Result<Self> {
        let reader = rows::obs_column(object, column)?;
        let field = reader.field();
        if !matches!(field.data_type(), DataType::Dictionary(_, _)) {
            return Err(Error::option(
                "--obs-column",
                format!(
                    "{column} is {}, not a categorical; give it as a CSV, or use query with \
                     COPY … PARTITIONED BY",
                    field.data_type()
                ),
            ));
        }
        let metrics = ReadMetrics::default();
        let mut collected: Option<Collector> = None;
        let mut start = 0;
        loop {
            let end = reader.len().min(start + BLOCK);
            let values = reader
                .read(&RowSelection::range(start..end), &metrics)
                .await?;
            match &mut collected {
                Some(collector) => collector.add(&values, start),
                None => {
                    let mut collector = Collector::try_new(&values)?;
                    collector.add(&values, start);
                    collected = Some(collector);
                }
            }
            start = end;
            if start >= reader.len() {
                break;
            }
        }
        Ok(collected.map_or_else(
            || Self {
                names: Vec::new(),
                cells: Vec::new(),
            },
            Collector::finish,
        ))
    }

    fn of(values: &ArrayRef) -> Result<Self> {
        let mut collector = Collector::try_new(values)?;
        collector.add(values, 0);
        Ok(collector.finish())
    }
}

struct Collector {
    names: Vec<String>,
    ranges: Vec<Vec<std::ops::Range<u64>>>,
}

impl Collector {
    fn try_new(values: &ArrayRef) -> Result<Self> {
        let categories = values.as_dictionary::<Int32Type>().values();
        let text = cast(categories, &DataType::Utf8)?;
        let names: Vec<String> = text
            .as_string::<i32>()
            .iter()
            .map(|name| name.unwrap_or_default().to_owned())
            .collect();
        Ok(Self {
            ranges: vec![Vec::new(); names.len()],
            names,
        })
    }

    fn add(&mut self, values: &ArrayRef, start: u64) {
        let codes = values.as_dictionary::<Int32Type>().keys();
        for (row, code) in (start..).zip(codes) {
            let Some(ranges) = code
                .and_then(|code| usize::try_from(code).ok())
                .and_then(|code| self.ranges.get_mut(code))
            else {
                continue;
            };
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end = row + 1,
                _ => ranges.push(row..row + 1),
            }
        }
    }

    fn finish(self) -> Categories {
        Categories {
            names: self.names,
            cells: self
                .ranges
                .into_iter()
                .map(RowSelection::from_ranges)
                .collect(),
        }
    }
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
