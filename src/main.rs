//! The command.

use std::process::ExitCode;

/// Rows are moved in large, short-lived buffers from several threads at once, which glibc's
/// allocator keeps in one arena per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    annfusion::cli::main()
}
