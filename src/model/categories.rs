//! Category sets by content, so that a column that lost its dictionary in a plan gets it back.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef};

/// The category sets this process has met, by id.
///
/// GROUP BY, joins and spills rebuild dictionaries from the values they meet; the id in a field's
/// metadata leads back to every category, in order.
#[derive(Debug, Default)]
pub struct CategoryRegistry {
    sets: Mutex<HashMap<String, ArrayRef>>,
}

static GLOBAL: LazyLock<CategoryRegistry> = LazyLock::new(CategoryRegistry::default);

impl CategoryRegistry {
    /// The registry of this process. Ids are content hashes, so sharing it is safe.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Adds a set of categories under the id it is given back with: a hash of type and values.
    pub fn register(&self, categories: &ArrayRef) -> String {
        let mut hasher = twox_hash::XxHash3_128::new();
        hasher.write(categories.data_type().to_string().as_bytes());
        hasher.write(&(categories.len() as u64).to_le_bytes());
        hash_values(&categories.to_data(), &mut hasher);
        let id = format!("{:032x}", hasher.finish_128());
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.entry(id.clone())
            .or_insert_with(|| Arc::clone(categories));
        id
    }

    /// The set of an id.
    pub fn get(&self, id: &str) -> Option<ArrayRef> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.get(id).map(Arc::clone)
    }
}

/// Buffers are hashed with their lengths; categories are read at offset 0 and owned, so equal
/// sets have equal buffers.
fn hash_values(data: &arrow::array::ArrayData, hasher: &mut twox_hash::XxHash3_128) {
    // Missing categories are no empty ones; bits behind the last value mean nothing.
    if let Some(nulls) = data.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (at, _) in (0u64..).zip(nulls.iter()).filter(|(_, valid)| !valid) {
            hasher.write(&at.to_le_bytes());
        }
        hasher.write(b"null");
    }
    for buffer in data.buffers() {
        hasher.write(&(buffer.len() as u64).to_le_bytes());
        hasher.write(buffer.as_slice());
    }
    for child in data.child_data() {
        hash_values(child, hasher);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn a_missing_category_is_not_an_empty_one() {
        let id = |values: Vec<Option<&str>>| {
            CategoryRegistry::default().register(&(Arc::new(StringArray::from(values)) as ArrayRef))
        };
        assert_ne!(id(vec![Some("a"), None]), id(vec![Some("a"), Some("")]));
        assert_ne!(id(vec![None, Some("")]), id(vec![Some(""), None]));
    }
}
