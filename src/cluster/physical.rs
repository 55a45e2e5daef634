//! Physical plans.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    DefaultPhysicalExtensionCodec, PhysicalExtensionCodec, PhysicalPlanDecodeContext,
    PhysicalProtoConverterExtension,
};

use crate::cluster::message::{GroupMessage, ProjectedMessage, ScanMessage, external, read, write};
use crate::cluster::nodes;
use crate::functions;
use crate::table::{AnnDataSource, ScanDescription, scan_config};

const SCAN: &[u8] = b"annfusion.scan.1:";

/// Sends scans of objects and the nodes of [`crate::plan`].
#[derive(Debug)]
pub struct AnnDataPhysicalCodec {
    inner: Arc<dyn PhysicalExtensionCodec>,
}

impl Default for AnnDataPhysicalCodec {
    fn default() -> Self {
        Self::wrap(Arc::new(DefaultPhysicalExtensionCodec {}))
    }
}

impl AnnDataPhysicalCodec {
    /// Around a codec that gets what is not ours.
    pub fn wrap(inner: Arc<dyn PhysicalExtensionCodec>) -> Self {
        Self { inner }
    }

    fn encode_scan(
        &self,
        config: &FileScanConfig,
        source: &AnnDataSource,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<ScanMessage> {
        let encode = |expr: &Arc<dyn PhysicalExpr>| converter.physical_expr_to_proto(expr, self);
        let projection = source.projection_exprs().iter().map(|projected| {
            Ok(ProjectedMessage {
                expr: Some(encode(&projected.expr)?),
                alias: projected.alias.clone(),
            })
        });
        let groups = config.file_groups.iter();
        let n_rows = config.statistics().num_rows.get_value().copied();
        Ok(ScanMessage {
            description: serde_json::to_string(source.description()).map_err(external)?,
            schema: Some(config.file_schema().as_ref().try_into()?),
            conjuncts: source
                .conjuncts()
                .iter()
                .map(encode)
                .collect::<Result<_>>()?,
            projection: projection.collect::<Result<_>>()?,
            groups: groups
                .map(|g| GroupMessage::new(g.files().iter().map(|f| f.range())))
                .collect(),
            n_rows: n_rows.and_then(|n| u64::try_from(n).ok()),
            limit: config.limit.and_then(|n| u64::try_from(n).ok()),
        })
    }

    fn decode_scan(
        &self,
        message: &ScanMessage,
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let missing = |what: &str| exec_datafusion_err!("a scan came without its {what}");
        let description: ScanDescription =
            serde_json::from_str(&message.description).map_err(external)?;
        let schema = message.schema.as_ref().ok_or_else(|| missing("schema"))?;
        let schema = Arc::new(Schema::try_from(schema)?);
        let decoding = PhysicalPlanDecodeContext::new(context, self);
        let decode = |expr| converter.proto_to_physical_expr(expr, &schema, &decoding);
        let projection = message.projection.iter().map(|projected| {
            let expr = projected
                .expr
                .as_ref()
                .ok_or_else(|| missing("expression"))?;
            Ok(ProjectionExpr::new(decode(expr)?, projected.alias.clone()))
        });
        let projection = ProjectionExprs::new(projection.collect::<Result<Vec<_>>>()?);
        let conjuncts = message
            .conjuncts
            .iter()
            .map(decode)
            .collect::<Result<Vec<_>>>()?;
        let source = AnnDataSource::new(
            Arc::new(description),
            TableSchema::from(Arc::clone(&schema)),
        )
        .with_projection(projection)
        .with_conjuncts(conjuncts);
        let groups: Vec<_> = message.groups.iter().map(GroupMessage::ranges).collect();
        let limit = message.limit.and_then(|n| usize::try_from(n).ok());
        let config = scan_config(source, &groups, message.n_rows, limit)?;
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl PhysicalExtensionCodec for AnnDataPhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(bytes) = buf.strip_prefix(SCAN) {
            return self.decode_scan(&read(bytes)?, ctx, proto_converter);
        }
        if let Some(node) = nodes::decode(buf, inputs)? {
            return Ok(node);
        }
        self.inner.try_decode(buf, inputs, ctx, proto_converter)
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let leaf = node.downcast_ref::<DataSourceExec>();
        if let Some((config, source)) =
            leaf.and_then(DataSourceExec::downcast_to_file_source::<AnnDataSource>)
        {
            return write(
                SCAN,
                &self.encode_scan(config, source, proto_converter)?,
                buf,
            );
        }
        if nodes::encode(&node, buf)? {
            return Ok(());
        }
        self.inner.try_encode(node, buf, proto_converter)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        match functions::by_name(name) {
            Some(function) => Ok(function),
            None => self.inner.try_decode_udf(name, buf),
        }
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        match functions::by_name(node.name()) {
            Some(_) => Ok(()),
            None => self.inner.try_encode_udf(node, buf),
        }
    }

    fn try_decode_higher_order_function(
        &self,
        name: &str,
        buf: &[u8],
    ) -> Result<Arc<HigherOrderUDF>> {
        self.inner.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_higher_order_function(
        &self,
        node: &HigherOrderUDF,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        self.inner.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        ctx: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.inner.try_decode_expr(buf, inputs, ctx)
    }

    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        ctx: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        self.inner.try_encode_expr(node, buf, ctx)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}
