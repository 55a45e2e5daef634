//! Streams of minibatches.

use std::sync::Arc;
use std::time::Instant;

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tonic::Status;

use super::access::Caller;
use super::encode::{Encoder, Message, schema_bytes};
use super::metrics::{Metrics, Outcome, Watch};
use super::objects::Objects;
use super::room::{Room, Share};
use super::status::status;
use super::ticket::Ticket;
use crate::error::Result;
use crate::loader::{Loader, Minibatches};

/// Answers tickets.
#[derive(Debug, Clone)]
pub(super) struct MinibatchService {
    objects: Arc<Objects>,
    room: Room,
    metrics: Metrics,
}

/// The messages of a ticket, and what they take.
pub(super) struct Stream {
    pub(super) messages: BoxStream<'static, std::result::Result<Message, Status>>,
    pub(super) share: Arc<Share>,
}

impl MinibatchService {
    pub(super) fn new(objects: Arc<Objects>, room: Room, metrics: Metrics) -> Self {
        Self {
            objects,
            room,
            metrics,
        }
    }

    async fn open(&self, ticket: &Ticket) -> std::result::Result<Loader, Status> {
        let locations = self.objects.locations(&ticket.objects).map_err(status)?;
        Loader::open(&locations, ticket.options.clone())
            .await
            .map_err(status)
    }

    /// The minibatches of a ticket.
    pub(super) async fn stream(
        &self,
        ticket: &[u8],
        caller: Caller,
    ) -> std::result::Result<Stream, Status> {
        let stream = self.begin(ticket, caller).await;
        stream.inspect_err(|status| {
            self.metrics.refused();
            tracing::info!(code = ?status.code(), reason = status.message(), "a stream is refused");
        })
    }

    async fn begin(&self, ticket: &[u8], caller: Caller) -> std::result::Result<Stream, Status> {
        let ticket = Ticket::parse(ticket).map_err(status)?;
        // A place before the work of opening, and the memory once it is known.
        let place = self.room.place(caller)?;
        let loader = self.open(&ticket).await?;
        let share = Arc::new(self.room.share(place, loader.stream_bytes())?);
        let encoder =
            Encoder::try_new(Arc::clone(loader.schema()), ticket.message_bytes).map_err(status)?;
        let schema = encoder.schema();
        tracing::info!(objects = ?ticket.objects, epoch = ticket.epoch, "a stream begins");
        let state = Running {
            minibatches: loader.resume(&ticket.start()),
            encoder,
            watch: self.metrics.stream(),
            _share: Arc::clone(&share),
        };
        let batches = stream::try_unfold(state, |mut state| async move {
            let messages = state.next().await.map_err(status)?;
            let messages = messages.map(|messages| stream::iter(messages.into_iter().map(Ok)));
            Ok::<_, Status>(messages.map(|messages| (messages, state)))
        });
        let messages = stream::once(async { Ok(schema) }).chain(batches.try_flatten());
        Ok(Stream {
            messages: messages.boxed(),
            share,
        })
    }

    /// The description of a stream: its schema, and an endpoint for each of its parts.
    pub(super) async fn info(
        &self,
        descriptor: FlightDescriptor,
    ) -> std::result::Result<FlightInfo, Status> {
        let ticket = ticket_of(&descriptor).map_err(status)?;
        let loader = self.open(&ticket).await?;
        let mut info = FlightInfo::new()
            .try_with_schema(loader.schema())
            .map_err(|e| status(e.into()))?
            .with_total_records(i64::try_from(loader.n_left(&ticket.start())).unwrap_or(-1))
            .with_ordered(true)
            .with_descriptor(descriptor);
        for part in ticket.parts() {
            let ticket = arrow_flight::Ticket::new(part.to_json());
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket));
        }
        Ok(info)
    }

    /// The schema of a stream.
    pub(super) async fn schema(
        &self,
        descriptor: &FlightDescriptor,
    ) -> std::result::Result<Bytes, Status> {
        let ticket = ticket_of(descriptor).map_err(status)?;
        schema_bytes(self.open(&ticket).await?.schema()).map_err(status)
    }

    /// What is served: a stream of each object, with the loader's defaults.
    pub(super) async fn list(&self) -> Vec<FlightInfo> {
        let mut all = Vec::new();
        for name in self.objects.names() {
            let descriptor = FlightDescriptor::new_path(vec![name]);
            // What cannot be loaded as it is (an object without X) is served by SQL alone.
            if let Ok(info) = self.info(descriptor).await {
                all.push(info);
            }
        }
        all
    }
}

/// A stream at work.
struct Running {
    minibatches: Minibatches,
    encoder: Encoder,
    watch: Watch,
    _share: Arc<Share>,
}

impl Running {
    /// The messages of the next minibatch.
    async fn next(&mut self) -> Result<Option<Vec<Message>>> {
        let messages = self.messages().await;
        match &messages {
            Ok(Some(_)) => {}
            Ok(None) => self.watch.ends(Outcome::Complete),
            Err(error) => {
                self.watch.ends(Outcome::Failed);
                tracing::error!(%error, "a stream ends");
            }
        }
        messages
    }

    async fn messages(&mut self) -> Result<Option<Vec<Message>>> {
        let begun = Instant::now();
        let Some(minibatch) = self.minibatches.next().await.transpose()? else {
            return Ok(None);
        };
        let waited = begun.elapsed();
        let position = serde_json::to_value(self.minibatches.position()).unwrap_or_default();
        let metadata = |part: usize, last: bool| {
            let said = match last {
                true => {
                    json!({"cells": minibatch.cells, "part": part, "last": last, "position": position})
                }
                false => json!({"cells": minibatch.cells, "part": part, "last": last}),
            };
            Bytes::from(said.to_string())
        };
        let messages = self.encoder.batch(&minibatch.batch, metadata)?;
        let bytes = messages.iter().map(|message| message.bytes() as u64).sum();
        let cells = minibatch.batch.num_rows() as u64;
        self.watch.minibatch(cells, bytes, waited);
        Ok(Some(messages))
    }
}

/// The ticket of a descriptor: its command, or that of the object its path names.
fn ticket_of(descriptor: &FlightDescriptor) -> Result<Ticket> {
    match descriptor.path.as_slice() {
        [name] => Ok(Ticket::new(name.as_str())),
        _ => Ticket::parse(&descriptor.cmd),
    }
}
