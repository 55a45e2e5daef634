//! One name for each place, however its URL is spelt.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path;
use url::{Position, Url};

use super::client::parse;

/// The name of the place of a URL, equal for all URLs of it: the service, the bucket, and the path
/// there with its escapes undone. What is no URL has none.
pub(in crate::store) fn identity(text: &str) -> Option<String> {
    let url = parse(text).ok()?;
    let (store, path) = bucket(&url).unwrap_or_else(|| {
        let server = url[Position::BeforeHost..Position::BeforePath].to_lowercase();
        (format!("{}://{server}", url.scheme()), url.path())
    });
    let path = Path::from_url_path(path).map_or_else(|_| path.to_owned(), |path| path.to_string());
    Some(format!("{store}/{}", path.trim_matches('/')))
}

/// The bucket of a URL, and the path in it; [`None`] of other servers.
fn bucket(url: &Url) -> Option<(String, &str)> {
    let host = url.host_str()?.to_lowercase();
    let s3 = |name: &str| format!("s3://{}", name.to_lowercase());
    let first = || {
        let path = url.path().trim_start_matches('/');
        path.split_once('/').unwrap_or((path, ""))
    };
    match url.scheme() {
        "s3" | "s3a" => return Some((s3(&host), url.path())),
        "gs" => return Some((format!("gs://{host}"), url.path())),
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            let (container, account) = match url.username() {
                "" => (host, account()),
                container => (container.to_lowercase(), account_of(&host).to_owned()),
            };
            return Some((azure(&account, &container), url.path()));
        }
        "http" | "https" => {}
        _ => return None,
    }
    if host.ends_with(".amazonaws.com") {
        let named = [".s3.", ".s3-"].iter().find_map(|s3| host.split_once(s3));
        return Some(match named {
            Some((name, _)) => (s3(name), url.path()),
            None => (s3(first().0), first().1),
        });
    }
    if host == "storage.googleapis.com" {
        return Some((format!("gs://{}", first().0), first().1));
    }
    if let Some(name) = host.strip_suffix(".storage.googleapis.com") {
        return Some((format!("gs://{name}"), url.path()));
    }
    let is_azure = [".core.windows.net", ".fabric.microsoft.com"]
        .iter()
        .any(|end| host.ends_with(end));
    if is_azure {
        return Some((azure(account_of(&host), first().0), first().1));
    }
    // What the environment says S3 is.
    let is_s3 = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .filter_map(|name| Url::parse(&std::env::var(name).ok()?).ok())
        .any(|endpoint| {
            endpoint.host_str() == url.host_str()
                && endpoint.port_or_known_default() == url.port_or_known_default()
        });
    is_s3.then(|| (s3(first().0), first().1))
}

fn azure(account: &str, container: &str) -> String {
    format!("az://{}@{account}", container.to_lowercase())
}

/// The account that a host's name begins with.
fn account_of(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// The account that the environment names.
fn account() -> String {
    let environment = MicrosoftAzureBuilder::from_env();
    let account = environment.get_config_value(&AzureConfigKey::AccountName);
    account.unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name() {
        for spellings in [
            &[
                "s3://b/a/x y.zarr",
                "S3://b/a/x%20y.zarr/",
                "s3a://B/c/../a/./x%20y.zarr",
                "https://b.s3.eu-west-1.amazonaws.com/a/x%20y.zarr?sig=1",
                "https://s3.eu-west-1.amazonaws.com/b/a/x%20y.zarr",
                "https://b.s3.amazonaws.com:443/a/x%20y.zarr",
            ][..],
            &[
                "abfss://c@acc.dfs.core.windows.net/x.zarr",
                "abfs://c@acc.blob.core.windows.net/x.zarr",
                "https://acc.blob.core.windows.net/c/x.zarr?sv=1",
            ],
            &["az://c/x.zarr", "azure://c/x.zarr", "abfss://c/x.zarr"],
            &[
                "gs://b/x.zarr",
                "https://storage.googleapis.com/b/x.zarr",
                "https://b.storage.googleapis.com/x.zarr",
            ],
            &["http://me:pw@Host/x.zarr", "http://host:80/x.zarr?sig=1"],
        ] {
            let names: Vec<_> = spellings.iter().map(|url| identity(url)).collect();
            assert!(
                names.iter().all(|n| n.is_some() && *n == names[0]),
                "{names:?}"
            );
        }
        let apart = [
            "s3://b/x",
            "s3://b/x%2F",
            "s3://c/x",
            "gs://b/x",
            "http://b/x",
        ];
        let names: std::collections::HashSet<_> = apart.iter().map(|url| identity(url)).collect();
        // `%2F` ends a name as `/` does.
        assert_eq!(names.len(), 4);
        assert_eq!(identity("x.zarr"), None);
    }
}
