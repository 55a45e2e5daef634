//! Patterns of paths that name several objects.

use super::url::{is_url, shown};
use crate::error::{Error, Result};
use crate::model::Location;

/// The locations that a text names: those that a pattern with `*`, `?` or `[…]` matches, in
/// lexicographic order and each with the pattern's `#group`, or the one it is.
///
/// # Errors
/// [`Error::InvalidOption`] for a pattern that is none, or that nothing matches.
pub(crate) fn expand(text: &str) -> Result<Vec<Location>> {
    if !is_pattern(text) {
        return Ok(vec![Location::parse(text)]);
    }
    let bad = |reason: String| Error::option("inputs", format!("{}: {reason}", shown(text)));
    let (pattern, group) = match text.split_once('#') {
        Some((pattern, group)) => (pattern, format!("#{group}")),
        None => (text, String::new()),
    };
    let mut found = Vec::new();
    for path in glob::glob(pattern).map_err(|e| bad(e.to_string()))? {
        let path = path.map_err(|e| bad(e.to_string()))?;
        found.push(format!("{}{group}", path.display()));
    }
    found.sort();
    match found.is_empty() {
        true => Err(bad("nothing matches it".to_owned())),
        false => Ok(found.iter().map(|path| Location::parse(path)).collect()),
    }
}

/// The locations that texts name, one after another; see [`expand`].
///
/// # Errors
/// Those of [`expand`].
pub(crate) fn expand_all(texts: &[String]) -> Result<Vec<Location>> {
    let expanded = texts.iter().map(|text| expand(text));
    Ok(expanded.collect::<Result<Vec<_>>>()?.concat())
}

/// Whether a text is a pattern: a path that exists is none, and neither is a URL, whose query begins
/// with `?`.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[']) && !is_url(text) && !std::path::Path::new(text).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_gives_its_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.h5ad", "a.h5ad", "c.txt", "[1].h5ad"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let pattern = folder.path().join(pattern).display().to_string();
            let found = expand(&pattern).unwrap();
            let prefix = format!("{}/", folder.path().display());
            let names = found.iter().map(|l| l.text().replace(&prefix, ""));
            names.collect()
        };
        assert_eq!(names("[ab].h5ad#x"), ["a.h5ad#x", "b.h5ad#x"]);
        assert_eq!(names("[1].h5ad"), ["[1].h5ad"]);
        assert_eq!(names("plain.h5ad"), ["plain.h5ad"]);
        assert!(expand("none/*.h5ad").is_err());
        let url = "https://host/x.h5ad?sig=a*b";
        assert_eq!(expand(url).unwrap()[0].text(), url);
    }
}
