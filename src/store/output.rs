//! Where an object, or a query's result, may be written.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::Format;
use super::remote::{identity, is_writable};
use crate::error::{Error, Result};
use crate::model::{is_url, shown, shown_path};

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A path as the file system has it, however it is spelt; the last name need not exist. Of a URL
/// the one name that its place has.
pub(crate) fn place_of(path: &Path) -> PathBuf {
    if let Some(url) = url_of(path) {
        let place = identity(&url);
        return PathBuf::from(place.unwrap_or_else(|| shown(&url).into_owned()));
    }
    match (folder_of(path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// A path that is a URL.
pub(crate) fn url_of(path: &Path) -> Option<Cow<'_, str>> {
    let text = path.to_string_lossy();
    is_url(&text).then_some(text)
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
        path: shown_path(path),
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
            shown_path(path),
            format!("an output's name must end in .{}", format.ending()),
        )),
    }
}

/// Holds the place of an object to be written to its format.
///
/// # Errors
/// [`Error::OutputRefused`] for an h5ad in an object store, where nothing is written in place, and
/// for a web address; [`Error::InvalidOption`] where the URL makes no sense.
pub(crate) fn check_place(path: &Path, format: Format) -> Result<()> {
    let Some(url) = url_of(path) else {
        return Ok(());
    };
    if !is_writable(&url)? {
        return Err(refuse(
            path,
            "web servers are read, not written to; a bucket is written to by its own scheme (s3://, \
             gs://, az://)",
        ));
    }
    match format {
        Format::H5ad => Err(refuse(
            path,
            "an .h5ad is not written to an object store: write a .zarr there, or the .h5ad to a disk",
        )),
        Format::Zarr { .. } => Ok(()),
    }
}

/// The format that the name of an object to be written asks for.
///
/// # Errors
/// [`Error::InvalidOption`] where it asks for none.
pub(crate) fn format_of_name(path: &Path) -> Result<Format> {
    Format::of_name(path).ok_or_else(|| {
        Error::option(
            shown_path(path),
            "an output's name must end in .h5ad or .zarr",
        )
    })
}

/// The files and folders that are read, which nothing may be written over or into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs(Vec<PathBuf>);

impl Inputs {
    /// Those of the paths that exist, and URLs.
    pub(crate) fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let there = paths.into_iter().map(|path| match url_of(path.as_ref()) {
            Some(_) => Ok(place_of(path.as_ref())),
            None => path.as_ref().canonicalize(),
        });
        Self(there.filter_map(std::result::Result::ok).collect())
    }

    /// Whether an output leaves them alone.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where it is one of them, lies inside of one, or one inside of it.
    pub(crate) fn check(&self, output: &Path) -> Result<()> {
        // A link to an input is that input; where nothing is there yet, its folder decides.
        let place = match url_of(output) {
            Some(_) => place_of(output),
            None => output.canonicalize().unwrap_or_else(|_| place_of(output)),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_inputs_by_their_place() {
        let inputs = Inputs::of(["s3://cells/a/x.zarr/", "https://host/y.h5ad?sig=1"]);
        for refused in [
            "s3a://cells/a/x.zarr",
            "S3://cells/b/../a/x%2Ezarr",
            "https://cells.s3.eu-west-1.amazonaws.com/a/x.zarr",
            "s3://cells/a/x.zarr/sub.zarr",
            "s3://cells/a",
        ] {
            assert!(inputs.check(Path::new(refused)).is_err(), "{refused}");
        }
        for fine in ["s3://cells/a/x2.zarr", "s3://other/a/x.zarr", "x.zarr"] {
            inputs.check(Path::new(fine)).unwrap();
        }
    }

    #[test]
    fn an_h5ad_does_not_go_to_a_bucket() {
        let web = Path::new("https://cells.s3.amazonaws.com/x.zarr?sig=s3cret");
        let error = check_place(web, Format::ZARR).unwrap_err().to_string();
        assert!(error.contains("its own scheme"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        let url = Path::new("s3://cells/x.h5ad");
        let error = check_place(url, Format::H5ad).unwrap_err().to_string();
        assert!(error.contains("write a .zarr there"), "{error}");
        check_place(Path::new("x.h5ad"), Format::H5ad).unwrap();
        check_place(Path::new("gs://cells/x.zarr"), Format::ZARR).unwrap();
    }
}
