//! Where an object is: a path or URL, and a fragment that names a group inside the file.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A path or URL and the group inside it, written `path#group`: `x.h5mu#mod/rna`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    path: String,
    group: String,
}

impl Location {
    /// Splits `path#group`; an existing file whose own name holds `#` is taken as it is.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix("file://").unwrap_or(text);
        match text.split_once('#') {
            Some((path, group)) if !std::path::Path::new(text).exists() => Self {
                path: path.to_owned(),
                group: group.trim_matches('/').to_owned(),
            },
            _ => Self {
                path: text.to_owned(),
                group: String::new(),
            },
        }
    }

    /// The file or URL, without the fragment.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The group inside the file, empty for the root.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The file's stem, or the group's last name: what its SQL schema is called.
    pub fn stem(&self) -> String {
        let base = if self.group.is_empty() {
            &self.path
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

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if !self.group.is_empty() {
            write!(f, "#{}", self.group)?;
        }
        Ok(())
    }
}
