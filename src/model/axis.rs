//! Var axes by content: two matrix columns are over the same genes when their axis ids are equal.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use arrow::array::{Array, StringArray};
use twox_hash::XxHash3_128;

use crate::model::{ElementKey, Location};

/// The genes of a matrix: their names in order, and the element that describes them.
#[derive(Debug)]
pub struct VarAxis {
    id: String,
    names: StringArray,
    source: Option<(Location, ElementKey)>,
    /// Positions in the source's var, where the axis is a subset of it.
    positions: Option<Vec<u64>>,
    lookup: OnceLock<HashMap<String, GeneAt>>,
}

/// Where a gene name stands on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GeneAt {
    Once(usize),
    Repeated { first: usize, second: usize },
}

impl VarAxis {
    /// An axis over `names` (no nulls), described by the `var` element at `source`.
    pub fn new(
        names: StringArray,
        source: Option<(Location, ElementKey)>,
        positions: Option<Vec<u64>>,
    ) -> Self {
        let mut hasher = XxHash3_128::new();
        for name in names.iter().map(Option::unwrap_or_default) {
            hasher.write(&(name.len() as u64).to_le_bytes());
            hasher.write(name.as_bytes());
        }
        // Names may repeat: a selection of others of the same names has other rows in var.
        for position in positions.iter().flatten() {
            hasher.write(&position.to_le_bytes());
        }
        Self {
            id: format!("{:032x}", hasher.finish_128()),
            names,
            source,
            positions,
            lookup: OnceLock::new(),
        }
    }

    /// A short content hash, equal for equal names in equal order and, where the axis is a
    /// selection, at equal positions.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `var_names`.
    pub fn names(&self) -> &StringArray {
        &self.names
    }

    /// How many genes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no genes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The object and the `var` or `raw/var` element that describe these genes.
    pub fn source(&self) -> Option<&(Location, ElementKey)> {
        self.source.as_ref()
    }

    /// Positions in the source's var where the axis is a selection of it.
    pub fn positions(&self) -> Option<&[u64]> {
        self.positions.as_deref()
    }

    /// The position of a gene.
    ///
    /// # Errors
    /// A message, without a subject, where the name is unknown (with the nearest names) or stands
    /// more than once. The first call builds a table of all names.
    pub fn position(&self, gene: &str) -> Result<usize, String> {
        let lookup = self.lookup.get_or_init(|| {
            let mut table: HashMap<String, GeneAt> = HashMap::with_capacity(self.names.len());
            for (i, name) in self.names.iter().enumerate() {
                table
                    .entry(name.unwrap_or_default().to_owned())
                    .and_modify(|at| {
                        if let GeneAt::Once(first) = *at {
                            *at = GeneAt::Repeated { first, second: i };
                        }
                    })
                    .or_insert(GeneAt::Once(i));
            }
            table
        });
        match lookup.get(gene) {
            Some(GeneAt::Once(i)) => Ok(*i),
            Some(GeneAt::Repeated { first, second }) => Err(format!(
                "gene '{gene}' is ambiguous: var_names has it at positions {first} and {second}"
            )),
            None => Err(format!("no gene '{gene}' in var_names{}", self.near(gene))),
        }
    }

    fn near(&self, gene: &str) -> String {
        let wanted = gene.to_lowercase();
        let mut best: Vec<(f64, &str)> = (0..self.names.len())
            .map(|i| self.names.value(i))
            .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
            .filter(|(score, _)| *score > 0.85)
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        match best.first() {
            Some((_, name)) => format!("; did you mean '{name}'?"),
            None => String::new(),
        }
    }
}

/// The axes this process has met, by id.
///
/// Field metadata carries only the id: names of tens of thousands of genes in every schema would
/// be copied with every plan node.
#[derive(Debug, Default)]
pub struct AxisRegistry {
    axes: Mutex<HashMap<String, Arc<VarAxis>>>,
}

static GLOBAL: LazyLock<AxisRegistry> = LazyLock::new(AxisRegistry::default);

impl AxisRegistry {
    /// The registry of this process. Ids are content hashes, so sharing it between sessions is safe.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Adds an axis; gives back the one already held under the id, if any.
    pub fn register(&self, axis: Arc<VarAxis>) -> Arc<VarAxis> {
        let mut axes = self.axes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(axes.entry(axis.id().to_owned()).or_insert(axis))
    }

    /// The axis of an id.
    pub fn get(&self, id: &str) -> Option<Arc<VarAxis>> {
        let axes = self.axes.lock().unwrap_or_else(PoisonError::into_inner);
        axes.get(id).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_of_one_name_at_two_places_are_two_axes() {
        let axis = |positions| VarAxis::new(vec!["a"].into(), None, positions);
        assert_ne!(axis(Some(vec![0])).id(), axis(Some(vec![1])).id());
        assert_eq!(axis(Some(vec![1])).id(), axis(Some(vec![1])).id());
        assert_eq!(axis(None).id(), axis(None).id());
    }
}
