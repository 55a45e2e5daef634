//! Inputs that may be patterns.

use crate::error::{Error, Result};
use crate::model::{Location, shown};

/// The locations that texts name; a pattern that is no file stands for what matches it, by name.
///
/// # Errors
/// [`Error::InvalidOption`] for a pattern that is none, or that nothing matches.
pub(super) fn expand(texts: &[String]) -> Result<Vec<Location>> {
    let mut locations = Vec::new();
    for text in texts {
        let bad = |reason: String| Error::option("inputs", format!("{}: {reason}", shown(text)));
        if !text.contains(['*', '?', '[']) || std::path::Path::new(text).exists() {
            locations.push(Location::parse(text));
            continue;
        }
        let (pattern, group) = match text.split_once('#') {
            Some((pattern, group)) => (pattern, format!("#{group}")),
            None => (text.as_str(), String::new()),
        };
        let before = locations.len();
        for path in glob::glob(pattern).map_err(|e| bad(e.to_string()))? {
            let path = path.map_err(|e| bad(e.to_string()))?;
            locations.push(Location::parse(&format!("{}{group}", path.display())));
        }
        if locations.len() == before {
            return Err(bad("nothing matches it".to_owned()));
        }
    }
    Ok(locations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_gives_its_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.h5ad", "a.h5ad", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let pattern = folder.path().join("*.h5ad#x").display().to_string();
        let found = expand(&["plain.h5ad".to_owned(), pattern]).unwrap();
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 3);
        assert!(
            names[1].ends_with("/a.h5ad#x") && names[2].ends_with("/b.h5ad#x"),
            "{names:?}"
        );
        assert!(expand(&["none/*.h5ad".to_owned()]).is_err());
    }
}
