//! Quantities of Kubernetes: `100m`, `1.5Gi`, `2e3`.

use serde_json::Value;

/// The quantity in thousandths, rounded up; none if it is no quantity, or too large to count.
pub(crate) fn milli(value: Option<&Value>) -> Option<i128> {
    match value? {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

fn parse(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > 24 || fraction.contains('.')
    {
        return None;
    }
    // digits × 10^-places × factor, in thousandths.
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;
    let (factor, down) = factor(suffix)?;
    let scaled = digits.checked_mul(factor)?.checked_mul(1000)?;
    let divisor = 10_i128.checked_pow(places)?.checked_mul(down)?;
    let amount = scaled.checked_add(divisor - 1)? / divisor;
    Some(if negative { -amount } else { amount })
}

/// What a suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power: u32| 10_i128.checked_pow(power);
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|exponent| !exponent.is_empty()) {
        let exponent: i32 = exponent.parse().ok()?;
        let power = decimal(exponent.unsigned_abs())?;
        return Some(if exponent < 0 { (1, power) } else { (power, 1) });
    }
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(9)?),
        "u" => (1, decimal(6)?),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (decimal(6)?, 1),
        "G" => (decimal(9)?, 1),
        "T" => (decimal(12)?, 1),
        "P" => (decimal(15)?, 1),
        "E" => (decimal(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::milli;

    #[test]
    fn quantities_are_read_in_every_notation() {
        let amount = |text: &str| milli(Some(&json!(text)));
        assert_eq!(amount("100m"), Some(100));
        assert_eq!(amount("1.5"), Some(1500));
        assert_eq!(amount(".5"), Some(500));
        assert_eq!(amount("1Ki"), Some(1_024_000));
        assert_eq!(amount("2e3"), Some(2_000_000));
        assert_eq!(amount("2E"), Some(2_000_000_000_000_000_000_000));
        assert_eq!(amount("1u"), Some(1));
        assert_eq!(amount("-1"), Some(-1000));
        assert_eq!(milli(Some(&json!(2))), Some(2000));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", ".", "1.2.3", "1 Gi", "Gi", "1ki", "x", "--1", "1e", "1e99", "99999999999999999999999999"]
        {
            assert_eq!(milli(Some(&json!(text))), None, "{text}");
        }
    }
}
