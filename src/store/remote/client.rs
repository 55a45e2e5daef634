//! Connections to stores, and the threads that wait for them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, HeaderMap, HeaderValue, ObjectStore, ObjectStoreScheme,
    RetryConfig,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use url::{Position, Url};

use super::fault::Service;
use super::patience::Patient;
use crate::error::{Error, Result};
use crate::model::shown;

/// Requests to one store that are in flight at most.
const IN_FLIGHT: usize = 32;

/// A store, or a web server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) service: Service,
    /// Of requests in flight.
    pub(super) permits: Semaphore,
}

/// By scheme and authority; of a web server, by query, too, which may be a signature.
static CLIENTS: LazyLock<Mutex<HashMap<String, Arc<Client>>>> = LazyLock::new(Mutex::default);

/// Makes an object store known under a URL such as `s3://bucket` or `memory://name`, of which the
/// scheme and the authority count: what is opened or written there goes through it from now on. For
/// stores whose credentials are not in the environment, and for tests.
///
/// # Errors
/// [`Error::InvalidOption`] where the text is no URL of a scheme that is read.
pub fn register_object_store(url: &str, store: Arc<dyn ObjectStore>) -> Result<()> {
    let url = parse(url)?;
    let client = Client::new(store, Service::Registered);
    lock().insert(url[..Position::BeforePath].to_owned(), Arc::new(client));
    Ok(())
}

fn lock() -> std::sync::MutexGuard<'static, HashMap<String, Arc<Client>>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A URL of text.
///
/// # Errors
/// [`Error::InvalidOption`] where it is none.
pub(super) fn parse(text: &str) -> Result<Url> {
    let invalid = |e: &dyn std::fmt::Display| Error::option(shown(text), format!("no URL: {e}"));
    let url = Url::parse(text).map_err(|e| invalid(&e))?;
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(url),
        _ => Err(invalid(&"no bucket or host follows the ://")),
    }
}

impl Client {
    fn new(store: Arc<dyn ObjectStore>, service: Service) -> Self {
        Self {
            store,
            service,
            permits: Semaphore::new(IN_FLIGHT),
        }
    }

    /// The client of a URL, and the path there.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where the URL or the environment does not make sense.
    pub(super) fn of(text: &str) -> Result<(Arc<Self>, Path)> {
        let url = parse(text)?;
        let invalid = |e: &dyn std::fmt::Display| {
            Error::option(shown(text), super::fault::redacted(&e.to_string()))
        };
        let authority = &url[..Position::BeforePath];
        if let Some(client) = lock().get(authority) {
            let path = Path::from_url_path(url.path()).map_err(|e| invalid(&e))?;
            return Ok((Arc::clone(client), path));
        }
        if url.scheme() == "memory" {
            return Err(invalid(&"no store is registered under this name"));
        }
        // A web address is read as it stands: with none of the environment's credentials, which are
        // for buckets, and from its own host.
        let (scheme, path) = match url.scheme() {
            "http" | "https" => {
                let path = Path::from_url_path(url.path()).map_err(|e| invalid(&e))?;
                (ObjectStoreScheme::Http, path)
            }
            _ => ObjectStoreScheme::parse(&url).map_err(|e| invalid(&e))?,
        };
        let key = match &scheme {
            ObjectStoreScheme::Http => {
                format!("{authority}?{}", url.query().unwrap_or_default())
            }
            _ => authority.to_owned(),
        };
        if let Some(client) = lock().get(&key) {
            return Ok((Arc::clone(client), path));
        }
        let store = connect(&url, &scheme).map_err(|e| invalid(&e))?;
        let client = Arc::new(Self::new(store, Service::of(&scheme)));
        let client = Arc::clone(lock().entry(key).or_insert(client));
        Ok((client, path))
    }
}

/// Attempts and their time: enough for a server that sheds load, and little enough to say soon that
/// there is none.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 8,
        retry_timeout: Duration::from_secs(60),
    }
}

fn connect(url: &Url, scheme: &ObjectStoreScheme) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(match scheme {
        ObjectStoreScheme::AmazonS3 => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_retry(retries())
                .with_http_connector(Patient::default())
                .build()?,
        ),
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retries())
                .with_http_connector(Patient::default())
                .build()?,
        ),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retries())
                .with_http_connector(Patient::default())
                .build()?,
        ),
        _ => {
            let mut options = ClientOptions::new().with_allow_http(true);
            let mut server = url.clone();
            if !url.username().is_empty() || url.password().is_some() {
                options = options.with_default_headers(basic_authorization(url));
                // Neither fails for a URL that has a host.
                let _ = server.set_username("");
                let _ = server.set_password(None);
            }
            server.set_path("");
            server.set_fragment(None);
            Arc::new(
                HttpBuilder::new()
                    .with_url(server)
                    .with_client_options(options)
                    .with_retry(retries())
                    .with_http_connector(Patient::default())
                    .build()?,
            )
        }
    })
}

/// The header of the user and password that a URL names.
fn basic_authorization(url: &Url) -> HeaderMap {
    let user = Path::from_url_path(url.username()).unwrap_or_default();
    let password = Path::from_url_path(url.password().unwrap_or_default()).unwrap_or_default();
    let token = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut headers = HeaderMap::new();
    if let Ok(mut value) = HeaderValue::try_from(format!("Basic {token}")) {
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    headers
}

/// The threads that do requests, made with the first one.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("annfusion-io")
            .enable_all()
            .build()
    });
    made.as_ref()
        .map_err(|e| io::Error::other(format!("threads for requests: {e}")))
}

/// Where tasks that do requests run.
pub(super) fn handle() -> io::Result<Handle> {
    Ok(runtime()?.handle().clone())
}

/// Waits for a future that does requests; not on a thread that runs tasks.
pub(super) fn wait<T: Send + 'static>(
    future: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Who waits does so until it has the answer.
        let _ = sender.send(future.await);
    });
    receiver
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("a request was abandoned")))
}

/// Does work that waits for requests on a thread that may wait.
///
/// # Errors
/// Where there are no such threads, or the work panics.
pub(in crate::store) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    runtime()?
        .spawn_blocking(work)
        .await
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_address_is_a_file_of_a_web_server() {
        for url in [
            "https://cells.s3.eu-west-1.amazonaws.com/a/x.zarr",
            "https://acc.blob.core.windows.net/cells/x.zarr",
            "https://host/x.zarr",
        ] {
            let (client, path) = Client::of(url).unwrap();
            assert_eq!(client.service, Service::Web, "{url}");
            assert!(Url::parse(url).unwrap().path().ends_with(path.as_ref()));
        }
    }
}
