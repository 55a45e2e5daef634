//! Two `uns`, leaf by leaf: arrays value by value whatever their size, the rest by its text.

use std::sync::Arc;

use super::Verification;
use super::compare::common;
use super::values::{first_difference, shorten};
use crate::element::{AnnData, UnsLeaf};
use crate::error::Result;
use crate::model::{ElementKey, RowSelection};
use crate::store::{ReadMetrics, Store};

/// Values compared at once.
const BLOCK: u64 = 1 << 18;

pub(super) async fn compare_uns(a: &AnnData, b: &AnnData, found: &mut Verification) -> Result<()> {
    let leaves = |leaves: Vec<UnsLeaf>| -> Vec<(String, UnsLeaf)> {
        let named = leaves.into_iter().map(|leaf| (leaf.path.clone(), leaf));
        named.collect()
    };
    let (left, right) = (leaves(a.uns_leaves().await?), leaves(b.uns_leaves().await?));
    let array = |object: &AnnData, path: &str| {
        let key = object
            .uns()
            .map(|uns| ElementKey::new(format!("{uns}/{path}")));
        (Arc::clone(object.store()), key.unwrap_or_default())
    };
    for (path, x, y) in common("uns", &left, &right, found) {
        found.elements += 1;
        let name = format!("uns/{path}");
        let kind = x.encoding_type.as_str();
        if x.encoding_type != y.encoding_type {
            let message = format!("{kind} here, {} there", y.encoding_type);
            found.add(&name, None, message);
        } else if x.value != y.value {
            let (x, y) = (shorten(&x.value, 60), shorten(&y.value, 60));
            found.add(&name, None, format!("{x} here, {y} there"));
        } else if let "array" | "string-array" | "rec-array" | "numeric-scalar" | "string" = kind {
            // JSON has no word for the type, nor for what is no number, nor for a million values.
            if let Some(message) = difference(array(a, path), array(b, path), kind).await? {
                found.add(&name, None, message);
            }
        } else if x.value == "null" && kind != "null" {
            let note = format!("{name}: values of encoding-type {kind:?} were not compared");
            found.notes.push(note);
        }
    }
    Ok(())
}

/// What differs between two arrays, if anything does.
async fn difference(
    (a, a_key): (Arc<dyn Store>, ElementKey),
    (b, b_key): (Arc<dyn Store>, ElementKey),
    kind: &str,
) -> Result<Option<String>> {
    let (a, b) = futures::try_join!(a.array(&a_key), b.array(&b_key))?;
    let (x, y) = (a.info(), b.info());
    if x.dtype != y.dtype {
        return Ok(Some(format!("{} here, {} there", x.dtype, y.dtype)));
    }
    // One text may be an array of one, as files before 0.7 have it.
    if x.shape != y.shape && kind != "string" {
        return Ok(Some(format!("{:?} here, {:?} there", x.shape, y.shape)));
    }
    let width = x.row_len().unwrap_or(0);
    if x.dtype.arrow().is_none() || width == 0 {
        return Ok(None);
    }
    let rows = x.len().min(y.len());
    let (step, metrics) = ((BLOCK / width).max(1), ReadMetrics::default());
    let mut start = 0;
    while start < rows {
        let end = start.saturating_add(step).min(rows);
        let block = RowSelection::range(start..end);
        let (x, y) = futures::try_join!(a.read(&block, &metrics), b.read(&block, &metrics))?;
        if let Some(found) = first_difference(&x, &y)? {
            let at = start.saturating_mul(width).saturating_add(found.row);
            return Ok(Some(format!("value {at}: {}", found.text)));
        }
        start = end;
    }
    Ok(None)
}
