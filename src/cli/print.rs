//! Text on standard output and standard error.

use std::io::{self, ErrorKind, Stdout, Write};

use crate::error::{Error, Result};

/// Exit code of a process whose output nobody reads any more, as shells show it.
const UNREAD: i32 = 128 + libc::SIGPIPE;

/// Standard output. Where its reader goes away (`annfusion query … | head`) the process ends without a
/// word. Others leave that to the signal, which is ignored here: it would also end a server whose client
/// goes away, and whatever reads a bucket over a connection that is closed.
#[derive(Debug)]
pub(super) struct Output(Stdout);

impl Output {
    pub(super) fn new() -> Self {
        Self(io::stdout())
    }
}

/// The result of writing, unless nobody reads what is written.
fn read_by_somebody<T>(result: io::Result<T>) -> io::Result<T> {
    if matches!(&result, Err(error) if error.kind() == ErrorKind::BrokenPipe) {
        // As the signal would end it. Exit handlers, those of HDF5 and of the allocator among them, are
        // not made to run while other threads are at work.
        // SAFETY: ends the process, whatever its threads do.
        unsafe { libc::_exit(UNREAD) }
    }
    result
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        read_by_somebody(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        read_by_somebody(self.0.flush())
    }
}

/// One line on standard output.
pub(super) fn print(line: &str) -> Result<()> {
    let mut out = Output::new();
    writeln!(out, "{line}").map_err(|e| Error::store("standard output", "-", e))
}

/// A value as indented JSON on standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::store("json", "-", e))?;
    print(&text)
}

/// One line on standard error, where somebody reads it.
pub(super) fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
