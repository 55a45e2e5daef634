//! The nodes of [`crate::plan`]: what writes, and what a write needs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::physical_plan::ExecutionPlan;

use crate::cluster::message::external;
use crate::cluster::message::{MergeMessage, read, write};
use crate::plan::merge::MergeExec;
use crate::plan::{AttachColumnExec, InOrderExec, MatrixFormExec, ShuffleExec, WriteExec};

const WRITE: &[u8] = b"annfusion.write.1:";
const SHUFFLE: &[u8] = b"annfusion.shuffle.1:";
const ATTACH: &[u8] = b"annfusion.attach.1:";
const IN_ORDER: &[u8] = b"annfusion.in_order.1:";
const FORM: &[u8] = b"annfusion.form.1:";
const MERGE: &[u8] = b"annfusion.merge.1:";

/// Writes a node, tag first; false where it is not one of ours.
pub(super) fn encode(node: &Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>) -> Result<bool> {
    if let Some(write) = node.downcast_ref::<WriteExec>() {
        buf.extend_from_slice(WRITE);
        serde_json::to_writer(buf, write.spec().as_ref()).map_err(external)?;
        return Ok(true);
    }
    if let Some(shuffle) = node.downcast_ref::<ShuffleExec>() {
        buf.extend_from_slice(SHUFFLE);
        serde_json::to_writer(buf, shuffle.spec().as_ref()).map_err(external)?;
        return Ok(true);
    }
    if let Some(attach) = node.downcast_ref::<AttachColumnExec>() {
        buf.extend_from_slice(ATTACH);
        let schema = Arc::new(Schema::new(vec![Arc::clone(attach.field())]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(attach.values())])?;
        let mut stream = StreamWriter::try_new(buf, &schema)?;
        stream.write(&batch)?;
        stream.finish()?;
        return Ok(true);
    }
    if let Some(form) = node.downcast_ref::<MatrixFormExec>() {
        buf.extend_from_slice(FORM);
        serde_json::to_writer(buf, form.columns()).map_err(external)?;
        return Ok(true);
    }
    if node.is::<InOrderExec>() {
        buf.extend_from_slice(IN_ORDER);
        return Ok(true);
    }
    if let Some(merge) = node.downcast_ref::<MergeExec>() {
        let message = MergeMessage {
            spec: serde_json::to_string(merge.spec().as_ref()).map_err(external)?,
            schema: Some(merge.schema().as_ref().try_into()?),
            output: serde_json::to_string(merge.output()).map_err(external)?,
        };
        write(MERGE, &message, buf)?;
        return Ok(true);
    }
    Ok(false)
}

/// Reads a node over its inputs; [`None`] where the bytes do not begin with a tag of ours.
///
/// Plans that were sent have been planned, and may be cut into tasks: nodes say what they take whole.
pub(super) fn decode(
    bytes: &[u8],
    inputs: &[Arc<dyn ExecutionPlan>],
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(bytes) = bytes.strip_prefix(WRITE) {
        let spec = serde_json::from_slice(bytes).map_err(external)?;
        let node = WriteExec::try_new(only(inputs)?, Arc::new(spec))?;
        return Ok(Some(Arc::new(node.with_whole_input())));
    }
    if let Some(bytes) = bytes.strip_prefix(SHUFFLE) {
        let spec = serde_json::from_slice(bytes).map_err(external)?;
        let node = ShuffleExec::new(only(inputs)?, Arc::new(spec));
        return Ok(Some(Arc::new(node)));
    }
    if let Some(bytes) = bytes.strip_prefix(ATTACH) {
        let batch = StreamReader::try_new(bytes, None)?
            .next()
            .ok_or_else(|| exec_datafusion_err!("a column to attach came without values"))??;
        let schema = batch.schema();
        let field = Arc::clone(&schema.fields()[0]);
        let node = AttachColumnExec::try_new(only(inputs)?, field, Arc::clone(batch.column(0)))?;
        return Ok(Some(Arc::new(node)));
    }
    if let Some(bytes) = bytes.strip_prefix(FORM) {
        let columns = serde_json::from_slice(bytes).map_err(external)?;
        let node = MatrixFormExec::try_new(only(inputs)?, columns)?;
        return Ok(Some(Arc::new(node)));
    }
    if bytes.starts_with(IN_ORDER) {
        return Ok(Some(Arc::new(
            InOrderExec::new(only(inputs)?).with_whole_input(),
        )));
    }
    if let Some(bytes) = bytes.strip_prefix(MERGE) {
        let message: MergeMessage = read(bytes)?;
        let missing = || exec_datafusion_err!("a merge came without its schema");
        let schema = Schema::try_from(message.schema.as_ref().ok_or_else(missing)?)?;
        let spec = serde_json::from_str(&message.spec).map_err(external)?;
        let output = serde_json::from_str(&message.output).map_err(external)?;
        let schema = Arc::new(schema);
        let node = MergeExec::described(Arc::new(spec), output, schema, inputs.to_vec());
        return Ok(Some(Arc::new(node)));
    }
    Ok(None)
}

fn only(inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    match inputs {
        [input] => Ok(Arc::clone(input)),
        _ => exec_err!("a node with one input came with {}", inputs.len()),
    }
}
