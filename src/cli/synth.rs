//! `annfusion synth`.

use super::args::{Global, SynthArgs};
use super::progress::Reporter;
use super::run::Outcome;
use super::slice::{compression, print_report};
use crate::error::Result;
use crate::ops::{SynthOptions, synth};

/// Runs the command.
pub(super) async fn run(args: SynthArgs, global: Global, reporter: &Reporter) -> Result<Outcome> {
    let options = SynthOptions {
        output: args.output,
        n_obs: args.n_obs,
        n_vars: args.n_vars,
        mean_genes: args.mean_genes,
        cell_types: args.cell_types,
        seed: args.seed,
        compression: compression(&args.compression),
        overwrite: args.overwrite,
    };
    let report = synth(&options, reporter).await?;
    print_report(&report, global, false)?;
    Ok(Outcome::Done)
}
