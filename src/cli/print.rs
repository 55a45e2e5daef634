//! Text on standard output and standard error.

use std::io::Write;

use crate::error::{Error, Result};

/// One line on standard output.
pub(super) fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").map_err(|e| Error::store("standard output", "-", e))
}

/// A value as indented JSON on standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::store("json", "-", e))?;
    print(&text)
}

/// One line on standard error.
#[expect(clippy::print_stderr, reason = "the command line's own output")]
pub(super) fn print_error(line: &str) {
    eprintln!("{line}");
}
