//! URLs of object stores and web servers, as text.

use std::borrow::Cow;
use std::path::Path;

/// Schemes of what is read by requests; `memory` is for stores that a program registers.
const SCHEMES: [&str; 11] = [
    "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "memory",
];

/// Whether a location is in an object store or on a web server, rather than a path.
pub(crate) fn is_url(text: &str) -> bool {
    scheme_of(text).is_some()
}

/// The scheme of a URL of an object store, and what follows its `://`.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
        .then_some((scheme, rest))
}

/// A location as messages show it: of a URL without password and query, which may be secrets
/// (presigned URLs, SAS tokens).
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = scheme_of(text) else {
        return Cow::Borrowed(text);
    };
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (rest, None),
    };
    let rest = rest.split('?').next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // Before the @ of `abfs://container@account` stands a container.
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) if is_web => host.to_owned(),
        Some((user, host)) => {
            format!("{}@{host}", user.split(':').next().unwrap_or_default())
        }
        None => authority.to_owned(),
    };
    let mut shown = format!("{scheme}://{authority}{path}");
    if let Some(fragment) = fragment {
        shown.push('#');
        shown.push_str(fragment);
    }
    Cow::Owned(shown)
}

/// A path or URL as messages show it.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, expected) in [
            (
                "https://me:pw@host:8080/a/x.h5ad?X-Amz-Signature=1#mod/rna",
                "https://host:8080/a/x.h5ad#mod/rna",
            ),
            (
                "abfs://cells@account.dfs.core.windows.net/x.zarr?sig=1",
                "abfs://cells@account.dfs.core.windows.net/x.zarr",
            ),
            ("az://cells:pw@account/x.zarr", "az://cells@account/x.zarr"),
            ("s3://bucket", "s3://bucket"),
            ("what?#x.h5ad", "what?#x.h5ad"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn a_path_is_no_url() {
        assert!(is_url("S3://bucket/x.zarr"));
        assert!(!is_url("file:///x.zarr"));
        assert!(!is_url("folder://x.zarr"));
        assert!(!is_url("s3:/bucket/x.zarr"));
    }
}
