//! `annfusion slice`.

use std::sync::Arc;

use super::args::{Global, SliceArgs};
use super::print::print_error;
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{Mode, csv, finish, genes, run_options};
use crate::error::Result;
use crate::model::Location;
use crate::ops::{self, Cut, OutputNames, SliceOptions};
use crate::store::Format;

/// Runs the command.
pub(super) async fn run(
    args: SliceArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    if let Some(said) = args.order.idle_seed() {
        print_error(&format!("warning: {said}"));
    }
    let mode = Mode::of(&args.write.run);
    let options = options(args).map_err(Failure::Usage)?;
    let prepared = Box::pin(ops::slice(&options)).await?;
    Ok(finish(prepared, mode, global, reporter).await?)
}

fn options(args: SliceArgs) -> Result<SliceOptions> {
    let format = match args.zarr {
        true => Format::ZARR,
        false => Format::H5ad,
    };
    let shuffle = args.order.how()?;
    let cut = match args.obs_column {
        Some(column) => Cut::Column {
            column,
            always_include: args.always_include,
        },
        None => args.order.cut(args.size),
    };
    Ok(SliceOptions {
        input: Location::parse(&args.input),
        prefix: args.prefix.into(),
        cut,
        csv: csv(&args.write.csv),
        predicate: args.write.predicate.clone(),
        genes: genes(args.write.genes.as_deref())?,
        shuffle,
        output_names: args.output_names.map(OutputNames),
        run: run_options(args.write.run, format)?,
    })
}
