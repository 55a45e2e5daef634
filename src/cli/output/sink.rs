//! Standard output, or a file beside its final name.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::print::Output;
use crate::error::{Error, Result};
use crate::model::{Location, shown_path};
use crate::store::{Inputs, refuse};

/// Where a result shall go.
#[derive(Debug)]
pub(in crate::cli) enum Target {
    Stdout,
    File { path: PathBuf, overwrite: bool },
}

impl Target {
    /// A file that is not there yet or may be replaced, and that no input lies in.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] for any other.
    pub(in crate::cli) fn file(path: &Path, overwrite: bool, inputs: &[Location]) -> Result<Self> {
        Inputs::of(inputs.iter().map(Location::path)).check(path)?;
        check_absent(path, overwrite)?;
        Ok(Self::File {
            path: path.to_owned(),
            overwrite,
        })
    }
}

fn check_absent(path: &Path, overwrite: bool) -> Result<()> {
    let there = std::fs::symlink_metadata(path).is_ok();
    if there && !overwrite {
        return Err(refuse(path, "it exists already; --overwrite replaces it"));
    }
    Ok(())
}

/// Where bytes go. A file that is dropped unfinished is removed.
#[derive(Debug)]
pub(super) struct Sink {
    to: To,
}

#[derive(Debug)]
enum To {
    Stdout(BufWriter<Output>),
    File {
        file: BufWriter<File>,
        partial: PathBuf,
        path: PathBuf,
        overwrite: bool,
    },
    Done,
}

impl Sink {
    pub(super) fn is_file(&self) -> bool {
        matches!(self.to, To::File { .. })
    }

    pub(super) fn new(to: Target) -> Result<Self> {
        let to = match to {
            Target::Stdout => To::Stdout(BufWriter::with_capacity(1 << 16, Output::new())),
            Target::File { path, overwrite } => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(format!(".partial-{}", std::process::id()));
                let partial = path.with_file_name(name);
                let file = File::create(&partial)
                    .map_err(|e| Error::store("output", shown_path(&path), e))?;
                To::File {
                    file: BufWriter::with_capacity(1 << 16, file),
                    partial,
                    path,
                    overwrite,
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
        if let To::File {
            partial,
            path,
            overwrite,
            ..
        } = &self.to
        {
            // Somebody else's file may have appeared meanwhile.
            check_absent(path, *overwrite)?;
            let (partial, path) = (partial.clone(), path.clone());
            self.to = To::Done;
            std::fs::rename(&partial, &path)
                .map_err(|e| Error::store("output", shown_path(&path), e))?;
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
