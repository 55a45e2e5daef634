//! Patterns of paths that name several objects.

use crate::model::Location;

/// The locations that a text names: those that a pattern with `*`, `?` or `[…]` matches, in
/// lexicographic order, or the one it is. A path that exists is no pattern.
pub(crate) fn expand(text: &str) -> Vec<Location> {
    let one = || vec![Location::parse(text)];
    let is_pattern = text.contains(['*', '?', '[']) && !std::path::Path::new(text).exists();
    if !is_pattern {
        return one();
    }
    let Ok(paths) = glob::glob(text) else {
        return one();
    };
    let mut found: Vec<String> = paths
        .filter_map(|path| Some(path.ok()?.to_str()?.to_owned()))
        .collect();
    found.sort();
    match found.is_empty() {
        true => one(),
        false => found.iter().map(|path| Location::parse(path)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.h5ad", "a.h5ad", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let pattern = folder.path().join("*.h5ad").display().to_string();
        let found: Vec<String> = expand(&pattern).iter().map(Location::stem).collect();
        assert_eq!(found, ["a", "b"]);
        assert_eq!(expand("no[thing]*.h5ad").len(), 1);
    }
}
