//! The axis that objects are aligned on: whose names there are, in which order, and where each
//! object's own stand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, StringArray};

use super::spec::Join;
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;

/// Names of several objects joined into one axis.
///
/// # Invariants
/// - Equal axes keep their order, and every map is the identity; names may then repeat.
/// - Else an inner join has the order of the first object, an outer one is sorted by code point.
#[derive(Debug)]
pub(crate) struct JoinedAxis {
    /// The joined names.
    pub(crate) names: StringArray,
    /// From each object's axis to this one.
    pub(crate) maps: Vec<Arc<ColumnMap>>,
}

impl JoinedAxis {
    /// Joins the axes; `label` says which object and element names come from, for messages.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where axes differ and a name stands twice on one.
    pub(crate) fn try_new(
        axes: &[StringArray],
        join: Join,
        label: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let first = axes
            .first()
            .cloned()
            .unwrap_or_else(|| StringArray::from(Vec::<&str>::new()));
        if axes.iter().all(|axis| *axis == first) {
            let map = Arc::new(ColumnMap::identity(first.len()));
            return Ok(Self {
                names: first,
                maps: vec![map; axes.len()],
            });
        }
        let names = match join {
            Join::Inner => intersection(axes),
            Join::Outer => union(axes),
        };
        Self::onto(names, axes, label)
    }

    /// Brings axes onto given names, whichever of them they have.
    ///
    /// # Errors
    /// As [`try_new`](Self::try_new).
    pub(super) fn onto(
        names: StringArray,
        axes: &[StringArray],
        label: impl Fn(usize) -> String,
    ) -> Result<Self> {
        for (at, axis) in axes.iter().enumerate() {
            let mut seen = HashSet::with_capacity(axis.len());
            if let Some(name) = axis.iter().flatten().find(|name| !seen.insert(*name)) {
                return Err(Error::IncompatibleSchemas(format!(
                    "{}: the name '{name}' stands there twice, so it cannot be aligned with others: \
                     make names unique, or align on a column that is",
                    label(at)
                )));
            }
        }
        let places: HashMap<&str, usize> = names.iter().flatten().zip(0..).collect();
        let maps = axes.iter().map(|axis| {
            let places: Vec<Option<usize>> = axis
                .iter()
                .map(|name| places.get(name.unwrap_or_default()).copied())
                .collect();
            Ok(Arc::new(ColumnMap::try_new(&places, names.len())?))
        });
        Ok(Self {
            maps: maps.collect::<Result<_>>()?,
            names,
        })
    }
}

/// Names that all have, in the order of the first.
fn intersection(axes: &[StringArray]) -> StringArray {
    let Some((first, others)) = axes.split_first() else {
        return StringArray::from(Vec::<&str>::new());
    };
    let others: Vec<HashSet<&str>> = others
        .iter()
        .map(|axis| axis.iter().flatten().collect())
        .collect();
    let kept = first
        .iter()
        .flatten()
        .filter(|name| others.iter().all(|axis| axis.contains(name)));
    StringArray::from_iter_values(kept)
}

/// Names that any has. Axes without names say nothing of the order; if the others are equal it is
/// theirs.
fn union(axes: &[StringArray]) -> StringArray {
    let mut named = axes.iter().filter(|axis| !axis.is_empty());
    let Some(first) = named.next() else {
        return StringArray::from(Vec::<&str>::new());
    };
    if named.all(|axis| axis == first) {
        return first.clone();
    }
    let names: HashSet<&str> = axes.iter().flat_map(|axis| axis.iter().flatten()).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    StringArray::from(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, and where each axis has them.
    type Joined = (Vec<String>, Vec<Vec<Option<usize>>>);

    fn join(axes: &[&[&str]], join: Join) -> Result<Joined> {
        let axes: Vec<StringArray> = axes.iter().map(|a| StringArray::from(a.to_vec())).collect();
        let joined = JoinedAxis::try_new(&axes, join, |at| at.to_string())?;
        let names = joined.names.iter().flatten().map(str::to_owned).collect();
        Ok((names, joined.maps.iter().map(|map| map.sources()).collect()))
    }

    #[test]
    fn equal_axes_keep_their_order() {
        let (names, maps) = join(&[&["z", "a"], &["z", "a"]], Join::Outer).unwrap();
        assert_eq!(names, ["z", "a"]);
        assert_eq!(maps, vec![vec![Some(0), Some(1)]; 2]);
        // Repeats are no matter where nothing is aligned.
        assert!(join(&[&["a", "a"], &["a", "a"]], Join::Inner).is_ok());
        assert!(join(&[&["a", "a"], &["a"]], Join::Inner).is_err());
    }

    #[test]
    fn an_outer_join_is_sorted_even_for_a_subset() {
        let (names, maps) = join(&[&["z", "m", "a"], &["a", "z"]], Join::Outer).unwrap();
        assert_eq!(names, ["a", "m", "z"]);
        assert_eq!(maps[1], [Some(0), None, Some(1)]);
        assert_eq!(
            join(&[&["z", "a"], &["a"]], Join::Outer).unwrap().0,
            ["a", "z"]
        );
        assert_eq!(
            join(&[&[], &["z", "a"]], Join::Outer).unwrap().0,
            ["z", "a"]
        );
        let (names, _) = join(&[&["é", "a", "Z", "_", "1", "B"], &[]], Join::Outer).unwrap();
        assert_eq!(names, ["é", "a", "Z", "_", "1", "B"]);
        let (names, _) = join(&[&["é", "a", "Z", "_", "1", "B"], &["B"]], Join::Outer).unwrap();
        assert_eq!(names, ["1", "B", "Z", "_", "a", "é"]);
    }

    #[test]
    fn an_inner_join_has_the_order_of_the_first() {
        let (names, maps) = join(&[&["z", "m", "a"], &["a", "z", "q"]], Join::Inner).unwrap();
        assert_eq!(names, ["z", "a"]);
        assert_eq!(maps, [vec![Some(0), Some(2)], vec![Some(1), Some(0)]]);
        assert!(join(&[&["a"], &["b"]], Join::Inner).unwrap().0.is_empty());
    }
}
