//! One object by itself.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};

use super::blocks::blocks;
use super::storage::check_storage;
use super::{Verification, VerifyOptions};
use crate::element::{
    AnnData, ColumnReader, Frame, MatrixReader, fault_of_categories, inspect_elements,
};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, MatrixKind, RowSelection};
use crate::ops::Progress;
use crate::store::{self, MissingChunks, ReadMetrics};

/// Reads an object whole and says what is wrong with it: lengths that disagree, `indptr` that
/// decreases, indices and codes out of range, categories that repeat, bytes that do not decode,
/// consolidated metadata that is not what the nodes say. Notes say where chunks are not stored, and
/// of which that can hardly be meant, and where a sparse matrix holds entries behind its last row.
///
/// # Errors
/// [`Error::StoreNotFound`] where there is nothing to check. What is wrong with the object is a
/// finding, not an error.
pub async fn verify(
    location: &Location,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Verification> {
    let mut found = Verification::new(options);
    let object = match AnnData::open(location).await {
        Ok(object) => Some(object),
        Err(error @ Error::StoreNotFound { .. }) => return Err(error),
        Err(error) => {
            found.failed("/", &error);
            None
        }
    };
    let whole = object.as_deref();
    let stores = match whole.map_or(&[][..], AnnData::members) {
        [] => vec![(location, whole, String::new())],
        members => {
            let prefix = |member: &AnnData| format!("{}: ", member.location().stem());
            let members = members.iter();
            let members = members.map(|m| (m.location(), Some(m.as_ref()), prefix(m)));
            members.collect()
        }
    };
    for (location, object, prefix) in stores {
        let mut of_store = Verification::new(options);
        check_store(location, object, &mut of_store).await?;
        found.extend(of_store, &prefix);
    }
    let Some(object) = object else {
        return Ok(found);
    };
    progress.start("verify", object.n_obs());
    check_object(&object, &mut found).await;
    progress.update(object.n_obs());
    progress.finish();
    Ok(found)
}

/// How an object is stored.
async fn check_store(
    location: &Location,
    object: Option<&AnnData>,
    found: &mut Verification,
) -> Result<()> {
    let store = store::open(location).await?;
    let root = ElementKey::new(location.group());
    match inspect_elements(&store, &root).await {
        Ok(elements) => found.elements = u64::try_from(elements.len()).unwrap_or(u64::MAX),
        Err(error) => found.failed("/", &error),
    }
    let lost = match object {
        Some(object) => object.own_lost_chunks(&[]).await,
        None => Vec::new(),
    };
    let lost = lost.into_iter();
    let lost: HashMap<ElementKey, MissingChunks> = lost
        .map(|(key, chunks)| (root.child(key.as_str()), chunks))
        .collect();
    check_storage(&store, &root, &lost, found).await;
    Ok(())
}

async fn check_object(object: &Arc<AnnData>, found: &mut Verification) {
    check_frame("obs", object.obs(), found).await;
    check_frame("var", object.var(), found).await;
    if let Some(x) = object.x() {
        check_matrix("X", x.as_ref(), found).await;
    }
    let matrices = [
        ("layers", object.layers()),
        ("obsp", object.obsp()),
        ("varp", object.varp()),
    ];
    for (group, members) in matrices {
        for (name, matrix) in members {
            check_matrix(&format!("{group}/{name}"), matrix.as_ref(), found).await;
        }
    }
    for (group, members) in [("obsm", object.obsm()), ("varm", object.varm())] {
        for (name, column) in members {
            check_column(&format!("{group}/{name}"), column.as_ref(), found).await;
        }
    }
    if let Some(raw) = object.raw() {
        check_frame("raw/var", raw.var(), found).await;
        if let Some(x) = raw.x() {
            check_matrix("raw/X", x.as_ref(), found).await;
        }
        for (name, column) in raw.varm() {
            check_column(&format!("raw/varm/{name}"), column.as_ref(), found).await;
        }
    }
    if let Err(error) = object.uns_leaves().await {
        found.failed("uns", &error);
    }
}

async fn check_frame(name: &str, frame: &Frame, found: &mut Verification) {
    for column in frame.columns() {
        let key = format!("{name}/{}", column.field().name());
        check_column(&key, column.as_ref(), found).await;
    }
    if let Err(error) = check_names(name, frame.index().as_ref(), found).await {
        found.failed(format!("{name}/{}", frame.index_name()), &error);
    }
}

/// Names may repeat, but whoever looks one up gets one of several.
async fn check_names(name: &str, index: &dyn ColumnReader, found: &mut Verification) -> Result<()> {
    // Hashes of names seen; 16 bytes a row.
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut repeated = 0u64;
    let mut first = None;
    for block in blocks(&[index]).await? {
        let start = block.start;
        let names = index
            .read(&RowSelection::range(block), &ReadMetrics::default())
            .await?;
        let names = names
            .as_string_opt::<i32>()
            .ok_or_else(|| Error::IncompatibleSchemas(format!("{name}: the index is not text")))?;
        for (row, text) in (start..).zip(names) {
            let hash = twox_hash::XxHash64::oneshot(0, text.unwrap_or_default().as_bytes());
            if let Some(before) = seen.insert(hash, row) {
                repeated += 1;
                first.get_or_insert((text.unwrap_or_default().to_owned(), before, row));
            }
        }
    }
    if let Some((text, before, row)) = first {
        found.notes.push(format!(
            "{name}: {repeated} names are repeated, such as '{text}' at {before} and {row}"
        ));
    }
    Ok(())
}

async fn check_column(name: &str, column: &dyn ColumnReader, found: &mut Verification) {
    if let Some(matrix) = column.as_matrix() {
        return check_matrix(name, matrix, found).await;
    }
    let blocks = match blocks(&[column]).await {
        Ok(blocks) => blocks,
        Err(error) => return found.failed(name, &error),
    };
    for (i, block) in blocks.into_iter().enumerate() {
        let row = block.start;
        match column
            .read(&RowSelection::range(block), &ReadMetrics::default())
            .await
        {
            Ok(values) if i == 0 => check_categories(name, &values, found),
            Ok(_) => {}
            Err(error) => return found.add(name, Some(row), error.to_string()),
        }
    }
}

fn check_categories(name: &str, values: &ArrayRef, found: &mut Verification) {
    let Some(dictionary) = values.as_dictionary_opt::<Int32Type>() else {
        return;
    };
    match fault_of_categories(dictionary.values()) {
        Ok(fault) => fault
            .into_iter()
            .for_each(|fault| found.add(name, None, fault)),
        Err(error) => found.failed(name, &error),
    }
}

async fn check_matrix(name: &str, matrix: &dyn MatrixReader, found: &mut Verification) {
    if let Err(error) = read_matrix(name, matrix, found).await {
        found.failed(name, &error);
    }
}

async fn read_matrix(
    name: &str,
    matrix: &dyn MatrixReader,
    found: &mut Verification,
) -> Result<()> {
    let metrics = ReadMetrics::default();
    let mut order = RowOrder::default();
    let mut stored = 0u64;
    for block in blocks(&[matrix]).await? {
        let start = block.start;
        let rows = matrix.read(&RowSelection::range(block), &metrics).await?;
        let Some(list) = rows.as_list_opt::<i32>() else {
            continue;
        };
        let entries = list.values().as_struct();
        stored = stored.saturating_add(u64::try_from(entries.len()).unwrap_or(0));
        let indices: Vec<i64> = match entries.column(0).data_type() {
            DataType::Int64 => entries
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec(),
            _ => arrow::compute::cast(entries.column(0), &DataType::Int64)?
                .as_primitive::<Int64Type>()
                .values()
                .to_vec(),
        };
        for (row, ends) in (start..).zip(list.value_offsets().windows(2)) {
            let [from, to] = ends else { continue };
            let (from, to) = (usize::try_from(*from), usize::try_from(*to));
            let (Ok(from), Ok(to)) = (from, to) else {
                continue;
            };
            let n_cols = i64::try_from(matrix.shape().n_cols).unwrap_or(i64::MAX);
            for index in &indices[from..to] {
                if *index < 0 || *index >= n_cols {
                    found.add(
                        name,
                        Some(row),
                        format!("index {index} is not below {n_cols}"),
                    );
                    return Ok(());
                }
            }
            order.look(row, &indices[from..to]);
        }
    }
    if matrix.shape().kind == MatrixKind::Sparse
        && let Some(nnz) = matrix.shape().nnz
        && nnz != stored
    {
        found.add(
            name,
            None,
            format!("{nnz} entries are stored, but the rows hold {stored}"),
        );
    }
    order.note(name, found);
    Ok(())
}

/// Rows whose indices are unsorted or repeated: AnnData allows both, and both surprise.
#[derive(Default)]
struct RowOrder {
    unsorted: Option<u64>,
    repeated: Option<u64>,
}

impl RowOrder {
    fn look(&mut self, row: u64, indices: &[i64]) {
        if self.unsorted.is_none() && !indices.is_sorted() {
            self.unsorted = Some(row);
        }
        if self.repeated.is_none() && indices.windows(2).any(|pair| pair[0] == pair[1]) {
            self.repeated = Some(row);
        }
    }

    fn note(&self, name: &str, found: &mut Verification) {
        if let Some(row) = self.unsorted {
            found.notes.push(format!(
                "{name}: indices are not sorted, first in row {row}"
            ));
        }
        if let Some(row) = self.repeated {
            found
                .notes
                .push(format!("{name}: an index stands twice, first in row {row}"));
        }
    }
}
