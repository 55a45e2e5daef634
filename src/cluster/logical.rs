//! Logical plans.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{GetExt, Result, TableReference};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{
    AggregateUDF, Extension, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF,
};
use datafusion_proto::logical_plan::{DefaultLogicalExtensionCodec, LogicalExtensionCodec};

use crate::cluster::message::{ShuffleMessage, TableMessage, external, read, write};
use crate::functions;
use crate::plan::merge::MergeTable;
use crate::plan::{ObjectFormatFactory, ShuffleTable};
use crate::table::AnnDataTable;

const TABLE: &[u8] = b"annfusion.table.1:";
const SHUFFLE: &[u8] = b"annfusion.shuffled.1:";
const MERGE: &[u8] = b"annfusion.merged.1:";
const FORMAT: &[u8] = b"annfusion.format.1.";

/// Sends tables of objects, merges of them, and the formats that write objects.
#[derive(Debug)]
pub struct AnnDataLogicalCodec {
    inner: Arc<dyn LogicalExtensionCodec>,
}

impl Default for AnnDataLogicalCodec {
    fn default() -> Self {
        Self::wrap(Arc::new(DefaultLogicalExtensionCodec {}))
    }
}

impl AnnDataLogicalCodec {
    /// Around a codec that gets what is not ours.
    pub fn wrap(inner: Arc<dyn LogicalExtensionCodec>) -> Self {
        Self { inner }
    }

    fn encode_shuffle(
        &self,
        shuffle: &ShuffleTable,
        table_ref: &TableReference,
    ) -> Result<ShuffleMessage> {
        let inputs = shuffle.inputs().iter().map(|input| {
            let mut bytes = Vec::new();
            self.try_encode_table_provider(table_ref, Arc::clone(input), &mut bytes)?;
            Ok(bytes)
        });
        Ok(ShuffleMessage {
            shuffle: serde_json::to_string(&shuffle.shuffle()).map_err(external)?,
            inputs: inputs.collect::<Result<_>>()?,
        })
    }

    fn decode_shuffle(
        &self,
        message: &ShuffleMessage,
        table_ref: &TableReference,
        schema: &SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        let inputs = message
            .inputs
            .iter()
            .map(|bytes| self.try_decode_table_provider(bytes, table_ref, Arc::clone(schema), ctx));
        let shuffle = serde_json::from_str(&message.shuffle).map_err(external)?;
        let table = ShuffleTable::try_new(inputs.collect::<Result<_>>()?, shuffle)?;
        Ok(Arc::new(table))
    }
}

impl LogicalExtensionCodec for AnnDataLogicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[LogicalPlan],
        ctx: &TaskContext,
    ) -> Result<Extension> {
        self.inner.try_decode(buf, inputs, ctx)
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode(node, buf)
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        table_ref: &TableReference,
        schema: SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        if let Some(bytes) = buf.strip_prefix(SHUFFLE) {
            return self.decode_shuffle(&read(bytes)?, table_ref, &schema, ctx);
        }
        if let Some(bytes) = buf.strip_prefix(MERGE) {
            let spec = serde_json::from_slice(bytes).map_err(external)?;
            return Ok(Arc::new(MergeTable::unopened(Arc::new(spec), schema)));
        }
        let Some(bytes) = buf.strip_prefix(TABLE) else {
            return self
                .inner
                .try_decode_table_provider(buf, table_ref, schema, ctx);
        };
        let message: TableMessage = read(bytes)?;
        let description = serde_json::from_str(&message.description).map_err(external)?;
        Ok(Arc::new(AnnDataTable::unopened(
            description,
            schema,
            message.n_rows,
            message.axis_len,
        )))
    }

    fn try_encode_table_provider(
        &self,
        table_ref: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(shuffle) = node.downcast_ref::<ShuffleTable>() {
            return write(SHUFFLE, &self.encode_shuffle(shuffle, table_ref)?, buf);
        }
        if let Some(merge) = node.downcast_ref::<MergeTable>() {
            buf.extend_from_slice(MERGE);
            return serde_json::to_writer(buf, merge.spec().as_ref()).map_err(external);
        }
        let Some(table) = node.downcast_ref::<AnnDataTable>() else {
            return self.inner.try_encode_table_provider(table_ref, node, buf);
        };
        let (n_rows, axis_len) = table.lengths();
        let message = TableMessage {
            description: serde_json::to_string(table.description()).map_err(external)?,
            n_rows,
            axis_len,
        };
        write(TABLE, &message, buf)
    }

    fn try_decode_file_format(
        &self,
        buf: &[u8],
        ctx: &TaskContext,
    ) -> Result<Arc<dyn FileFormatFactory>> {
        if let Some(ending) = buf.strip_prefix(FORMAT) {
            let mut all = ObjectFormatFactory::ALL.into_iter();
            if let Some(format) = all.find(|format| format.get_ext().as_bytes() == ending) {
                return Ok(Arc::new(format));
            }
        }
        self.inner.try_decode_file_format(buf, ctx)
    }

    fn try_encode_file_format(
        &self,
        buf: &mut Vec<u8>,
        node: Arc<dyn FileFormatFactory>,
    ) -> Result<()> {
        // Its options travel with the COPY statement.
        if let Some(format) = node.downcast_ref::<ObjectFormatFactory>() {
            buf.extend_from_slice(FORMAT);
            buf.extend_from_slice(format.get_ext().as_bytes());
            return Ok(());
        }
        self.inner.try_encode_file_format(buf, node)
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
