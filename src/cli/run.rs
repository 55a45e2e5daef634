//! From the process's start to its exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::args::{Cli, Command};
use super::print::print_error;
use super::progress::Reporter;
use super::{
    collection, convert, filter, inspect, loader, merge, query, serve, shuffle, slice, synth,
    verify,
};
use crate::error::Error;
use crate::store;

/// How long a process waits at its end for the removal of what it wrote to object stores in vain.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// How a command ended, where it did not fail.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done.
    Done,
    /// `verify` found something.
    Different,
}

/// How a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line asks for what cannot be, whatever the files hold.
    Usage(Error),
    /// Everything else.
    Run(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

/// Parses the arguments, runs the command, prints what went wrong and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only where nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if cli.global.debug {
        start_tracing();
    }
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(1),
        Err(failure) => {
            let (error, code) = match failure {
                Failure::Usage(error) => (error, 2),
                Failure::Run(error) => (error, 1),
            };
            print_error(&format!("error: {error}"));
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::store("runtime", "threads", e))?;
    if passes_rows_on(&cli.command) {
        without_huge_pages();
    }
    let outcome = runtime.block_on(async {
        // It stops in its own way.
        let stops_itself = matches!(cli.command, Command::Serve(_));
        let mut signals = Signals::new();
        tokio::select! {
            outcome = dispatch(cli) => outcome,
            signal = signals.next(), if !stops_itself => Err(Error::store("process", signal, "stopped; what was being written is removed").into()),
        }
    });
    // Writers are dropped with the command's future; blocking work that is under way may end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    if !store::settle(CLEAN_UP) {
        print_error("warning: what was written to an object store could not be removed in time");
    }
    outcome
}

async fn dispatch(cli: Cli) -> Result<Outcome, Failure> {
    let global = cli.global;
    let reporter = std::sync::Arc::new(Reporter::new(global.quiet || global.json));
    match cli.command {
        Command::Slice(args) => Box::pin(slice::run(*args, global, reporter)).await,
        Command::Shuffle(args) => Box::pin(shuffle::run(args, global, reporter)).await,
        Command::Filter(args) => Box::pin(filter::run(args, global, reporter)).await,
        Command::Merge(args) => Box::pin(merge::run(args, global, reporter)).await,
        Command::Collection(command) => Box::pin(collection::run(command, global, reporter)).await,
        Command::Convert(args) => Box::pin(convert::run(args, global, reporter)).await,
        Command::Loader(args) => Box::pin(loader::run(*args, global)).await,
        Command::Serve(args) => Box::pin(serve::run(*args, global)).await,
        Command::Inspect(args) => Ok(inspect::run(args, global).await?),
        Command::Query(args) => Box::pin(query::run(args, global)).await,
        Command::Synth(args) => Box::pin(synth::run(args, global, &reporter)).await,
        Command::Verify(args) => Ok(Box::pin(verify::run(args, global, &reporter)).await?),
    }
}

/// The signals that ask a process to stop.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Takes them from now on; none is lost between two waits.
    pub(super) fn new() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        match (&mut self.interrupt, &mut self.terminate) {
            (Some(interrupt), Some(terminate)) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            _ => std::future::pending().await,
        }
    }
}

fn start_tracing() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,annfusion=debug"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// Whether a command hands rows on as they come, in buffers that live for a moment, and holds none for long.
fn passes_rows_on(command: &Command) -> bool {
    match command {
        Command::Slice(args) => !args.order.shuffle,
        Command::Filter(_) | Command::Merge(_) | Command::Convert(_) => true,
        _ => false,
    }
}

/// Has memory come in pages of 4 KiB: of one of 2 MiB, which Linux gives by itself, the first byte costs the
/// clearing of all, and what is freed of it stays. A merge of 20 files to zarr peaked at 340 MB so, and at
/// 185 MB without; a slice at 131 MB and at 101 MB. What holds rows for long, as shuffles do, is faster with
/// large ones (0.41 s against 0.49 s).
#[cfg(target_os = "linux")]
fn without_huge_pages() {
    const YES: libc::c_ulong = 1;
    const NONE: libc::c_ulong = 0;
    // SAFETY: sets a flag of this process. Where the kernel does not know it, nothing changes.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, YES, NONE, NONE, NONE);
    }
}

#[cfg(not(target_os = "linux"))]
fn without_huge_pages() {}
