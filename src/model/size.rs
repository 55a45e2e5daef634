//! Sizes as users write them.

/// The share of an amount that a part of a whole has, rounded down.
pub(crate) fn share(amount: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(amount) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Bytes of `16GB` (10^9), `16GiB` (2^30), `512M`, `4096`; a letter alone is decimal, case is free.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.starts_with('-') {
        return Err(format!("{text:?} is not a size"));
    }
    let digits = compact
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(compact.len());
    let (number, unit) = compact.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "unknown unit {unit:?}; use KB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = parse_digits(whole, text)?;
    let scale = u32::try_from(fraction.len())
        .ok()
        .and_then(|places| 10u128.checked_pow(places))
        .ok_or_else(|| format!("{text:?} has too many digits"))?;
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        parse_digits(fraction, text)?
    };
    whole
        .checked_mul(scale)
        .and_then(|n| n.checked_add(fraction))
        .and_then(|n| n.checked_mul(u128::from(factor)))
        .map(|n| n / scale)
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| format!("{text:?} is more than 2^64 bytes"))
}

fn parse_digits(digits: &str, text: &str) -> Result<u128, String> {
    digits
        .replace('_', "")
        .parse()
        .map_err(|_| format!("{text:?} is not a size such as 16GB or 512MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        assert_eq!(parse_size("16GB"), Ok(16_000_000_000));
        assert_eq!(parse_size("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("12 parsecs").is_err());
        assert!(parse_size("GB").is_err());
    }
}
