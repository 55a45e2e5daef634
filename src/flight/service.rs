//! The service: JSON is for minibatches, everything else for Flight SQL. What [`wire`](super::wire)
//! has answered does not come here.

use std::pin::Pin;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::Any;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::minibatches::MinibatchService;
use super::sql::SqlService;

/// Answers the calls that are left to it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) minibatches: MinibatchService,
    pub(super) sql: SqlService,
}

/// Whether what a client sends is a ticket of ours: protobuf does not begin so.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// What is neither a ticket of ours nor a message of Flight SQL gets a word about both.
fn check_sql(bytes: &[u8]) -> Result<(), Status> {
    match Any::decode(bytes) {
        Ok(message) if !message.type_url.is_empty() => Ok(()),
        _ => Err(Status::invalid_argument(
            "this is neither a ticket of minibatches, which is a JSON object, nor a message of Flight SQL",
        )),
    }
}

/// Whether a descriptor is of minibatches: an object's name, or a ticket.
fn is_ours(descriptor: &FlightDescriptor) -> bool {
    !descriptor.path.is_empty() || is_json(&descriptor.cmd)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        self.sql.handshake(request).await
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        let all = self.minibatches.list().await;
        Ok(Response::new(stream::iter(all.into_iter().map(Ok)).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        match is_ours(request.get_ref()) {
            true => {
                let info = self.minibatches.info(request.into_inner()).await?;
                Ok(Response::new(info))
            }
            false => {
                check_sql(&request.get_ref().cmd)?;
                self.sql.get_flight_info(request).await
            }
        }
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.sql.poll_flight_info(request).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        match is_ours(request.get_ref()) {
            true => {
                let schema = self.minibatches.schema(request.get_ref()).await?;
                Ok(Response::new(SchemaResult { schema }))
            }
            false => {
                check_sql(&request.get_ref().cmd)?;
                self.sql.get_schema(request).await
            }
        }
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        check_sql(&request.get_ref().ticket)?;
        self.sql.do_get(request).await
    }

    /// The parameters of prepared statements; nothing is written.
    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let answer = self.sql.do_put(request).await?;
        Ok(Response::new(answer.into_inner().boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let answer = self.sql.do_action(request).await?;
        Ok(Response::new(answer.into_inner().boxed()))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let answer = self.sql.list_actions(request).await?;
        Ok(Response::new(answer.into_inner().boxed()))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented("there is nothing to exchange"))
    }
}
