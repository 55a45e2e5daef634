//! Streams of minibatches straight onto the wire.
//!
//! gRPC's codec takes a message in one piece, into which buffers would be copied, and copies it into
//! another. Here a stream is written as HTTP/2 carries it (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), and a body's buffers
//! are pieces of the response as they are:
//!
//! ```text
//!  Message ──► [length, FlightData up to its body, header, small buffers] [buffer] [buffer] …
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::buffer::Buffer;
use arrow_flight::{FlightData, Ticket};
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use prost::Message as _;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::codegen::{Service, http};
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::access::Caller;
use super::encode::Message;
use super::minibatches::{MinibatchService, Stream};
use super::room::Share;
use super::service::is_json;

/// The call whose answers are streams.
const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
/// The header that says how requests are compressed; a refusal says what would be taken.
const ENCODING: &str = "grpc-encoding";
/// Bytes of a ticket at most, which is gRPC's default.
const MOST_TICKET: usize = 4 << 20;
/// How the body of a `FlightData` begins: as field 1000, whose length and bytes follow.
const BODY: [u8; 2] = [0xC2, 0x3E];
/// Buffers of fewer bytes are copied: each piece has a frame of its own.
const SMALL: usize = 8 << 10;

/// Answers tickets of minibatches, and leaves the other calls to `S`.
#[derive(Debug, Clone)]
pub(super) struct Wire<S> {
    others: S,
    minibatches: MinibatchService,
}

impl<S> Wire<S> {
    pub(super) fn new(others: S, minibatches: MinibatchService) -> Self {
        Self {
            others,
            minibatches,
        }
    }
}

impl<S: NamedService> NamedService for Wire<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Wire<S>
where
    S: Service<http::Request<Body>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.others.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let encoding = request.headers().get(ENCODING);
        let is_encoded = encoding.is_some_and(|encoding| encoding != "identity");
        if request.uri().path() != DO_GET || is_encoded {
            return self.others.call(request).boxed();
        }
        let minibatches = self.minibatches.clone();
        // What has been found ready is what is called.
        let clone = self.others.clone();
        let mut others = std::mem::replace(&mut self.others, clone);
        async move {
            let (head, body) = request.into_parts();
            let ticket = match ticket(body).await {
                Ok(ticket) => ticket,
                Err(status) => return Ok(status.into_http()),
            };
            if !is_json(&ticket.ticket) {
                let body = Body::new(Full::new(request_of(&ticket)));
                return others.call(http::Request::from_parts(head, body)).await;
            }
            let caller = Caller::of(&head.extensions);
            Ok(match minibatches.stream(&ticket.ticket, caller).await {
                Ok(stream) => answer(stream),
                Err(status) => status.into_http(),
            })
        }
        .boxed()
    }
}

/// The ticket that a request has.
async fn ticket(body: Body) -> Result<Ticket, Status> {
    let decoder = ProstCodec::<Ticket, Ticket>::default().decoder();
    let mut sent = Streaming::new_request(decoder, body, None, Some(MOST_TICKET));
    let ticket = sent.message().await?;
    ticket.ok_or_else(|| Status::internal("the request has no ticket"))
}

/// A request of a ticket.
fn request_of(ticket: &Ticket) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    // No longer than `MOST_TICKET`.
    bytes.put_u32(u32::try_from(ticket.encoded_len()).unwrap_or(u32::MAX));
    bytes.put_slice(&ticket.encode_to_vec());
    bytes.freeze()
}

/// A stream: its messages, and at its end how it ended.
fn answer(stream: Stream) -> Answer {
    let Stream { messages, share } = stream;
    let end = stream::once(async { Err(Status::new(Code::Ok, "")) });
    let frames = messages
        .chain(end)
        .scan(false, move |ended, message| {
            let in_pieces = |message: Message| pieces(&message, &share);
            let message = (!*ended).then(|| message.and_then(in_pieces));
            *ended = matches!(message, Some(Err(_)));
            std::future::ready(message)
        })
        .flat_map(|pieces| {
            let frames = match pieces {
                Ok(pieces) => pieces.into_iter().map(Frame::data).collect(),
                Err(status) => vec![Frame::trailers(trailers(&status))],
            };
            stream::iter(frames.into_iter().map(Ok::<_, Infallible>))
        });
    let mut answer = http::Response::new(Body::new(StreamBody::new(frames)));
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    answer
}

fn trailers(status: &Status) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    // What a message has that headers cannot hold is encoded.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// A message as gRPC sends it: whether it is compressed, its length, and a [`FlightData`]. Buffers keep
/// the stream's share: what waits in a connection for a client that does not read is memory, too.
fn pieces(message: &Message, share: &Arc<Share>) -> Result<Vec<Bytes>, Status> {
    let head = FlightData {
        flight_descriptor: None,
        data_header: message.header.clone(),
        app_metadata: message.metadata.clone(),
        data_body: Bytes::new(),
    };
    let body: usize = message.body.iter().map(Buffer::len).sum();
    let of_body = match body {
        0 => 0,
        _ => BODY.len() + prost::length_delimiter_len(body) + body,
    };
    // HTTP/2 takes no piece of 2 GiB, and protobuf no message of them.
    let n_bytes = i32::try_from(head.encoded_len() + of_body);
    let n_bytes = n_bytes
        .map_err(|_| Status::out_of_range(format!("a message of {body} bytes is too large")))?;
    let mut small = BytesMut::new();
    small.put_u8(0);
    small.put_i32(n_bytes);
    small.put_slice(&head.encode_to_vec());
    if body > 0 {
        small.put_slice(&BODY);
        prost::encode_length_delimiter(body, &mut small)
            .map_err(|e| Status::internal(e.to_string()))?;
    }
    let mut pieces = Vec::new();
    for buffer in &message.body {
        match buffer.len() < SMALL {
            true => small.put_slice(buffer),
            false => {
                pieces.extend((!small.is_empty()).then(|| small.split().freeze()));
                pieces.push(Bytes::from_owner(Owner {
                    buffer: buffer.clone(),
                    _share: Arc::clone(share),
                }));
            }
        }
    }
    pieces.extend((!small.is_empty()).then(|| small.freeze()));
    Ok(pieces)
}

/// Memory of Arrow that [`Bytes`] keep.
struct Owner {
    buffer: Buffer,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::room::Room;
    use super::*;

    fn room() -> Room {
        Room::new(1, 1, 1 << 20)
    }

    fn share(room: &Room) -> Arc<Share> {
        let place = room.place(Caller::Unknown).unwrap();
        Arc::new(room.share(place, 1).unwrap())
    }

    fn message(sizes: &[usize]) -> Message {
        Message {
            header: Bytes::from_static(b"header"),
            metadata: Bytes::from_static(b"{}"),
            body: sizes.iter().map(|n| Buffer::from(vec![7_u8; *n])).collect(),
        }
    }

    #[test]
    fn a_message_in_pieces_is_the_message_in_one() {
        let share = share(&room());
        for sizes in [&[] as &[_], &[10, 64, 3], &[9000, 10, 20_000, 8192, 5]] {
            let message = message(sizes);
            let large = sizes.iter().filter(|n| **n >= SMALL).count();
            let pieces = pieces(&message, &share).unwrap();
            assert!(pieces.len() <= 2 * large + 1);
            let bytes = pieces.concat();
            assert_eq!(bytes[0], 0);
            assert_eq!(
                bytes[1..5],
                u32::try_from(bytes.len() - 5).unwrap().to_be_bytes()
            );
            let decoded = FlightData::decode(&bytes[5..]).unwrap();
            assert_eq!(decoded, FlightData::from(message));
        }
    }

    /// Bytes of the pieces of a stream, and the trailers behind them, which are the last of it.
    async fn sent(messages: Vec<Result<Message, Status>>) -> (Vec<Bytes>, http::HeaderMap) {
        let share = share(&room());
        let messages = stream::iter(messages).boxed();
        let mut body = answer(Stream { messages, share }).into_body();
        let mut pieces = Vec::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            assert!(trailers.is_none(), "something follows the trailers");
            match frame.unwrap().into_data() {
                Ok(piece) => pieces.push(piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        (pieces, trailers.unwrap())
    }

    #[tokio::test]
    async fn a_stream_ends_with_how_it_ended() {
        let (pieces, trailers) = sent(vec![Ok(message(&[9000])), Ok(message(&[1]))]).await;
        assert_eq!(
            (pieces.len(), &trailers["grpc-status"]),
            (3, &"0".parse().unwrap())
        );
        let failed = Err(Status::data_loss("50% of \u{e9} are gone"));
        let (pieces, trailers) = sent(vec![Ok(message(&[1])), failed, Ok(message(&[1]))]).await;
        assert_eq!(
            (pieces.len(), &trailers["grpc-status"]),
            (1, &"15".parse().unwrap())
        );
        let said = trailers["grpc-message"].to_str().unwrap();
        assert_eq!(said, "50%25%20of%20%C3%A9%20are%20gone");
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_keeps_its_share() {
        let room = room();
        let share = share(&room);
        let messages = stream::iter([Ok(message(&[9000]))]).boxed();
        let mut body = answer(Stream { messages, share }).into_body();
        let mut waiting = Vec::new();
        while let Some(frame) = body.frame().await {
            waiting.extend(frame.unwrap().into_data());
        }
        drop(body);
        assert!(room.place(Caller::Unknown).is_err());
        waiting.clear();
        assert!(room.place(Caller::Unknown).is_ok());
    }
}
