//! Sizes as users read them, and bounds that they set.

use crate::model::parse_size;
use crate::ops::LEAST_MEMORY_LIMIT;

/// A bound on memory that everything can work in.
pub(super) fn parse_limit(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < LEAST_MEMORY_LIMIT => Err(format!(
            "{} is too little; the least that will do is {}",
            show_bytes(bytes),
            show_bytes(LEAST_MEMORY_LIMIT)
        )),
        bytes => Ok(bytes),
    }
}

/// Bytes as a reader likes them, in decimal units: `348.8 MB`.
pub(super) fn show_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    for (unit, size) in UNITS {
        if bytes >= size {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// A count with separators: `1,234,567`.
pub(super) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_readers() {
        assert_eq!(show_bytes(348_790_944), "348.7 MB");
        assert_eq!(show_count(1_234_567), "1,234,567");
    }
}
