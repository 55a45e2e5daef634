//! What fields name by an id, in a form that leaves the process with them.
//!
//! Fields of matrices name their genes, fields of categoricals their categories; registries of the
//! process know what the names mean. A file of rows takes along what is behind them, as keys of its
//! metadata: `annfusion.var.<id>` (of `raw_X` `annfusion.raw_var.<id>`), the data frame of the genes,
//! and `annfusion.categories.<id>`, each an Arrow IPC stream in base64.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_empty_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::StreamWriter;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::error::{Error, Result};
use crate::model::{AxisRegistry, CategoryRegistry, FieldMeta, FrameRegistry, VarAxis};
use crate::sink::{Sources, frame_of_genes};

/// Bytes of one frame or set of categories that are taken along: readers of the file's schema read
/// them, too.
const MOST: usize = 64 << 20;

/// What a file of rows takes along.
#[derive(Debug, Default)]
pub(crate) struct Luggage {
    /// Keys of the file's metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    /// What stays behind, and why.
    pub(crate) warnings: Vec<String>,
}

/// Packs what the fields of a schema name. `sources` are what the rows may come from.
///
/// # Errors
/// Those of opening objects and reading their `var`.
pub(crate) async fn pack(schema: &Schema, sources: &Sources) -> Result<Luggage> {
    let mut luggage = Luggage::default();
    for field in schema.fields() {
        let meta = FieldMeta::of(field);
        if let Some(id) = &meta.categories {
            luggage.categories(id)?;
        }
        if let Some(id) = &meta.axis {
            luggage
                .genes(field, id, meta.var.as_deref(), sources)
                .await?;
        }
        if let DataType::Struct(members) = field.data_type() {
            for member in members {
                if let Some(id) = FieldMeta::of(member).categories {
                    luggage.categories(&id)?;
                }
            }
        }
    }
    Ok(luggage)
}

impl Luggage {
    fn categories(&mut self, id: &str) -> Result<()> {
        let key = format!("annfusion.categories.{id}");
        if self.metadata.contains_key(&key) {
            return Ok(());
        }
        let Some(values) = CategoryRegistry::global().get(id) else {
            return Ok(());
        };
        let field = Field::new("categories", values.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![values])?;
        self.put(key, &batch, "categories: a set of them")
    }

    async fn genes(
        &mut self,
        field: &Field,
        id: &str,
        frame: Option<&str>,
        sources: &Sources,
    ) -> Result<()> {
        let raw = field.name() == "raw_X";
        let key = frame_key(raw, id);
        if self.metadata.contains_key(&key) {
            return Ok(());
        }
        let Some(axis) = AxisRegistry::global().get(id) else {
            return Ok(());
        };
        let kept = frame.and_then(|id| FrameRegistry::global().get(id));
        let kept = kept.filter(|frame| names(frame).is_ok_and(|names| names == *axis.names()));
        let batch = match kept {
            Some(frame) => frame.as_ref().clone(),
            None => match frame_of_genes(&axis, raw, sources).await? {
                Some(frame) => frame,
                None => only_names(axis.names())?,
            },
        };
        let what = if raw { "raw/var" } else { "var" };
        let before = self.warnings.len();
        self.put(key.clone(), &batch, what)?;
        if self.warnings.len() > before {
            self.put(key, &only_names(axis.names())?, "var_names")?;
        }
        Ok(())
    }

    fn put(&mut self, key: String, batch: &RecordBatch, what: &str) -> Result<()> {
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        stream.write(batch)?;
        let bytes = stream.into_inner()?;
        match bytes.len() {
            0..=MOST => {
                self.metadata.insert(key, BASE64_STANDARD.encode(bytes));
            }
            len => self.warnings.push(format!(
                "{what}: not written, its {len} bytes are more than the {MOST} that a file of rows takes along"
            )),
        }
        Ok(())
    }
}

fn frame_key(raw: bool, id: &str) -> String {
    match raw {
        true => format!("annfusion.raw_var.{id}"),
        false => format!("annfusion.var.{id}"),
    }
}

fn only_names(names: &StringArray) -> Result<RecordBatch> {
    let index = Field::new("var_names", DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![index]));
    Ok(RecordBatch::try_new(schema, vec![Arc::new(names.clone())])?)
}

/// Gives registries what a schema's metadata holds, and fields the ids under which they have it;
/// the metadata is gone from the schema then.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] that names the file and a key whose value is not what was packed.
pub(super) fn unpack(schema: &Schema, file: &str) -> Result<Schema> {
    let mut unpacking = Unpacking {
        file,
        metadata: schema.metadata(),
        done: HashMap::new(),
    };
    let fields = schema.fields().iter();
    let fields: Fields = fields
        .map(|field| unpacking.field(field))
        .collect::<Result<_>>()?;
    let metadata = schema.metadata().iter();
    let left = metadata.filter(|(key, _)| !key.starts_with("annfusion."));
    let left = left.map(|(key, value)| (key.clone(), value.clone()));
    Ok(Schema::new_with_metadata(fields, left.collect()))
}

struct Unpacking<'a> {
    file: &'a str,
    metadata: &'a HashMap<String, String>,
    /// Ids of what was registered, by key.
    done: HashMap<String, (String, String)>,
}

impl Unpacking<'_> {
    fn field(&mut self, field: &FieldRef) -> Result<FieldRef> {
        let mut meta = FieldMeta::of(field);
        let before = meta.clone();
        if let Some(id) = &meta.categories {
            meta.categories = self.categories(id)?;
        }
        if let Some(id) = &meta.axis
            && let Some((axis, frame)) = self.genes(field.name() == "raw_X", id)?
        {
            (meta.axis, meta.var) = (Some(axis), Some(frame));
        }
        let mut field = field.as_ref().clone();
        if let DataType::Struct(members) = field.data_type() {
            let members = members.iter().map(|member| self.field(member));
            let members: Fields = members.collect::<Result<_>>()?;
            field = field.with_data_type(DataType::Struct(members));
        }
        Ok(Arc::new(match meta == before {
            true => field,
            false => meta.apply(field),
        }))
    }

    fn categories(&mut self, id: &str) -> Result<Option<String>> {
        let key = format!("annfusion.categories.{id}");
        if let Some((id, _)) = self.done.get(&key) {
            return Ok(Some(id.clone()));
        }
        let Some((batch, _)) = self.batch(&key)? else {
            return Ok(None);
        };
        let id = CategoryRegistry::global().register(&own(batch.column(0))?);
        self.done.insert(key, (id.clone(), String::new()));
        Ok(Some(id))
    }

    fn genes(&mut self, raw: bool, id: &str) -> Result<Option<(String, String)>> {
        let key = frame_key(raw, id);
        if let Some(ids) = self.done.get(&key) {
            return Ok(Some(ids.clone()));
        }
        let Some((batch, bytes)) = self.batch(&key)? else {
            return Ok(None);
        };
        let batch = with_categories(&batch)?;
        let names = names(&batch).map_err(|reason| self.broken(&key, reason))?;
        let axis = AxisRegistry::global().register(Arc::new(VarAxis::new(names, None, None)));
        let frame = FrameRegistry::global().register(batch, &bytes);
        let ids = (axis.id().to_owned(), frame);
        self.done.insert(key, ids.clone());
        Ok(Some(ids))
    }

    /// The one batch behind a key, and its bytes.
    fn batch(&self, key: &str) -> Result<Option<(RecordBatch, Vec<u8>)>> {
        let Some(text) = self.metadata.get(key) else {
            return Ok(None);
        };
        if text.len() / 4 * 3 > MOST + 3 {
            return Err(self.broken(key, format!("{} characters", text.len())));
        }
        let bytes = BASE64_STANDARD
            .decode(text)
            .map_err(|e| self.broken(key, e.to_string()))?;
        let batch = first_batch(&bytes).map_err(|reason| self.broken(key, reason))?;
        match batch.filter(|batch| batch.num_columns() > 0) {
            Some(batch) => Ok(Some((batch, bytes))),
            None => Err(self.broken(key, "it is empty".to_owned())),
        }
    }

    fn broken(&self, key: &str, reason: String) -> Error {
        Error::IncompatibleSchemas(format!(
            "{}: metadata {key} is not what was written there: {reason}",
            self.file
        ))
    }
}

/// The first batch of an IPC stream, or why there is none: the bytes are a file's, which may say
/// anything.
fn first_batch(bytes: &[u8]) -> std::result::Result<Option<RecordBatch>, String> {
    check_lengths(bytes)?;
    let parse = || {
        let mut stream = StreamReader::try_new(Cursor::new(bytes), None)?;
        stream.next().transpose()
    };
    match catch_unwind(parse) {
        Ok(batch) => batch.map_err(|error: ArrowError| error.to_string()),
        Err(_) => Err("the reader gave up on these bytes".to_owned()),
    }
}

/// Whether the messages of an IPC stream are within its bytes and take no more room than those: the
/// reader reserves what they claim. The layout is that of Arrow's "encapsulated message format".
fn check_lengths(bytes: &[u8]) -> std::result::Result<(), String> {
    const CONTINUATION: [u8; 4] = [0xff; 4];
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = |rest: &[u8]| format!("a message ends {} bytes before its end", rest.len());
        let (head, behind) = rest.split_at_checked(8).ok_or_else(|| cut(rest))?;
        if head[..4] != CONTINUATION {
            return Err("a message does not begin as one".to_owned());
        }
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if length == 0 {
            return Ok(());
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (message, body) = behind.split_at_checked(length).ok_or_else(|| cut(rest))?;
        let message = root_as_message(message).map_err(|error| error.to_string())?;
        let dictionary = message.header_as_dictionary_batch();
        let batch = dictionary.and_then(|dictionary| dictionary.data());
        let batch = batch.or_else(|| message.header_as_record_batch());
        if batch.is_some_and(|batch| batch.compression().is_some()) {
            return Err("it is compressed".to_owned());
        }
        let claimed = usize::try_from(message.bodyLength()).ok();
        rest = claimed
            .and_then(|claimed| body.get(claimed..))
            .ok_or_else(|| {
                let claimed = message.bodyLength();
                format!(
                    "a body of {claimed} bytes is claimed where {} are",
                    body.len()
                )
            })?;
    }
    Ok(())
}

/// The names of a frame of genes.
fn names(frame: &RecordBatch) -> std::result::Result<StringArray, String> {
    let names = frame.column(0);
    match cast(names, &DataType::Utf8) {
        Ok(names) if names.null_count() == 0 => Ok(names.as_string::<i32>().clone()),
        Ok(names) => Err(format!("{} of its names are null", names.null_count())),
        Err(error) => Err(error.to_string()),
    }
}

/// The frame with its categories registered under ids of this process.
fn with_categories(frame: &RecordBatch) -> Result<RecordBatch> {
    let schema = frame.schema();
    let mut fields = Vec::with_capacity(frame.num_columns());
    for (field, values) in schema.fields().iter().zip(frame.columns()) {
        let mut meta = FieldMeta::of(field);
        if let (Some(_), Some(dictionary)) = (&meta.categories, values.as_any_dictionary_opt()) {
            let id = CategoryRegistry::global().register(&own(dictionary.values())?);
            meta.categories = Some(id);
        }
        fields.push(meta.apply(field.as_ref().clone()));
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        frame.columns().to_vec(),
    )?)
}

/// Values in buffers of their own, as readers of objects have them: ids are hashes of buffers.
fn own(values: &ArrayRef) -> Result<ArrayRef> {
    let none = new_empty_array(values.data_type());
    Ok(concat(&[values.as_ref(), none.as_ref()])?)
}
