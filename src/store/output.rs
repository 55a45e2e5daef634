//! Where an object, or a query's result, may be written.

use std::path::{Path, PathBuf};

use super::Format;
use crate::error::{Error, Result};

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A path as the file system has it, however it is spelt; the last name need not exist.
pub(crate) fn place_of(path: &Path) -> PathBuf {
    match (folder_of(path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Bytes of a file, or of all files in a folder; 0 of what cannot be read.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    let Ok(entries) = path.read_dir() else {
        return metadata.len();
    };
    entries.flatten().map(|entry| bytes_of(&entry.path())).sum()
}

/// An output that may not be written.
pub(crate) fn refuse(path: &Path, reason: &str) -> Error {
    Error::OutputRefused {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

/// Holds the name of an object to be written to its format.
///
/// # Errors
/// [`Error::InvalidOption`] where it does not end as the format's names do.
pub(crate) fn check_name(path: &Path, format: Format) -> Result<()> {
    match path.extension() {
        Some(ending) if ending == format.ending() => Ok(()),
        _ => Err(Error::option(
            path.display().to_string(),
            format!("an output's name must end in .{}", format.ending()),
        )),
    }
}

/// The format that the name of an object to be written asks for.
///
/// # Errors
/// [`Error::InvalidOption`] where it asks for none.
pub(crate) fn format_of_name(path: &Path) -> Result<Format> {
    Format::of_name(path).ok_or_else(|| {
        Error::option(
            path.display().to_string(),
            "an output's name must end in .h5ad or .zarr",
        )
    })
}

/// The files and folders that are read, which nothing may be written over or into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs(Vec<PathBuf>);

impl Inputs {
    /// Those of the paths that exist.
    pub(crate) fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let there = paths.into_iter().map(|path| path.as_ref().canonicalize());
        Self(there.filter_map(std::result::Result::ok).collect())
    }

    /// Whether an output leaves them alone.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where it is one of them, lies inside of one, or one inside of it.
    pub(crate) fn check(&self, output: &Path) -> Result<()> {
        // A link to an input is that input; where nothing is there yet, its folder decides.
        let place = output.canonicalize().unwrap_or_else(|_| place_of(output));
        if self.0.contains(&place) {
            return Err(refuse(output, "it is also an input"));
        }
        if self.0.iter().any(|input| place.starts_with(input)) {
            return Err(refuse(output, "it would lie inside of an input"));
        }
        if self.0.iter().any(|input| input.starts_with(&place)) {
            return Err(refuse(output, "an input lies inside of it"));
        }
        Ok(())
    }
}
