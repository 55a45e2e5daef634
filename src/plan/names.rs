//! Names of outputs that are named after a category, and the folders of outputs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::{Format, url_of};

/// A category as part of a file name: characters outside letters, digits, `_`, `.` and `-` become
/// `_`. The rule is annslicer's, so that scripts find the same names.
pub fn file_name(category: &str) -> String {
    category
        .chars()
        .map(|c| match c {
            '_' | '.' | '-' => c,
            c if c.is_alphanumeric() => c,
            _ => '_',
        })
        .collect()
}

/// `{prefix}_{category}.h5ad` (or `.zarr`) for every category; a prefix that ends in `/` is a folder
/// and gives `{prefix}{category}.h5ad`.
///
/// # Errors
/// [`Error::InvalidOption`] where two categories have one name.
pub fn object_paths(
    prefix: &Path,
    column: &str,
    categories: &[String],
    format: Format,
) -> Result<Vec<PathBuf>> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut paths = Vec::with_capacity(categories.len());
    for category in categories {
        let name = file_name(category);
        if let Some(other) = seen.insert(name.clone(), category) {
            return Err(Error::option(
                column,
                format!(
                    "categories '{other}' and '{category}' would both be written to '{name}.{}'",
                    format.ending()
                ),
            ));
        }
        paths.push(object_path(prefix, &name, format));
    }
    Ok(paths)
}

/// The path of one category's output.
pub(super) fn object_path(prefix: &Path, name: &str, format: Format) -> PathBuf {
    let mut path = OsString::from(prefix);
    let folder = path.as_encoded_bytes().last() == Some(&b'/');
    if !folder && !path.is_empty() {
        path.push("_");
    }
    path.push(name);
    path.push(".");
    path.push(format.ending());
    PathBuf::from(path)
}

/// Makes the folder that an output lies in; object stores have none.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    if url_of(path).is_some() {
        return Ok(());
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder)
            .map_err(|e| Error::store("file system", folder.display().to_string(), e)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_annslicer() {
        assert_eq!(file_name("CD4+ T/NK cell-2.x_é"), "CD4__T_NK_cell-2.x_é");
    }

    #[test]
    fn two_categories_of_one_name_are_refused() {
        let error = object_paths(
            Path::new("out"),
            "kind",
            &["a b".into(), "a/b".into()],
            Format::H5ad,
        );
        let message = error.unwrap_err().to_string();
        assert!(message.contains("'a b' and 'a/b'"), "{message}");
    }

    #[test]
    fn a_folder_needs_no_underscore() {
        let paths = object_paths(Path::new("out/"), "kind", &["B".into()], Format::H5ad).unwrap();
        assert_eq!(paths, [PathBuf::from("out/B.h5ad")]);
    }
}
