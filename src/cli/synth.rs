//! `annfusion synth`.

use super::args::{Global, SynthArgs};
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{print_report, storage};
use crate::ops::{SynthOptions, synth};
use crate::store::format_of_name;

/// Runs the command.
pub(super) async fn run(
    args: SynthArgs,
    global: Global,
    reporter: &Reporter,
) -> Result<Outcome, Failure> {
    let storage = format_of_name(&args.output)
        .and_then(|format| storage(&args.storage, format))
        .map_err(Failure::Usage)?;
    let options = SynthOptions {
        output: args.output,
        n_obs: args.n_obs,
        n_vars: args.n_vars,
        mean_genes: args.mean_genes,
        cell_types: args.cell_types,
        seed: args.seed,
        storage,
        overwrite: args.overwrite,
    };
    let report = synth(&options, reporter).await?;
    print_report(&report, global, false)?;
    Ok(Outcome::Done)
}
