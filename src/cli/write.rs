//! What the commands share that write objects: from arguments to options, and from reports to text.

use std::sync::Arc;

use super::args::{CsvArgs, Global, RunArgs, StorageArgs};
use super::genes::read_genes;
use super::print::{print, print_error, print_json};
use super::progress::Reporter;
use super::run::Outcome;
use super::size::{show_bytes, show_count};
use crate::element::Storage;
use crate::error::Result;
use crate::model::shown_path;
use crate::ops::{CsvColumn, GeneList, Prepared, Progress, Report, RunOptions};
use crate::sink::StorageChoice;
use crate::store::Format;

/// The storage that the arguments ask for, in a format whose version and shards are still open.
///
/// # Errors
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where they exclude each other.
pub(super) fn storage(args: &StorageArgs, format: Format) -> Result<Storage> {
    let choice = StorageChoice {
        compression: args.compression.clone(),
        level: args.level,
        zarr_version: args.zarr_version,
        sharded: args.no_shards.then_some(false),
        chunk_size: args.chunk_size,
        shard_size: args.shard_size,
        annbatch: args.layout.is_some(),
    };
    choice.in_format(format)
}

pub(super) fn csv(args: &CsvArgs) -> Option<CsvColumn> {
    args.csv_file.as_ref().map(|file| CsvColumn {
        file: file.clone(),
        join_column: args.join_column.clone(),
    })
}

pub(super) fn genes(text: Option<&str>) -> Result<Option<GeneList>> {
    text.map(|text| read_genes(text).map(GeneList)).transpose()
}

pub(super) fn run_options(args: RunArgs, format: Format) -> Result<RunOptions> {
    Ok(RunOptions {
        storage: storage(&args.storage, format)?,
        jobs: args.jobs.map(usize::from),
        memory_limit: args.memory_limit,
        tmpdir: args.tmpdir,
        overwrite: args.overwrite,
        fsync: args.fsync,
    })
}

/// What to do with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Run,
    Explain,
    DryRun,
}

impl Mode {
    pub(super) fn of(args: &RunArgs) -> Self {
        Self::from_flags(args.explain, args.dry_run)
    }

    pub(super) fn from_flags(explain: bool, dry_run: bool) -> Self {
        match (explain, dry_run) {
            (true, _) => Self::Explain,
            (false, true) => Self::DryRun,
            (false, false) => Self::Run,
        }
    }
}

/// Runs a plan, or shows what it would do.
pub(super) async fn finish(
    prepared: Prepared,
    mode: Mode,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome> {
    match mode {
        Mode::Explain => print(prepared.explain().trim_end())?,
        Mode::DryRun => {
            let report = prepared.estimate();
            for warning in &report.warnings {
                reporter.warn(warning);
            }
            print_report(report, global, true)?;
        }
        Mode::Run => {
            let report = prepared.run(Arc::clone(&reporter) as _).await?;
            return done(&report, global, &reporter);
        }
    }
    Ok(Outcome::Done)
}

/// Says what was done, warnings first.
pub(super) fn done(report: &Report, global: Global, reporter: &Reporter) -> Result<Outcome> {
    for warning in &report.warnings {
        reporter.warn(warning);
    }
    print_report(report, global, false)?;
    Ok(Outcome::Done)
}

/// Prints what was done: a line per output of a dry run, a summary otherwise.
pub(super) fn print_report(report: &Report, global: Global, dry_run: bool) -> Result<()> {
    if global.json {
        return print_json(report);
    }
    if dry_run {
        for line in &report.details {
            print(line)?;
        }
        for output in &report.outputs {
            print(&format!(
                "{}  {} cells × {} genes{}",
                shown_path(&output.path),
                show_count(output.n_obs),
                show_count(output.n_vars),
                if output.bytes > 0 {
                    format!("  about {}", show_bytes(output.bytes))
                } else {
                    String::new()
                },
            ))?;
        }
        if report.memory_bytes > 0 {
            print(&format!(
                "memory: about {}",
                show_bytes(report.memory_bytes)
            ))?;
        }
        if report.seconds > 0.0 {
            print(&format!("time: about {:.1} s", report.seconds))?;
        }
    } else if !global.quiet {
        let cells: u64 = report.outputs.iter().map(|o| o.n_obs).sum();
        let bytes: u64 = report.outputs.iter().map(|o| o.bytes).sum();
        let files = match &report.outputs[..] {
            [one] => shown_path(&one.path),
            [first, .., last] => format!(
                "{} files, {} to {}",
                show_count(u64::try_from(report.outputs.len()).unwrap_or(u64::MAX)),
                shown_path(&first.path),
                shown_path(&last.path)
            ),
            [] => "no file".to_owned(),
        };
        print_error(&format!(
            "wrote {files}: {} cells, {} in {:.2} s",
            show_count(cells),
            show_bytes(bytes),
            report.seconds
        ));
    }
    Ok(())
}
