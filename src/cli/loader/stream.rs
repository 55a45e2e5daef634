//! Minibatches as an Arrow IPC stream.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use tempfile::NamedTempFile;

use crate::cli::print::Output;
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::store::{folder_of, refuse};

/// A file in the folder of a path, with the permissions that a new file there has.
pub(super) fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path))
}

/// Gives such a file its name.
pub(super) fn publish(file: NamedTempFile, path: &Path, overwrite: bool) -> Result<()> {
    let named = match overwrite {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    let named = named.map_err(|e| Error::store("file system", path.display().to_string(), e.error));
    named.map(drop)
}

/// Minibatches on their way to another program.
pub(super) struct Stream {
    writer: StreamWriter<Box<dyn Write + Send>>,
    /// The file beside its final name, and that name; [`None`] for standard output.
    file: Option<(NamedTempFile, PathBuf)>,
    /// Whether a file of that name may be replaced.
    overwrite: bool,
}

impl Stream {
    /// A stream to a file, `-` for standard output.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where the file exists and may not be replaced.
    pub(super) fn create(path: &Path, overwrite: bool, loader: &Loader) -> Result<Self> {
        let (to, file): (Box<dyn Write + Send>, _) = match path.as_os_str() == "-" {
            true => (Box::new(Output::new()), None),
            false => {
                let failed = |e| Error::store("file system", path.display().to_string(), e);
                if path.exists() && !overwrite {
                    return Err(refuse(path, "it exists; --overwrite replaces it"));
                }
                let file = beside(path).map_err(failed)?;
                let to = file.reopen().map_err(failed)?;
                let to = Box::new(std::io::BufWriter::new(to));
                (to, Some((file, path.to_owned())))
            }
        };
        Ok(Self {
            writer: StreamWriter::try_new(to, loader.schema())?,
            file,
            overwrite,
        })
    }

    /// Adds a minibatch.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(batch)?)
    }

    /// Whether standard output is the stream's.
    pub(super) fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Ends the stream, and gives the file its name.
    pub(super) fn finish(mut self) -> Result<()> {
        self.writer.finish()?;
        let failed = |e| Error::store("file system", "-", e);
        self.writer.into_inner()?.flush().map_err(failed)?;
        if let Some((file, path)) = self.file {
            publish(file, &path, self.overwrite)?;
        }
        Ok(())
    }
}
