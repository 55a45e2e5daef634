//! Which objects a collection has.

use std::path::Path;

use crate::element::node::Node;
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, expand, is_pattern};
use crate::store::{self, ZARR_DOCUMENTS};

/// What members are called before their number: annbatch's names, today's and that of its first
/// releases.
const PREFIXES: [&str; 2] = ["dataset_", "chunk_"];
/// How the names of members end that are stores of their own.
const ENDINGS: [&str; 3] = [".zarr", ".zarr.zip", ".h5ad"];

/// Whether a location that does not open may be that of a collection: where no object is, or where a
/// server refuses what may be a folder.
pub(super) fn may_be_there(location: &Location, error: &Error) -> bool {
    match error {
        Error::StoreNotFound { .. } => true,
        Error::Store { .. } if location.is_url() => {
            let path = location.shown_path();
            !ENDINGS.iter().any(|ending| path.ends_with(ending))
        }
        _ => false,
    }
}

/// The members of the collection at a location, in the order of their numbers; none where there is no
/// collection.
///
/// # Errors
/// [`Error::InvalidOption`] where members of both names stand side by side, and for a pattern that
/// nothing matches; those of the store.
pub(super) async fn find(location: &Location) -> Result<Vec<Location>> {
    if location.is_url() {
        return match groups(location).await? {
            found if found.is_empty() => stores(location).await,
            found => Ok(found),
        };
    }
    let folder = Path::new(location.path()).join(location.group());
    if folder.is_dir() {
        return in_folder(location, &folder);
    }
    if !is_pattern(location.path()) {
        return Ok(Vec::new());
    }
    let mut found = expand(&location.text())?;
    if found
        .iter()
        .all(|member| numbered(&member.stem()).is_some())
    {
        found.sort_by_key(|member| numbered(&member.stem()).map(|(_, number)| number));
    }
    Ok(found)
}

/// Members in a folder of the disk: stores, or groups of the store that the folder is in.
fn in_folder(location: &Location, folder: &Path) -> Result<Vec<Location>> {
    let path = location.path().trim_end_matches('/');
    let in_store = ZARR_DOCUMENTS
        .iter()
        .any(|name| Path::new(path).join(name).exists());
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Error::store("folder", location.path(), error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::store("folder", location.path(), error))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        let Some((prefix, number)) = numbered(stem.unwrap_or(name)) else {
            continue;
        };
        let group = Path::new(location.group()).join(name);
        let member = match (in_store, stem) {
            (true, None) => format!("{path}#{}", group.display()),
            _ => folder.join(name).display().to_string(),
        };
        found.push((number, prefix, Location::parse(&member)));
    }
    found.sort();
    let other = found.iter().find(|(_, prefix, _)| *prefix != found[0].1);
    if let (Some((_, _, first)), Some((_, _, other))) = (found.first(), other) {
        return Err(Error::option(
            location.to_string(),
            format!("{first} and {other} are of two collections; name one by a pattern"),
        ));
    }
    Ok(found.into_iter().map(|(_, _, member)| member).collect())
}

/// `dataset_12` as its prefix and number.
fn numbered(name: &str) -> Option<(&'static str, u64)> {
    let split = |prefix: &&'static str| Some((*prefix, name.strip_prefix(prefix)?));
    let (prefix, digits) = PREFIXES.iter().find_map(split)?;
    let number = digits.bytes().all(|b| b.is_ascii_digit());
    Some((prefix, number.then(|| digits.parse().ok())??))
}

/// Members that are groups of the store at a URL. They are asked for by number, because a collection
/// has no consolidated metadata and not every server lists.
async fn groups(location: &Location) -> Result<Vec<Location>> {
    // Why there is no store was said when it was opened as an object.
    let Ok(store) = store::open(&Location::parse(location.path())).await else {
        return Ok(Vec::new());
    };
    let root = ElementKey::new(location.group());
    for prefix in PREFIXES {
        let mut found = Vec::new();
        loop {
            let group = root.child(&format!("{prefix}{}", found.len()));
            if Node::find(&store, &group).await?.is_none() {
                break;
            }
            found.push(Location::parse(&format!("{}#{group}", location.path())));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// Members that are stores below a URL.
async fn stores(location: &Location) -> Result<Vec<Location>> {
    if !location.group().is_empty() {
        return Ok(Vec::new());
    }
    let (path, query) = match location.path().split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (location.path(), String::new()),
    };
    let path = path.trim_end_matches('/');
    for prefix in PREFIXES {
        for ending in ENDINGS {
            let mut found = Vec::new();
            loop {
                let url = format!("{path}/{prefix}{}{ending}{query}", found.len());
                let member = Location::parse(&url);
                match store::open(&member).await {
                    Ok(_) => found.push(member),
                    Err(Error::StoreNotFound { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_a_prefix_and_a_number() {
        assert_eq!(numbered("dataset_12"), Some(("dataset_", 12)));
        assert_eq!(numbered("chunk_0"), Some(("chunk_", 0)));
        for name in [
            "dataset_",
            "dataset_1a",
            "dataset_+1",
            "data_1",
            "dataset_99999999999999999999",
        ] {
            assert_eq!(numbered(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn members_come_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "chunk_10.h5ad",
            "chunk_2.h5ad",
            "chunk_0.h5ad",
            "other.h5ad",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = folder.path().display().to_string();
        for text in [path.clone(), format!("{path}/chunk_*.h5ad")] {
            let found = find(&Location::parse(&text)).await.unwrap();
            let stems: Vec<String> = found.iter().map(Location::stem).collect();
            assert_eq!(stems, ["chunk_0", "chunk_2", "chunk_10"], "{text}");
        }
        std::fs::write(folder.path().join("dataset_0.h5ad"), "").unwrap();
        let error = find(&Location::parse(&path)).await.unwrap_err();
        assert!(error.to_string().contains("two collections"), "{error}");
    }
}
