//! The server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::common::runtime::SpawnedTask;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::access::Access;
use super::metrics::Metrics;
use super::minibatches::MinibatchService;
use super::objects::Objects;
use super::room::Room;
use super::service::Service;
use super::sql::SqlService;
use super::wire::Wire;
use crate::error::{Error, Result};
use crate::session::Session;

/// How long a connection may say nothing before it is asked whether it is alive, and then to answer:
/// a client that has gone without a word holds a stream until then.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What is served, to whom.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Paths and URLs of objects, each with a name before `=` or called by its stem.
    pub objects: Vec<String>,
    /// Folders whose objects are served, each called by its stem, those that appear later as well.
    pub folders: Vec<PathBuf>,
    /// Where to listen, by address or host name and port; port 0 is any that is free.
    pub listen: String,
    /// Streams of minibatches and of rows that may run at a time.
    pub streams: usize,
    /// Those of them that one client may have: who has a token, or calls from an address; all by default.
    pub streams_per_client: Option<usize>,
    /// Bytes that cells may take: three quarters for all streams of minibatches together, one for what
    /// statements sort and group.
    pub memory: u64,
    /// A file of bearer tokens, one a line, of which every call shows one; anybody may call by
    /// default.
    pub tokens: Option<PathBuf>,
    /// The server's certificate and key (PEM), for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The certificate (PEM) of who signs those of clients, which then must have one.
    pub client_ca: Option<PathBuf>,
    /// Where anybody may ask for counts, for Prometheus (OpenMetrics text), over HTTP at `/metrics`;
    /// nowhere by default.
    pub metrics: Option<String>,
}

/// A server that listens.
#[derive(Debug)]
pub struct Served {
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
    objects: Arc<Objects>,
    access: Access,
    tls: Option<ServerTlsConfig>,
    metrics: Option<(TcpListener, SocketAddr, Metrics)>,
}

/// Opens what is to be served, and listens; [`Served::run`] answers.
///
/// # Errors
/// [`Error::InvalidOption`] and [`Error::Store`] for options and files that will not do; those of
/// opening the objects.
pub async fn serve(options: &ServeOptions) -> Result<Served> {
    let of_one = options.streams_per_client.unwrap_or(options.streams);
    for (option, n) in [
        ("--streams", options.streams),
        ("--streams-per-client", of_one),
    ] {
        if n == 0 {
            return Err(Error::option(option, "one has to be allowed at least"));
        }
    }
    let access = Access::of_file(options.tokens.as_deref())?;
    let tls = tls(options)?;
    // Sorts and groups of statements are in memory beside the streams.
    let sql = usize::try_from(options.memory / 4).unwrap_or(usize::MAX);
    let session = Session::builder().only_opened().memory_limit(sql).build()?;
    // A place that is taken is said before objects are opened.
    let (listener, address) = listen(&options.listen).await?;
    let metrics = Metrics::new();
    let page = match &options.metrics {
        Some(address) => {
            let (listener, address) = listen(address).await?;
            Some((listener, address, metrics.clone()))
        }
        None => None,
    };
    let objects = Objects::open(&options.objects, &options.folders, session).await?;
    let memory = options.memory - options.memory / 4;
    let room = Room::new(options.streams, of_one, memory);
    Ok(Served {
        listener,
        address,
        service: Service {
            sql: SqlService::try_new(Arc::clone(&objects), room.clone(), metrics.clone())?,
            minibatches: MinibatchService::new(Arc::clone(&objects), room, metrics),
        },
        objects,
        access,
        tls,
        metrics: page,
    })
}

/// Listens at an address; which it is, where any port would do.
async fn listen(address: &str) -> Result<(TcpListener, SocketAddr)> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::AddrInUse => {
            let reason = "the port is taken; port 0 is any that is free";
            Error::store("network", address, reason)
        }
        _ => Error::store("network", address, e),
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

impl Served {
    /// What the user should know, such as that the name of an object was taken.
    pub fn notices(&self) -> &[String] {
        self.objects.notices()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where counts can be asked for.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address, _)| *address)
    }

    /// What is served, by name.
    pub fn names(&self) -> Vec<String> {
        self.objects.names()
    }

    /// Whether calls are encrypted.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Answers until `shutdown` is done: then takes no more calls, and lets those that run finish.
    ///
    /// # Errors
    /// [`Error::Store`] where the network fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let name = self.address.to_string();
        let failed = |e: tonic::transport::Error| Error::store("network", name.clone(), e);
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(tls) = self.tls {
            server = server.tls_config(tls).map_err(failed)?;
        }
        let incoming = TcpIncoming::from(self.listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(KEEPALIVE));
        let (reporter, health) = tonic_health::server::health_reporter();
        let minibatches = self.service.minibatches.clone();
        let flight = FlightServiceServer::new(self.service).max_encoding_message_size(usize::MAX);
        let flight = Wire::new(flight, minibatches);
        let flight = tonic::service::interceptor::InterceptedService::new(flight, self.access);
        // Until the server ends.
        let _watch = self.objects.watch();
        let page = self.metrics;
        let _page = page.map(|(listener, _, metrics)| SpawnedTask::spawn(metrics.serve(listener)));
        reporter
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        server
            .add_service(health)
            .add_service(flight)
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await
            .map_err(failed)
    }
}

fn tls(options: &ServeOptions) -> Result<Option<ServerTlsConfig>> {
    let Some((certificate, key)) = &options.tls else {
        return match options.client_ca {
            Some(_) => Err(Error::option(
                "--client-ca",
                "it goes with a certificate and a key",
            )),
            None => Ok(None),
        };
    };
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        std::fs::read(path).map_err(|e| Error::store("tls", name, e))
    };
    let identity = Identity::from_pem(read(certificate)?, read(key)?);
    let mut tls = ServerTlsConfig::new().identity(identity);
    if let Some(ca) = &options.client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(Some(tls))
}
