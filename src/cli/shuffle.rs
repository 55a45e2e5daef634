//! `annfusion shuffle`.

use std::sync::Arc;

use super::args::Global;
use super::order::ShuffleArgs;
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{Mode, finish, genes, run_options};
use crate::error::{Error, Result};
use crate::model::{expand_all, shown_path};
use crate::ops::{self, Shards, ShuffleOptions};
use crate::store::Format;

/// Runs the command.
pub(super) async fn run(
    args: ShuffleArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    let mode = Mode::of(&args.run);
    let options = options(args).map_err(Failure::Usage)?;
    let prepared = Box::pin(ops::shuffle(&options)).await?;
    Ok(finish(prepared, mode, global, reporter).await?)
}

fn options(args: ShuffleArgs) -> Result<ShuffleOptions> {
    let format = Format::of_name(&args.output).ok_or_else(|| {
        let name = shown_path(&args.output);
        Error::option(
            "--output",
            format!("{name} ends in neither .h5ad nor .zarr"),
        )
    })?;
    let shards = match (args.shards, args.size) {
        (Some(count), _) => Shards::Count(count),
        (None, Some(size)) => Shards::Size(size),
        (None, None) => Shards::One,
    };
    Ok(ShuffleOptions {
        inputs: expand_all(&args.inputs)?,
        output: args.output,
        shards,
        shuffle: args.how.shuffle()?,
        genes: genes(args.genes.as_deref())?,
        run: run_options(args.run, format)?,
    })
}
