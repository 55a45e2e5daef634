//! A client of the server, for training in Rust.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_flight::Criteria;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::ticket::Ticket;
use crate::error::{Error, Result};
use crate::loader::{Minibatch, Position};
use crate::model::RowSelection;

/// Bytes of a message that are taken at most: a message holds a row at least, however long that is.
const LARGEST: usize = 1 << 30;
/// How long connecting may take, and a server that says nothing to show that it is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is spoken to.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// The bearer token that every call shows.
    pub token: Option<String>,
    /// The certificate (PEM) of who signs the server's; needed for `https`.
    pub ca: Option<PathBuf>,
    /// Certificate and key (PEM) of the client, for servers that want one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .finish()
    }
}

/// A connection to a server of minibatches; cheap to clone.
///
/// ```no_run
/// # async fn train() -> annfusion::Result<()> {
/// use annfusion::flight::{Client, ClientOptions, Ticket};
///
/// let client = Client::connect("http://127.0.0.1:50051", &ClientOptions::default()).await?;
/// let mut minibatches = client.minibatches(&Ticket::new("coll")).await?;
/// while let Some(minibatch) = minibatches.next().await.transpose()? {
///     println!("{} cells", minibatch.batch.num_rows());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    service: FlightServiceClient<Channel>,
    token: Option<AsciiMetadataValue>,
}

impl Client {
    /// Connects to a server at `http://host:port`, or `https://host:port` where it has TLS.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a URL or a token that is none; [`Error::Store`] where certificates
    /// cannot be read, or nobody answers.
    pub async fn connect(url: &str, options: &ClientOptions) -> Result<Self> {
        let bad = |reason: String| Error::option("url", reason);
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|e| bad(format!("'{url}' is none: {e}")))?;
        let mut endpoint = endpoint
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PATIENCE)
            .keep_alive_timeout(PATIENCE)
            .keep_alive_while_idle(true);
        let is_encrypted = url.starts_with("https:");
        if let Some(tls) = tls(options)? {
            if !is_encrypted {
                return Err(bad(format!("'{url}' takes no certificates; https:// does")));
            }
            let set = endpoint.tls_config(tls);
            endpoint = set.map_err(|e| failed(url, &e))?;
        } else if is_encrypted {
            return Err(bad(format!(
                "'{url}' needs the certificate of who signs the server's (ClientOptions::ca)"
            )));
        }
        let token = options.token.as_ref().map(|token| {
            let value = format!("Bearer {token}").parse::<AsciiMetadataValue>();
            let bad = |_| Error::option("token", "it has characters that no token has");
            let mut value = value.map_err(bad)?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let channel = tokio::time::timeout(PATIENCE, endpoint.connect()).await;
        let channel = channel.map_err(|_| Error::store("flight", url, "nobody answers"))?;
        let channel = channel.map_err(|e| failed(url, &e))?;
        Ok(Self {
            url: url.to_owned(),
            service: FlightServiceClient::new(channel).max_decoding_message_size(LARGEST),
            token: token.transpose()?,
        })
    }

    /// Names of the served objects that have minibatches.
    ///
    /// # Errors
    /// [`Error::Store`] where the server refuses or goes away.
    pub async fn names(&self) -> Result<Vec<String>> {
        let mut service = self.service.clone();
        let answer = service.list_flights(self.request(Criteria::default()));
        let answer = answer.await.map_err(|status| self.refused(&status))?;
        let flights: Vec<_> = answer
            .into_inner()
            .try_collect()
            .await
            .map_err(|status| self.refused(&status))?;
        let paths = flights.into_iter().filter_map(|f| f.flight_descriptor);
        Ok(paths.flat_map(|descriptor| descriptor.path).collect())
    }

    /// The minibatches of a ticket, which the server reads ahead.
    ///
    /// # Errors
    /// [`Error::Store`] where the server refuses the ticket, or goes away.
    pub async fn minibatches(&self, ticket: &Ticket) -> Result<Received> {
        let mut service = self.service.clone();
        let answer = service.do_get(self.request(arrow_flight::Ticket::new(ticket.to_json())));
        let answer = answer.await.map_err(|status| self.refused(&status))?;
        let messages = answer.into_inner().map_err(FlightError::from);
        let mut decoder = FlightDataDecoder::new(messages);
        let first = decoder.next().await.transpose();
        let first = first.map_err(|error| lost(&self.url, error))?;
        let Some(DecodedPayload::Schema(schema)) = first.map(|first| first.payload) else {
            return Err(broken(&self.url, "the stream does not begin with a schema"));
        };
        Ok(Received {
            url: self.url.clone(),
            decoder,
            schema,
            position: ticket.start(),
            parts: Vec::new(),
            has_ended: false,
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let headers = request.metadata_mut();
            headers.insert("authorization", token.clone());
        }
        request
    }

    fn refused(&self, status: &Status) -> Error {
        Error::store("flight", &self.url, said(status))
    }
}

/// Minibatches as they come from a server, in their order. Dropping this ends the stream.
#[derive(Debug)]
pub struct Received {
    url: String,
    decoder: FlightDataDecoder,
    schema: SchemaRef,
    position: Position,
    /// Of the minibatch that comes next, those that have come.
    parts: Vec<RecordBatch>,
    has_ended: bool,
}

/// What a server says of a message.
#[derive(Debug, Deserialize)]
struct Said {
    cells: RowSelection,
    last: bool,
    position: Option<Position>,
}

impl Received {
    /// The schema of minibatches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What of the epoch is done, with all that has been given out: another ticket with it goes on
    /// from here.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The next minibatch; [`None`] at the end. One that came in several messages is put together, which
    /// is a copy.
    ///
    /// # Errors
    /// [`Error::Store`] where the server fails or goes away; nothing comes after one.
    pub async fn next(&mut self) -> Option<Result<Minibatch>> {
        if self.has_ended {
            return None;
        }
        let next = self.receive().await.transpose();
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }

    async fn receive(&mut self) -> Result<Option<Minibatch>> {
        loop {
            // Who waits no longer loses nothing: what has come stays.
            let Some(message) = self.decoder.next().await else {
                return match self.parts.is_empty() {
                    true => Ok(None),
                    false => Err(broken(&self.url, "it ends within a minibatch")),
                };
            };
            let message = message.map_err(|error| lost(&self.url, error))?;
            let said = message.app_metadata();
            let DecodedPayload::RecordBatch(part) = message.payload else {
                continue;
            };
            self.parts.push(part);
            let said: Said = serde_json::from_slice(&said)
                .map_err(|e| broken(&self.url, &format!("a message's metadata: {e}")))?;
            if !said.last {
                continue;
            }
            let parts = std::mem::take(&mut self.parts);
            let rows: usize = parts.iter().map(RecordBatch::num_rows).sum();
            // What fills a minibatch up counts once.
            if (rows as u64) < said.cells.len() {
                let reason = format!("{rows} rows of {} cells", said.cells.len());
                return Err(broken(&self.url, &reason));
            }
            if let Some(position) = said.position {
                self.position = position;
            }
            return Ok(Some(Minibatch {
                cells: said.cells,
                batch: match parts.as_slice() {
                    [only] => only.clone(),
                    parts => concat_batches(&self.schema, parts)?,
                },
            }));
        }
    }
}

fn tls(options: &ClientOptions) -> Result<Option<ClientTlsConfig>> {
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        std::fs::read(path).map_err(|e| Error::store("tls", name, e))
    };
    let Some(ca) = &options.ca else {
        return match options.identity {
            Some(_) => Err(Error::option("identity", "it goes with a ca")),
            None => Ok(None),
        };
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    Ok(Some(match &options.identity {
        Some((certificate, key)) => {
            tls.identity(Identity::from_pem(read(certificate)?, read(key)?))
        }
        None => tls,
    }))
}

/// A connection that does not come about, with what is underneath: tonic says "transport error".
fn failed(url: &str, error: &tonic::transport::Error) -> Error {
    let mut reason = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        reason = format!("{reason}: {error}");
        below = error.source();
    }
    Error::store("flight", url, reason)
}

/// A status in words.
fn said(status: &Status) -> String {
    format!("{} ({})", status.message(), status.code())
}

fn lost(url: &str, error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => Error::store("flight", url, said(&status)),
        FlightError::Arrow(error) => Error::Arrow(error),
        other => broken(url, &other.to_string()),
    }
}

fn broken(url: &str, reason: &str) -> Error {
    Error::store("flight", url, format!("the stream is broken: {reason}"))
}
