//! The server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::access::Access;
use super::minibatches::{MinibatchService, Room};
use super::objects::Objects;
use super::service::Service;
use super::sql::SqlService;
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
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Streams of minibatches that may run at a time.
    pub streams: usize,
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
}

/// A server that listens.
#[derive(Debug)]
pub struct Served {
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
    access: Access,
    tls: Option<ServerTlsConfig>,
}

/// Opens what is to be served, and listens; [`Served::run`] answers.
///
/// # Errors
/// [`Error::InvalidOption`] and [`Error::Store`] for options and files that will not do; those of
/// opening the objects.
pub async fn serve(options: &ServeOptions) -> Result<Served> {
    if options.streams == 0 {
        return Err(Error::option("--streams", "one has to be allowed at least"));
    }
    let access = Access::of_file(options.tokens.as_deref())?;
    let tls = tls(options)?;
    // Sorts and groups of statements are in memory beside the streams.
    let sql = usize::try_from(options.memory / 4).unwrap_or(usize::MAX);
    let session = Session::builder().only_opened().memory_limit(sql).build()?;
    let objects = Objects::open(&options.objects, session).await?;
    let failed = |e| Error::store("network", options.listen.to_string(), e);
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let room = Room::new(options.streams, options.memory - options.memory / 4);
    Ok(Served {
        listener,
        address,
        service: Service {
            sql: SqlService::try_new(Arc::clone(&objects), room.clone())?,
            minibatches: MinibatchService::new(objects, room),
        },
        access,
        tls,
    })
}

impl Served {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is served, by name.
    pub fn names(&self) -> Vec<String> {
        self.service.sql.names()
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
        let flight = FlightServiceServer::new(self.service).max_encoding_message_size(usize::MAX);
        let flight = tonic::service::interceptor::InterceptedService::new(flight, self.access);
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
