//! Flight SQL: statements, prepared or not, and what there is to ask.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
    CommandStatementQuery, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::{Request, Response, Status};

use super::access::Caller;
use super::encode::{Encoder, schema_bytes};
use super::metrics::Metrics;
use super::objects::Objects;
use super::prepared::{Prepared, placeholders};
use super::room::Room;
use super::status::status;
use super::ticket::MESSAGE;
use crate::error::{Error, Result};

type Rows = Pin<Box<dyn Stream<Item = std::result::Result<FlightData, Status>> + Send>>;
type Answer<T> = std::result::Result<Response<T>, Status>;

/// Answers SQL about the objects that are served. Writes nothing, opens nothing.
#[derive(Clone)]
pub(super) struct SqlService {
    objects: Arc<Objects>,
    room: Room,
    metrics: Metrics,
    info: Arc<SqlInfoData>,
}

impl fmt::Debug for SqlService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlService")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

impl SqlService {
    /// A service of these objects.
    ///
    /// # Errors
    /// Where Arrow refuses to build what is said of the server.
    pub(super) fn try_new(objects: Arc<Objects>, room: Room, metrics: Metrics) -> Result<Self> {
        let mut info = SqlInfoDataBuilder::new();
        info.append(SqlInfo::FlightSqlServerName, "annfusion");
        info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
        info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
        info.append(SqlInfo::FlightSqlServerReadOnly, true);
        let failed = |e: arrow_flight::error::FlightError| Error::store("flight", "sql info", e);
        let info = info.build().map_err(failed)?;
        Ok(Self {
            objects,
            room,
            metrics,
            info: Arc::new(info),
        })
    }

    fn context(&self) -> &SessionContext {
        self.objects.session.context()
    }

    /// Plans a query, and nothing but a query.
    async fn plan(
        &self,
        sql: &str,
    ) -> std::result::Result<datafusion::dataframe::DataFrame, Status> {
        self.objects.session.read_only(sql).await.map_err(status)
    }

    async fn run(&self, prepared: &Prepared, caller: Caller) -> Answer<Rows> {
        let place = self.room.place(caller)?;
        self.metrics.statement();
        let frame = prepared.bind(self.plan(prepared.sql()).await?)?;
        let batches = self.objects.session.stream(frame).await.map_err(status)?;
        let schema = batches.schema();
        let batches = batches.map_err(|e| status(e.into()));
        // The place is given back when the stream ends.
        let batches = batches.inspect(move |_| {
            let _held = &place;
        });
        messages(schema, batches.boxed())
    }
}

/// Batches as the messages of a stream.
fn messages(
    schema: SchemaRef,
    batches: BoxStream<'static, std::result::Result<RecordBatch, Status>>,
) -> Answer<Rows> {
    let mut encoder = Encoder::try_new(schema, MESSAGE).map_err(status)?;
    let first = encoder.schema();
    let rest = batches.map(move |batch| {
        let messages = encoder
            .batch(&batch?, |_, _| Bytes::new())
            .map_err(status)?;
        Ok::<_, Status>(stream::iter(messages.into_iter().map(Ok)))
    });
    let messages = stream::once(async { Ok(first) }).chain(rest.try_flatten());
    Ok(Response::new(Box::pin(messages.map_ok(FlightData::from))))
}

/// One batch as a stream.
fn one(batch: std::result::Result<RecordBatch, arrow_flight::error::FlightError>) -> Answer<Rows> {
    let batch = batch.map_err(Status::from)?;
    let schema = batch.schema();
    messages(schema, stream::once(async { Ok(batch) }).boxed())
}

/// The description of a stream that this command gives.
fn info(
    schema: &Schema,
    command: Vec<u8>,
    descriptor: Request<FlightDescriptor>,
) -> Answer<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|e| status(e.into()))?
        .with_endpoint(endpoint)
        .with_descriptor(descriptor.into_inner());
    Ok(Response::new(info))
}

#[tonic::async_trait]
impl FlightSqlService for SqlService {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let frame = self.plan(&query.query).await?;
        let ticket = TicketStatementQuery {
            statement_handle: query.query.into(),
        };
        info(
            frame.schema().as_arrow(),
            ticket.as_any().encode_to_vec(),
            request,
        )
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<Rows> {
        let caller = Caller::of(request.extensions());
        let statement = Prepared::of_handle(&ticket.statement_handle)?;
        self.run(&statement, caller).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> std::result::Result<ActionCreatePreparedStatementResult, Status> {
        let prepared = Prepared::new(&query.query)?;
        let frame = self.plan(prepared.sql()).await?;
        let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        let parameters: SchemaRef = Arc::new(Schema::new(placeholders(&frame)?));
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: prepared.handle()?,
            dataset_schema: schema_bytes(&schema).map_err(status)?,
            parameter_schema: schema_bytes(&parameters).map_err(status)?,
        })
    }

    /// The handle that it gives back has the values in it.
    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> std::result::Result<DoPutPreparedStatementResult, Status> {
        let prepared = Prepared::of_handle(&query.prepared_statement_handle)?;
        let prepared = prepared.with_parameters(request.into_inner()).await?;
        // Said now, and not when rows are asked for.
        prepared.bind(self.plan(prepared.sql()).await?)?;
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(prepared.handle()?),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> std::result::Result<(), Status> {
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let prepared = Prepared::of_handle(&query.prepared_statement_handle)?;
        let frame = prepared.bind(self.plan(prepared.sql()).await?)?;
        info(
            frame.schema().as_arrow(),
            query.as_any().encode_to_vec(),
            request,
        )
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<Rows> {
        let caller = Caller::of(request.extensions());
        let prepared = Prepared::of_handle(&query.prepared_statement_handle)?;
        self.run(&prepared, caller).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.into_builder().schema();
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Answer<Rows> {
        let mut builder = query.into_builder();
        for name in self.context().catalog_names() {
            builder.append(name);
        }
        one(builder.build())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.clone().into_builder().schema();
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Answer<Rows> {
        let mut builder = query.into_builder();
        for catalog in self.context().catalog_names() {
            let Some(schemas) = self.context().catalog(&catalog) else {
                continue;
            };
            for schema in schemas.schema_names() {
                builder.append(&catalog, schema);
            }
        }
        one(builder.build())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.clone().into_builder().schema();
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Answer<Rows> {
        let mut builder = query.into_builder();
        for catalog in self.context().catalog_names() {
            let Some(schemas) = self.context().catalog(&catalog) else {
                continue;
            };
            for schema in schemas.schema_names() {
                let Some(tables) = schemas.schema(&schema) else {
                    continue;
                };
                for table in tables.table_names() {
                    let found = tables.table(&table).await.map_err(|e| status(e.into()))?;
                    if let Some(found) = found {
                        let added =
                            builder.append(&catalog, &schema, &table, "TABLE", &found.schema());
                        added.map_err(Status::from)?;
                    }
                }
            }
        }
        one(builder.build())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.into_builder().schema();
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Answer<Rows> {
        let mut builder = query.into_builder();
        builder.append("TABLE");
        one(builder.build())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.clone().into_builder(&self.info).schema();
        info(&schema, query.as_any().encode_to_vec(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Answer<Rows> {
        one(query.into_builder(&self.info).build())
    }

    async fn do_get_fallback(
        &self,
        _: Request<Ticket>,
        message: Any,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        Err(Status::unimplemented(format!(
            "{} is not known here",
            message.type_url
        )))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
