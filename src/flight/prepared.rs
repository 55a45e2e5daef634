//! Prepared statements: all there is of one is in its handle, so that no state is held for it, and
//! any server of the same objects takes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::root_as_message;
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_batches;
use bytes::Bytes;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use futures::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::status::status;

/// Bytes of parameters at most: they travel with every request of their statement.
const MOST_BYTES: usize = 1 << 20;
/// Letters of the name of a type at most.
const LONGEST_TYPE: usize = 64;

type Answer<T> = Result<T, Status>;

/// A statement, and the values of its placeholders where they are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    sql: String,
    values: Option<Vec<Value>>,
}

/// A value as text, which handles are made of: Arrow's own readers take what is in its streams for
/// true, and a handle comes from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    /// The Arrow type, by its name.
    of: String,
    text: Option<String>,
}

impl Prepared {
    /// A statement whose placeholders have no values yet.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for placeholders of both kinds.
    pub(super) fn new(sql: &str) -> Answer<Self> {
        Ok(Self {
            sql: numbered(sql)?,
            values: None,
        })
    }

    /// The statement that a handle is of: its text, or a JSON object where there are values.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for bytes that no server gave out.
    pub(super) fn of_handle(handle: &Bytes) -> Answer<Self> {
        let bad = |reason: String| Status::invalid_argument(format!("no handle: {reason}"));
        let text = std::str::from_utf8(handle).map_err(|e| bad(e.to_string()))?;
        match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|e| bad(e.to_string())),
            false => Self::new(text),
        }
    }

    /// Its handle.
    ///
    /// # Errors
    /// `INTERNAL` where it cannot be written.
    pub(super) fn handle(&self) -> Answer<Bytes> {
        match &self.values {
            None => Ok(Bytes::from(self.sql.clone())),
            Some(_) => serde_json::to_vec(self)
                .map(Bytes::from)
                .map_err(|e| Status::internal(e.to_string())),
        }
    }

    /// The same with the values that a client sends, which must be one row.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for anything else, `RESOURCE_EXHAUSTED` beyond a mebibyte.
    pub(super) async fn with_parameters(
        self,
        mut messages: impl Stream<Item = Answer<FlightData>> + Unpin,
    ) -> Answer<Self> {
        let (mut all, mut bytes) = (Vec::new(), 0usize);
        while let Some(message) = messages.try_next().await? {
            bytes += message.data_header.len() + message.data_body.len() + 1;
            if bytes > MOST_BYTES {
                let reason = format!("parameters of more than {MOST_BYTES} bytes");
                return Err(Status::resource_exhausted(reason));
            }
            if is_compressed(&message) {
                let reason = "parameters are not to be compressed";
                return Err(Status::invalid_argument(reason));
            }
            all.push(message);
        }
        // Arrow's reader is not sure to return where lengths lie.
        let read = catch_unwind(AssertUnwindSafe(|| flight_data_to_batches(&all)));
        let batches = read.map_err(|_| Status::invalid_argument("this is no Arrow data"))?;
        let batches = batches.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let batch = batches.into_iter().find(|batch| batch.num_rows() == 1);
        match batch.filter(|_| n_rows == 1) {
            Some(batch) => {
                let values = batch.columns().iter().map(Value::of);
                Ok(Self {
                    values: Some(values.collect::<Answer<_>>()?),
                    ..self
                })
            }
            None => Err(Status::invalid_argument(format!(
                "{n_rows} rows of parameters; a statement takes one at a time"
            ))),
        }
    }

    /// Its text, with numbers for placeholders.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// The planned statement with the values in their places.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where there are more or fewer values than placeholders.
    pub(super) fn bind(&self, frame: DataFrame) -> Answer<DataFrame> {
        let names = placeholders(&frame)?;
        let values = self.values.as_deref().unwrap_or_default();
        if names.len() != values.len() {
            return Err(Status::invalid_argument(format!(
                "{} values for {} placeholders",
                values.len(),
                names.len()
            )));
        }
        if values.is_empty() {
            return Ok(frame);
        }
        let values = values.iter().map(Value::scalar);
        let values = values.collect::<Answer<Vec<_>>>()?;
        let bound = frame.with_param_values(ParamValues::from(values));
        bound.map_err(|e| status(e.into()))
    }
}

impl Value {
    /// The only value of a column.
    fn of(column: &ArrayRef) -> Answer<Self> {
        check(column.data_type())?;
        let of = column.data_type().to_string();
        let text = cast(column, &DataType::Utf8)?;
        let text = text.as_string_opt::<i32>().filter(|text| text.is_valid(0));
        Ok(Self {
            of,
            text: text.map(|text| text.value(0).to_owned()),
        })
    }

    fn scalar(&self) -> Answer<ScalarValue> {
        let bad = || Status::invalid_argument("a value has no type that is known here");
        // Types inside of types are parsed without end.
        if self.of.len() > LONGEST_TYPE || self.of.matches('(').count() > 2 {
            return Err(bad());
        }
        let to: DataType = self.of.parse().map_err(|_| bad())?;
        check(&to)?;
        let column = match &self.text {
            Some(text) => cast(
                &(Arc::new(StringArray::from(vec![text.as_str()])) as _),
                &to,
            )?,
            None => new_null_array(&to, 1),
        };
        ScalarValue::try_from_array(&column, 0).map_err(|e| status(e.into()))
    }
}

/// Whether a value of a type takes no more than its text.
fn check(data_type: &DataType) -> Answer<()> {
    let is_flat = !data_type.is_nested()
        && !matches!(
            data_type,
            DataType::Dictionary(..) | DataType::FixedSizeBinary(_)
        );
    match is_flat {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "a value of type {data_type} cannot be a parameter"
        ))),
    }
}

/// Whether a message has compressed buffers, whose lengths Arrow's reader takes for true.
fn is_compressed(message: &FlightData) -> bool {
    let Ok(message) = root_as_message(&message.data_header) else {
        return false;
    };
    let batch = message
        .header_as_record_batch()
        .or_else(|| message.header_as_dictionary_batch()?.data());
    batch.is_some_and(|batch| batch.compression().is_some())
}

/// Values of another type; those that it does not have are no nulls but errors.
fn cast(column: &ArrayRef, to: &DataType) -> Answer<ArrayRef> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, to, &strict).map_err(|e| {
        let from = column.data_type();
        Status::invalid_argument(format!("a value of type {from} cannot be a parameter: {e}"))
    })
}

/// The placeholders of a planned statement, a field each: of type null where nothing tells it.
///
/// # Errors
/// `INVALID_ARGUMENT` for names instead of numbers, and numbers that are left out.
pub(super) fn placeholders(frame: &DataFrame) -> Answer<Vec<Field>> {
    let found = frame.logical_plan().get_parameter_types();
    let found = found.map_err(|e| status(e.into()))?;
    let mut fields = Vec::with_capacity(found.len());
    for number in 1..=found.len() {
        let name = format!("${number}");
        let Some(data_type) = found.get(&name) else {
            let mut names: Vec<&str> = found.keys().map(String::as_str).collect();
            names.sort_unstable();
            return Err(Status::invalid_argument(format!(
                "placeholders are ? or $1, $2 and so on; there are {}",
                names.join(", ")
            )));
        };
        let data_type = data_type.clone().unwrap_or(DataType::Null);
        fields.push(Field::new(name, data_type, true));
    }
    Ok(fields)
}

/// The statement with `$1`, `$2`, … for each `?`, which is how most clients say it. What does not
/// parse is left as it is, for the planner to tell what is wrong.
fn numbered(sql: &str) -> Answer<String> {
    let mut tokenizer = Tokenizer::new(&GenericDialect {}, sql).with_unescape(false);
    let Ok(mut tokens) = tokenizer.tokenize() else {
        return Ok(sql.to_owned());
    };
    let (mut n, mut others) = (0, 0);
    for token in &mut tokens {
        match token {
            Token::Placeholder(name) if name == "?" => {
                n += 1;
                *token = Token::Placeholder(format!("${n}"));
            }
            Token::Placeholder(_) => others += 1,
            _ => {}
        }
    }
    match (n, others) {
        (0, _) => Ok(sql.to_owned()),
        (_, 0) => Ok(tokens.iter().map(Token::to_string).collect()),
        _ => Err(Status::invalid_argument(
            "placeholders are ? or $1, $2 and so on, not both",
        )),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Float64Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn question_marks_are_numbered_outside_of_text() {
        let numbered = |sql| numbered(sql).unwrap();
        assert!(Prepared::new("SELECT $1, ?").is_err());
        assert_eq!(
            numbered("SELECT '?', \"a?\" -- ?\nFROM t WHERE a = ? AND b > ?"),
            "SELECT '?', \"a?\" -- ?\nFROM t WHERE a = $1 AND b > $2"
        );
        assert_eq!(numbered("SELECT 'it''s', $1"), "SELECT 'it''s', $1");
        assert_eq!(numbered("SELECT 'it''s', ?"), "SELECT 'it''s', $1");
        assert_eq!(numbered("SELECT 'open"), "SELECT 'open");
    }

    #[test]
    fn handles_hold_statements_and_values() {
        let mut prepared = Prepared::new("SELECT ?, ?").unwrap();
        let read = |prepared: &Prepared| Prepared::of_handle(&prepared.handle().unwrap()).unwrap();
        assert_eq!(read(&prepared), prepared);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i64::MIN])),
            Arc::new(Float64Array::from(vec![0.1 + 0.2])),
            Arc::new(Float64Array::from(vec![f64::NAN])),
            Arc::new(StringArray::from(vec!["it's \"so\""])),
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(TimestampMicrosecondArray::from(vec![1_234_567]).with_timezone("UTC")),
            new_null_array(&DataType::Null, 1),
        ];
        let values = columns.iter().map(|column| Value::of(column).unwrap());
        prepared.values = Some(values.collect());
        let back = read(&prepared);
        assert_eq!(back, prepared);
        for (column, value) in columns.iter().zip(back.values.unwrap()) {
            let expected = ScalarValue::try_from_array(column, 0).unwrap();
            assert_eq!(value.scalar().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_value_and_no_handle_is_refused() {
        let column: ArrayRef = Arc::new(BinaryArray::from(vec![&[0xff_u8, 0x00][..]]));
        assert!(Value::of(&column).is_err());
        let value = |of: &str, text: &str| Value {
            of: of.to_owned(),
            text: Some(text.to_owned()),
        };
        assert!(value("Int64", "x").scalar().is_err());
        let nested = format!("{}Int64{}", "List(".repeat(100_000), ")".repeat(100_000));
        for of in [
            "no type",
            "FixedSizeBinary(2147483647)",
            "FixedSizeList(2147483647 x Int64)",
            "Dictionary(Utf8, Utf8)",
            "List(Int64)",
            &nested,
        ] {
            let mut value = value(of, "1");
            assert!(value.scalar().is_err(), "{of}");
            value.text = None;
            assert!(value.scalar().is_err(), "{of}");
        }
        for handle in [
            &b"\xff\xff"[..],
            b"{",
            b"{\"sql\": 1}",
            b"{\"sql\": \"\", \"more\": 1}",
        ] {
            assert!(Prepared::of_handle(&Bytes::from_static(handle)).is_err());
        }
    }
}
