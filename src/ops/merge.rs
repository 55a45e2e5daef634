//! [`merge`]: several objects written as one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema};

use super::convert::check_dropped;
use super::options::RunOptions;
use super::outputs;
use super::prepare::{self, LONE_BATCH_BYTES, Prepared};
use super::report::{OutputReport, Report};
use crate::element::MatrixReader;
use crate::error::Result;
use crate::model::{CategoryRegistry, DType, FieldMeta, Location, MatrixKind, RowSelection};
use crate::plan::merge::{Join, MergeAxis, MergeExec, MergeOutline, MergeOutput, MergeSpec};
use crate::plan::{OutputSpec, Outputs, WriteExec, WriteSpec};
use crate::store::url_of;

/// Options of [`merge`].
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// What is merged and how.
    pub spec: MergeSpec,
    /// The object to write.
    pub output: PathBuf,
    /// Resources and writing.
    pub run: RunOptions,
}

/// Plans the writing of several objects as one, as `anndata.concat` would put them together: from and
/// to any format. Memory holds a batch of rows, the maps of genes, and what is as long as the axis of
/// genes; not rows.
///
/// Reads descriptions, names of genes, categories, `var` and `indptr`; the plan's
/// [`run`](Prepared::run) reads the rest once.
///
/// # Errors
/// [`Error::InvalidOption`](crate::Error::InvalidOption) for options that the objects do not meet;
/// [`Error::IncompatibleSchemas`](crate::Error::IncompatibleSchemas) for elements that cannot be
/// merged; [`Error::OutputRefused`](crate::Error::OutputRefused) where the output may not be written.
pub async fn merge(options: &MergeOptions) -> Result<Prepared> {
    let session = prepare::session(&options.run)?;
    let outline = MergeOutline::of(Arc::new(options.spec.clone())).await?;
    let inputs = outline.objects().iter().flat_map(|object| object.places());
    let inputs: Vec<&str> = inputs.map(Location::path).collect();
    outputs::check(&[options.output.as_path()], &inputs, &options.run).await?;
    check_dropped(outline.objects(), &options.spec.drop).await?;
    let mut warnings = outline.warnings().to_vec();
    warnings.extend(outline.rest_warnings().await?);
    let output = OutputSpec {
        path: options.output.clone(),
        n_obs: Some(outline.n_obs()),
        nnz: entries(&outline).await?,
        axis: Some(outline.axis().id().to_owned()),
    };
    let bytes = bytes(&outline);
    let spec = WriteSpec {
        outputs: Outputs::Single(output),
        storage: options.run.storage,
        drop: options.spec.drop.clone(),
        overwrite: options.run.overwrite,
        fsync: options.run.fsync,
        jobs: 1,
    };
    let all = MergeOutput {
        provenance: true,
        batch_bytes: LONE_BATCH_BYTES,
        ..MergeOutput::columns((0..outline.schema().fields().len()).collect())
    };
    let input = MergeExec::try_new(&outline, all)?;
    let plan = WriteExec::try_new(Arc::new(input), Arc::new(spec))?;
    let report = Report {
        outputs: vec![OutputReport {
            path: options.output.clone(),
            n_obs: outline.n_obs(),
            n_vars: outline.axis().len() as u64,
            bytes,
        }],
        warnings,
        details: details(&outline),
        memory_bytes: memory(&outline, url_of(&options.output).is_some()),
        seconds: 0.0,
    };
    Ok(Prepared::of_plan(
        session,
        plan,
        report,
        "merge",
        &options.run,
    ))
}

/// Stored entries of the sparse columns that are just those of the objects, from `indptr` alone.
async fn entries(outline: &MergeOutline) -> Result<BTreeMap<String, u64>> {
    let mut known = BTreeMap::new();
    for field in outline.schema().fields() {
        let column = field.name();
        if !outline.keeps_entries(column) {
            continue;
        }
        let mut sum = 0;
        for object in outline.objects() {
            let matrices = outputs::sparse(object);
            let matrix = matrices.into_iter().find(|(name, _)| name == column);
            if let Some((_, matrix)) = matrix {
                let matrix: &dyn MatrixReader = matrix;
                let rows = RowSelection::all(object.n_obs());
                sum += outputs::entries(matrix, &rows).await?;
            }
        }
        known.insert(column.clone(), sum);
    }
    Ok(known)
}

/// What the objects take on disk, or what their matrices grow to; compression is not foreseen.
fn bytes(outline: &MergeOutline) -> u64 {
    let objects = outline.objects().iter();
    objects
        .map(|object| object.stored_bytes().unwrap_or(0))
        .fold(0, u64::saturating_add)
        .max(outline.matrix_bytes())
}

/// Memory of the merge: batches hold a row at least, however wide it is.
fn memory(outline: &MergeOutline, is_url: bool) -> u64 {
    let beyond = outline.widest_row().saturating_sub(LONE_BATCH_BYTES as u64);
    prepare::memory(1, is_url).saturating_add(beyond.saturating_mul(3))
}

/// The merge in words: genes kept and lost per object, columns and their types.
fn details(outline: &MergeOutline) -> Vec<String> {
    let spec = outline.spec();
    let mut lines = Vec::new();
    let (what, n_merged) = match spec.axis {
        MergeAxis::Obs => ("genes", outline.axis().len() as u64),
        MergeAxis::Var => ("cells", outline.n_obs()),
    };
    for (object, (kept, n)) in outline.objects().iter().zip(outline.kept()) {
        let lost = match (n - kept, spec.join) {
            (0, _) => String::new(),
            (lost, Join::Inner) => format!(", {lost} lost; --join outer keeps them"),
            (lost, Join::Outer) => format!(", {lost} lost"),
        };
        let new = match n_merged - kept {
            0 => String::new(),
            new => format!(", {new} of others"),
        };
        lines.push(format!(
            "{}: {} cells × {} genes, {kept} of {n} {what} kept{lost}{new}",
            object.location(),
            object.n_obs(),
            object.n_vars()
        ));
    }
    lines.extend(columns(outline.schema()));
    lines
}

fn columns(schema: &Schema) -> impl Iterator<Item = String> {
    let fields = schema.fields().iter();
    fields
        .skip(2)
        .map(|field| format!("{}: {}", field.name(), describe(field)))
}

/// A column's type in AnnData's words.
fn describe(field: &Field) -> String {
    let meta = FieldMeta::of(field);
    let encoding = meta.encoding.unwrap_or_default();
    let name = |data_type: &DataType| match DType::from_arrow(data_type) {
        Some(dtype) => dtype.to_string(),
        None => data_type.to_string(),
    };
    match (MatrixKind::of(field.data_type()), field.data_type()) {
        (Some(MatrixKind::Sparse), DataType::List(entries)) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => {
                format!("{encoding} of {}", name(parts[1].data_type()))
            }
            _ => encoding,
        },
        (_, DataType::FixedSizeList(item, width)) => {
            format!("{encoding} of {}, {width} wide", name(item.data_type()))
        }
        (_, DataType::Dictionary(_, _)) => {
            let set = meta
                .categories
                .and_then(|id| CategoryRegistry::global().get(&id));
            let n = set.map_or(0, |set| set.len());
            let order = if meta.ordered == Some(true) {
                "ordered "
            } else {
                ""
            };
            format!("{order}categorical of {n}")
        }
        (_, DataType::Struct(members)) if encoding == "dataframe" => {
            format!("dataframe of {} columns", members.len().saturating_sub(1))
        }
        (_, data_type) if encoding.starts_with("nullable-") => {
            format!("nullable {}", name(data_type))
        }
        (_, data_type) => name(data_type),
    }
}
