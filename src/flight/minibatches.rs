//! Streams of minibatches.

use std::sync::Arc;

use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::encode::{Encoder, schema_bytes};
use super::objects::Objects;
use super::status::status;
use super::ticket::Ticket;
use crate::error::Result;
use crate::loader::{Loader, Minibatches};

/// What a permit stands for.
const UNIT: u64 = 1 << 20;

/// Answers tickets.
#[derive(Debug, Clone)]
pub(super) struct MinibatchService {
    objects: Arc<Objects>,
    room: Room,
}

/// What streams share: how many may run, and mebibytes of cells that they may hold.
#[derive(Debug, Clone)]
pub(super) struct Room {
    streams: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    most_streams: usize,
    all_memory: u32,
}

/// A stream's share, until it ends.
#[derive(Debug)]
pub(super) struct Share {
    _stream: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(streams: usize, memory: u64) -> Self {
        let units = u32::try_from(memory / UNIT).unwrap_or(u32::MAX).max(1);
        // Semaphores count to an eighth of the address space.
        let units = units.min(1 << 28);
        Self {
            streams: Arc::new(Semaphore::new(streams)),
            memory: Arc::new(Semaphore::new(units as usize)),
            most_streams: streams,
            all_memory: units,
        }
    }

    /// A place for a stream.
    pub(super) fn stream(&self) -> std::result::Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{} streams are running, and no more are allowed; try again later",
                self.most_streams
            ))
        })
    }

    /// A stream that holds so many bytes.
    fn share(&self, bytes: u64) -> std::result::Result<Share, Status> {
        let stream = self.stream()?;
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        if units > self.all_memory {
            return Err(Status::resource_exhausted(format!(
                "the windows and minibatches of this stream take about {bytes} bytes, and all streams \
                 together may hold {} MiB",
                self.all_memory
            )));
        }
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(units);
        let memory = memory.map_err(|_| {
            let reason = "streams that are running hold the memory; try again later";
            Status::resource_exhausted(reason)
        })?;
        Ok(Share {
            _stream: stream,
            _memory: memory,
        })
    }
}

/// Messages of a stream.
pub(super) type Messages = BoxStream<'static, std::result::Result<FlightData, Status>>;

impl MinibatchService {
    pub(super) fn new(objects: Arc<Objects>, room: Room) -> Self {
        Self { objects, room }
    }

    async fn open(&self, ticket: &Ticket) -> std::result::Result<Loader, Status> {
        let locations = self.objects.locations(&ticket.objects).map_err(status)?;
        Loader::open(&locations, ticket.options.clone())
            .await
            .map_err(status)
    }

    /// The minibatches of a ticket.
    pub(super) async fn stream(&self, ticket: &[u8]) -> std::result::Result<Messages, Status> {
        let ticket = Ticket::parse(ticket).map_err(status)?;
        // A place before the work of opening, and the memory once it is known.
        drop(self.room.stream()?);
        let loader = self.open(&ticket).await?;
        let share = self.room.share(loader.stream_bytes())?;
        let mut encoder = Encoder::new(Arc::clone(loader.schema()), ticket.message_bytes);
        let schema = encoder.schema();
        let state = Running {
            minibatches: loader.resume(&ticket.start()),
            encoder,
            _share: share,
        };
        let batches = stream::try_unfold(state, |mut state| async move {
            let messages = state.next().await.map_err(status)?;
            let messages = messages.map(|messages| stream::iter(messages.into_iter().map(Ok)));
            Ok::<_, Status>(messages.map(|messages| (messages, state)))
        });
        let messages = stream::once(async { Ok(schema) }).chain(batches.try_flatten());
        Ok(messages.boxed())
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
            let descriptor = FlightDescriptor::new_path(vec![name.to_owned()]);
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
    _share: Share,
}

impl Running {
    /// The messages of the next minibatch.
    async fn next(&mut self) -> Result<Option<Vec<FlightData>>> {
        let Some(minibatch) = self.minibatches.next().await.transpose()? else {
            return Ok(None);
        };
        let position = serde_json::to_value(self.minibatches.position()).unwrap_or_default();
        let metadata = |part: usize, last: bool| {
            let said = match last {
                true => {
                    json!({"minibatch": minibatch.number, "part": part, "last": last, "position": position})
                }
                false => json!({"minibatch": minibatch.number, "part": part, "last": last}),
            };
            Bytes::from(said.to_string())
        };
        self.encoder.batch(&minibatch.batch, metadata).map(Some)
    }
}

/// The ticket of a descriptor: its command, or that of the object its path names.
fn ticket_of(descriptor: &FlightDescriptor) -> Result<Ticket> {
    match descriptor.path.as_slice() {
        [name] => Ok(Ticket::new(name.as_str())),
        _ => Ticket::parse(&descriptor.cmd),
    }
}
