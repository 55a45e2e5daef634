//! `annfusion filter`.

use std::sync::Arc;

use super::args::{FilterArgs, Global};
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{Mode, csv, finish, genes, run_options};
use crate::error::Result;
use crate::model::Location;
use crate::ops::{self, FilterOptions};
use crate::store::format_of_name;

/// Runs the command.
pub(super) async fn run(
    args: FilterArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    let mode = Mode::of(&args.write.run);
    let options = options(args).map_err(Failure::Usage)?;
    let prepared = Box::pin(ops::filter(&options)).await?;
    Ok(finish(prepared, mode, global, reporter).await?)
}

fn options(args: FilterArgs) -> Result<FilterOptions> {
    let format = format_of_name(&args.output)?;
    Ok(FilterOptions {
        input: Location::parse(&args.input),
        output: args.output,
        obs_column: args.obs_column,
        csv: csv(&args.write.csv),
        predicate: args.write.predicate.clone(),
        genes: genes(args.write.genes.as_deref())?,
        run: run_options(args.write.run, format)?,
    })
}
