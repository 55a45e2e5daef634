//! Where an object is: a path or URL, and a fragment that names a group inside the file.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::url::{is_url, shown};

/// A path or URL and the group inside it, written `path#group`: `x.h5mu#mod/rna`,
/// `s3://bucket/collection.zarr#dataset_0`.
///
/// What is shown of it (by `Display` and `Debug`) is without the password and the query of a URL,
/// which may be secrets; [`path`](Self::path) and [`text`](Self::text) have them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    path: String,
    group: String,
}

/// The path of a file that is given as one or as a `file:` URL, whose escapes are undone.
pub(crate) fn file_path(text: &str) -> Cow<'_, str> {
    let is_url = text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
    let path = match is_url.then(|| Url::parse(text)) {
        Some(Ok(url)) => url.to_file_path().ok(),
        _ => None,
    };
    match path.as_deref().and_then(std::path::Path::to_str) {
        Some(path) => Cow::Owned(path.to_owned()),
        None => Cow::Borrowed(text.strip_prefix("file://").unwrap_or(text)),
    }
}

impl Location {
    /// Splits `path#group`. Names of files and of groups may hold `#`: the path is the longest that
    /// exists, and where none does, what stands before the first `#`. A URL ends at its first `#`.
    pub fn parse(text: &str) -> Self {
        if is_url(text) {
            let (path, group) = text.split_once('#').unwrap_or((text, ""));
            return Self {
                path: path.to_owned(),
                group: group.trim_matches('/').to_owned(),
            };
        }
        let text = text.strip_prefix("file://").unwrap_or(text);
        let exists = |path: &str| std::path::Path::new(path).exists();
        let splits = text.rmatch_indices('#').map(|(at, _)| text.split_at(at));
        let split = match exists(text) {
            true => None,
            false => splits
                .filter(|(path, _)| !path.is_empty() && exists(path))
                .map(|(path, group)| (path, &group[1..]))
                .next()
                .or_else(|| text.split_once('#')),
        };
        let (path, group) = split.unwrap_or((text, ""));
        Self {
            path: path.to_owned(),
            group: group.trim_matches('/').to_owned(),
        }
    }

    /// The file or URL, without the fragment; to open it, not to show it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file or URL as messages show it, without the fragment.
    pub fn shown_path(&self) -> Cow<'_, str> {
        shown(&self.path)
    }

    /// All of it, as [`parse`](Self::parse) takes it; to be kept, not to be shown.
    pub fn text(&self) -> String {
        match self.group.as_str() {
            "" => self.path.clone(),
            group => format!("{}#{group}", self.path),
        }
    }

    /// Whether it is in an object store or on a web server.
    pub fn is_url(&self) -> bool {
        is_url(&self.path)
    }

    /// The group inside the file, empty for the root.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The file's stem, or the group's last name: what its SQL schema is called.
    pub fn stem(&self) -> String {
        let path = self.shown_path();
        let base = if self.group.is_empty() {
            path.as_ref()
        } else {
            &self.group
        };
        let name = base
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(base);
        let name = name.strip_suffix(".zip").unwrap_or(name);
        match name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
            _ => name.to_owned(),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown_path())?;
        if !self.group.is_empty() {
            write!(f, "#{}", self.group)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_longest_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a#b.h5mu").display().to_string();
        std::fs::write(&file, "").unwrap();
        let split = |text: &str| {
            let location = Location::parse(text);
            (location.path().to_owned(), location.group().to_owned())
        };
        assert_eq!(split(&file), (file.clone(), String::new()));
        for group in ["mod/rna", "mod/r#na"] {
            let found = split(&format!("{file}#{group}"));
            assert_eq!(found, (file.clone(), group.to_owned()));
        }
        assert_eq!(split("no#such#file"), ("no".into(), "such#file".into()));
    }

    #[test]
    fn a_url_keeps_its_query_and_shows_none() {
        let text = "https://host/a%23b/x.h5mu?sig=s3cret#mod/rna";
        let location = Location::parse(text);
        assert_eq!(location.text(), text);
        assert_eq!(location.group(), "mod/rna");
        assert_eq!(location.stem(), "rna");
        for shown in [location.to_string(), format!("{location:?}")] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let stem = Location::parse("s3://bucket/pbmc.zarr/?x=y.z").stem();
        assert_eq!(stem, "pbmc");
    }
}
