//! `annfusion filter`.

use std::sync::Arc;

use super::args::{FilterArgs, Global};
use super::progress::Reporter;
use super::run::Outcome;
use super::slice::{Mode, csv, finish, genes, run_options};
use crate::error::Result;
use crate::model::Location;
use crate::ops::{self, FilterOptions};

/// Runs the command.
pub(super) async fn run(
    args: FilterArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome> {
    let mode = Mode::of(&args.write);
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return Ok(Outcome::Misused(error)),
    };
    let prepared = Box::pin(ops::filter(&options)).await?;
    finish(prepared, mode, global, reporter).await
}

fn options(args: FilterArgs) -> Result<FilterOptions> {
    Ok(FilterOptions {
        input: Location::parse(&args.input),
        output: args.output,
        obs_column: args.obs_column,
        csv: csv(&args.write.csv),
        predicate: args.write.predicate.clone(),
        genes: genes(args.write.genes.as_deref())?,
        run: run_options(args.write),
    })
}
