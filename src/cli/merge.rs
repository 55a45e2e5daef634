//! `annfusion merge`.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Global, MergeArgs};
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::write::{Mode, finish, run_options};
use crate::error::{Error, Result};
use crate::model::{ElementKey, MergeStrategy, expand_all, shown_path};
use crate::ops::{self, MergeOptions};
use crate::plan::merge::MergeSpec;
use crate::store::format_of_name;

/// Runs the command.
pub(super) async fn run(
    args: MergeArgs,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    let mode = Mode::of(&args.run);
    let options = options(args).map_err(Failure::Usage)?;
    let prepared = Box::pin(ops::merge(&options)).await?;
    Ok(finish(prepared, mode, global, reporter).await?)
}

fn options(args: MergeArgs) -> Result<MergeOptions> {
    let (output, inputs) = paths(args.output, args.paths)?;
    let format = format_of_name(&output)?;
    let inputs = expand_all(&inputs)?;
    let keys = args
        .keys
        .map(|keys| keys.split(',').map(str::to_owned).collect());
    let spec = MergeSpec {
        axis: args.axis,
        join: args.join,
        merge: strategy(&args.merge)?,
        uns_merge: strategy(&args.uns_merge)?,
        label: args.label,
        keys,
        index_unique: args.index_unique,
        fill_value: args.fill_value,
        pairwise: args.pairwise,
        align_on: args.align_on,
        drop: args.drop.iter().map(ElementKey::new).collect(),
        ..MergeSpec::new(inputs)
    };
    Ok(MergeOptions {
        spec,
        output,
        run: run_options(args.run, format)?,
    })
}

/// The output is named by -o, or stands first, as annslicer has it.
fn paths(output: Option<PathBuf>, mut paths: Vec<String>) -> Result<(PathBuf, Vec<String>)> {
    let output = match output {
        Some(output) => output,
        None => paths
            .drain(..1.min(paths.len()))
            .map(PathBuf::from)
            .collect(),
    };
    match paths.is_empty() {
        true => Err(Error::option(
            "merge",
            format!("there is nothing to merge into {}", shown_path(&output)),
        )),
        false => Ok((output, paths)),
    }
}

fn strategy(text: &str) -> Result<Option<MergeStrategy>> {
    match text {
        "none" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|reason| Error::option("--merge", reason)),
    }
}
