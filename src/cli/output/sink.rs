//! Standard output, or a file beside its final name.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where bytes go. A file that is dropped unfinished is removed.
#[derive(Debug)]
pub(super) struct Sink {
    to: To,
}

#[derive(Debug)]
enum To {
    Stdout(BufWriter<Stdout>),
    File {
        file: BufWriter<File>,
        partial: PathBuf,
        path: PathBuf,
    },
    Done,
}

impl Sink {
    pub(super) fn new(path: Option<&Path>) -> Result<Self> {
        let to = match path {
            None => To::Stdout(BufWriter::with_capacity(1 << 16, io::stdout())),
            Some(path) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(format!(".partial-{}", std::process::id()));
                let partial = path.with_file_name(name);
                let file = File::create(&partial)
                    .map_err(|e| Error::store("output", path.display().to_string(), e))?;
                To::File {
                    file: BufWriter::with_capacity(1 << 16, file),
                    partial,
                    path: path.to_owned(),
                }
            }
        };
        Ok(Self { to })
    }

    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self, "{text}").map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush().map_err(failed)?;
        if let To::File { partial, path, .. } = std::mem::replace(&mut self.to, To::Done) {
            std::fs::rename(&partial, &path)
                .map_err(|e| Error::store("output", path.display().to_string(), e))?;
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::Stdout(out) => out.write(bytes),
            To::File { file, .. } => file.write(bytes),
            To::Done => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Stdout(out) => out.flush(),
            To::File { file, .. } => file.flush(),
            To::Done => Ok(()),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let To::File { partial, .. } = &self.to {
            // It is gone already, or cannot be removed: neither can be helped here.
            let _ = std::fs::remove_file(partial);
        }
    }
}

pub(super) fn failed(error: io::Error) -> Error {
    Error::store("output", "-", error)
}
