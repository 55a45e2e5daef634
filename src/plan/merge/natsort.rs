//! The order that categories come in where objects have different ones: natsort's.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{SortOptions, sort_to_indices, take};
use icu_normalizer::DecomposingNormalizerBorrowed;

use crate::error::Result;

/// The values without repeats, sorted: numbers by value, texts by their runs of digits and of anything else.
pub(super) fn sorted(values: &ArrayRef) -> Result<ArrayRef> {
    let Some(texts) = values.as_string_opt::<i32>() else {
        let order = sort_to_indices(values, Some(SortOptions::default()), None)?;
        return Ok(take(values, &order, None)?);
    };
    let texts = texts.iter().map(Option::unwrap_or_default);
    let mut order: Vec<(Vec<Part>, &str, u32)> = texts
        .zip(0..)
        .map(|(text, at)| (parts(text), text, at))
        .collect();
    // Texts that differ by leading zeros alone are equal to natsort, which is given a sorted union.
    order.sort_by(|a, b| compare_parts(&a.0, &b.0).then_with(|| a.1.cmp(b.1)));
    let order = UInt32Array::from_iter_values(order.into_iter().map(|(.., at)| at));
    Ok(take(values, &order, None)?)
}

/// A run of digits or of anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Digits without leading zeros: longer is larger.
    Number(String),
    Text(String),
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    // natsort normalises, so that composed and decomposed letters are one.
    let text = DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let mut rest = text.as_ref();
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        if digits {
            // A number is always preceded by text, if by none.
            if parts.is_empty() {
                parts.push(Part::Text(String::new()));
            }
            parts.push(Part::Number(run.trim_start_matches('0').to_owned()));
        } else {
            parts.push(Part::Text(run.to_owned()));
        }
    }
    parts
}

fn compare_parts(a: &[Part], b: &[Part]) -> Ordering {
    let pairs = a.iter().zip(b).map(|pair| match pair {
        (Part::Number(a), Part::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (Part::Text(a), Part::Text(b)) => a.cmp(b),
        (Part::Number(_), Part::Text(_)) => Ordering::Less,
        (Part::Text(_), Part::Number(_)) => Ordering::Greater,
    });
    let differ = pairs.into_iter().find(|order| order.is_ne());
    differ.unwrap_or_else(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn the_order_is_that_of_natsort() {
        let expected = ["", "1", "02", "A9", "A10", "a1.5", "a-1", "b1", "é", "x"];
        let mut shuffled = expected;
        shuffled.reverse();
        let values: ArrayRef = Arc::new(StringArray::from(shuffled.to_vec()));
        let sorted = sorted(&values).unwrap();
        let sorted: Vec<_> = sorted.as_string::<i32>().iter().flatten().collect();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn numbers_are_sorted_by_value() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![10, 9, -1]));
        let sorted = sorted(&values).unwrap();
        assert_eq!(
            sorted.as_primitive::<Int64Type>().values().to_vec(),
            [-1, 9, 10]
        );
    }
}
