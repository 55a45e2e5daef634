//! The path of an element inside an object.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A slash-separated path relative to the object's root, without a leading slash: `obsm/X_pca`.
/// The root itself is empty and shows as `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct ElementKey(String);

impl ElementKey {
    /// The object's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// A key from a path; leading and trailing slashes are dropped.
    pub fn new(path: impl AsRef<str>) -> Self {
        Self(path.as_ref().trim_matches('/').to_owned())
    }

    /// Whether it is `other` or below it.
    pub fn is_in(&self, other: &Self) -> bool {
        match self.0.strip_prefix(&other.0) {
            Some(rest) => rest.is_empty() || other.0.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// The key of a child.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}/{name}", self.0))
        }
    }

    /// The path, empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name of the path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }
}

impl fmt::Display for ElementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("/")
        } else {
            f.write_str(&self.0)
        }
    }
}

impl From<&str> for ElementKey {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for ElementKey {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}

impl From<&Self> for ElementKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}
