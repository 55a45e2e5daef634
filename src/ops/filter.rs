//! [`filter`]: chosen cells and genes of an object as another one.

use super::options::FilterOptions;
use super::outputs::Shard;
use super::prepare::{Prepared, Work};
use super::{csv, genes, prepare, rows};
use crate::error::{Error, Result};
use crate::model::RowSelection;

/// Plans the writing of the cells that an obs column, a CSV or a SQL expression chooses, over all
/// or chosen genes. Every element goes along.
///
/// # Errors
/// [`Error::InvalidOption`] where nothing chooses, or an option cannot be met;
/// [`Error::OutputRefused`] where the output may not be written; whatever opening the input meets.
pub async fn filter(options: &FilterOptions) -> Result<Prepared> {
    if options.obs_column.is_none() && options.predicate.is_none() && options.genes.is_none() {
        return Err(Error::option(
            "filter",
            "say what to keep: --obs-column, --where or --genes",
        ));
    }
    let (session, object) = prepare::open(&options.input, &options.run).await?;
    let mut kept = RowSelection::all(object.n_obs());
    let mut attached = None;
    if let Some(column) = &options.obs_column {
        let chosen = match &options.csv {
            Some(source) => {
                let names = rows::obs_names(&object).await?;
                let (field, values) = csv::categorical(source, column, &names)?;
                let mask = rows::truthy(column, &values)?;
                attached = Some((field, values));
                rows::positions(&mask, 0)
            }
            None => rows::truthy_cells(&object, column).await?,
        };
        kept = kept.intersect(&chosen);
    }
    if let Some(predicate) = &options.predicate {
        kept = kept.intersect(&session.rows_matching(predicate).await?);
    }
    let genes = genes::chosen(&object, options.genes.as_ref()).await?;
    let shard = Shard::lone(&options.output, kept);
    let mut warnings = Vec::new();
    if shard.rows.is_empty() {
        warnings.push("no cell is kept: the output is an object without cells".to_owned());
    }
    let work = Work {
        session,
        object,
        shards: vec![shard],
        genes,
        order: None,
        attached,
        forms: Vec::new(),
        drop: Vec::new(),
        what: "filter".to_owned(),
        warnings,
    };
    Prepared::try_new(work, &options.run).await
}
