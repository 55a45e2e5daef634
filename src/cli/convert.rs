//! `annfusion convert`.

use std::sync::Arc;

use super::args::{ConvertArgs, Global};
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{Mode, done, finish, genes, run_options};
use crate::error::Result;
use crate::model::{ElementKey, Location};
use crate::ops::{self, ConvertOptions, ReferenceOptions};
use crate::store::format_of_name;

/// Runs the command.
pub(super) async fn run(
    args: ConvertArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    if args.references {
        let options = ReferenceOptions {
            input: Location::parse(&args.input),
            output: args.output,
            drop: args.drop.iter().map(ElementKey::new).collect(),
            overwrite: args.run.overwrite,
            fsync: args.run.fsync,
        };
        let progress = Arc::clone(&reporter);
        let report = Box::pin(ops::references(&options, progress as _)).await?;
        return Ok(done(&report, global, &reporter)?);
    }
    let mode = Mode::of(&args.run);
    let options = options(args).map_err(Failure::Usage)?;
    let prepared = Box::pin(ops::convert(&options)).await?;
    Ok(finish(prepared, mode, global, reporter).await?)
}

fn options(args: ConvertArgs) -> Result<ConvertOptions> {
    let format = format_of_name(&args.output)?;
    Ok(ConvertOptions {
        input: Location::parse(&args.input),
        output: args.output,
        drop: args.drop.iter().map(ElementKey::new).collect(),
        sparse: args.sparse.iter().map(ElementKey::new).collect(),
        dense: args.dense.iter().map(ElementKey::new).collect(),
        genes: genes(args.genes.as_deref())?,
        run: run_options(args.run, format)?,
    })
}
