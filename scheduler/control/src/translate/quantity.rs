//! Amounts as Kubernetes writes them: `500m`, `2`, `1.5Gi`, `1e3`. Exact, and
//! rounded up where a part is smaller than what is counted.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Why a text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form of an amount.
    #[error("\"{0}\" is not an amount such as 500m, 2 or 1.5Gi")]
    Form(String),
    /// More than is counted here.
    #[error("\"{0}\" is more than any machine has")]
    TooLarge(String),
}

/// Thousandths.
///
/// # Errors
/// [`QuantityError`].
pub fn millis(amount: &Quantity) -> Result<u64, QuantityError> {
    nanos(&amount.0).and_then(|nanos| whole_of(nanos, 1_000_000, &amount.0))
}

/// Whole units.
///
/// # Errors
/// [`QuantityError`].
pub fn whole(amount: &Quantity) -> Result<u64, QuantityError> {
    nanos(&amount.0).and_then(|nanos| whole_of(nanos, 1_000_000_000, &amount.0))
}

fn whole_of(nanos: u128, unit: u128, text: &str) -> Result<u64, QuantityError> {
    u64::try_from(nanos.div_ceil(unit)).map_err(|_| QuantityError::TooLarge(text.to_owned()))
}

/// Digits that are read; more say nothing about a machine.
const DIGITS_MAX: usize = 24;

/// Thousand-millionths: the finest that the form can say.
fn nanos(text: &str) -> Result<u128, QuantityError> {
    let form = || QuantityError::Form(text.to_owned());
    let too_large = || QuantityError::TooLarge(text.to_owned());
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(at);
    let (before, after) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{before}{after}");
    if digits.is_empty() || after.contains('.') || digits.len() > DIGITS_MAX {
        return Err(form());
    }
    let digits: u128 = digits.parse().map_err(|_| form())?;
    let scaled = match factor(suffix).ok_or_else(form)? {
        Factor::Times(by) => digits.checked_mul(by).and_then(|product| product.checked_mul(1_000_000_000)),
        Factor::Ten(power) => {
            // One thousand-millionth is ten to the minus nine.
            let power = power + 9;
            if power >= 0 {
                10_u128.checked_pow(power.unsigned_abs()).and_then(|by| digits.checked_mul(by))
            } else {
                Some(10_u128.checked_pow(power.unsigned_abs()).map_or(0, |by| digits.div_ceil(by)))
            }
        }
    };
    let parts = u32::try_from(after.len()).map_err(|_| form())?;
    Ok(scaled.ok_or_else(too_large)?.div_ceil(10_u128.pow(parts)))
}

enum Factor {
    Times(u128),
    Ten(i32),
}

fn factor(suffix: &str) -> Option<Factor> {
    Some(match suffix {
        "" => Factor::Ten(0),
        "n" => Factor::Ten(-9),
        "u" => Factor::Ten(-6),
        "m" => Factor::Ten(-3),
        "k" => Factor::Ten(3),
        "M" => Factor::Ten(6),
        "G" => Factor::Ten(9),
        "T" => Factor::Ten(12),
        "P" => Factor::Ten(15),
        "E" => Factor::Ten(18),
        "Ki" => Factor::Times(1 << 10),
        "Mi" => Factor::Times(1 << 20),
        "Gi" => Factor::Times(1 << 30),
        "Ti" => Factor::Times(1 << 40),
        "Pi" => Factor::Times(1 << 50),
        "Ei" => Factor::Times(1 << 60),
        _ => {
            let power = suffix.strip_prefix(['e', 'E'])?;
            // Anything beyond is no amount of anything.
            Factor::Ten(power.parse::<i32>().ok().filter(|power| (-30..=30).contains(power))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn amounts_are_read_exactly_and_rounded_up() {
        let cases =
            [("2", 2000), ("500m", 500), ("0.1", 100), ("1u", 1), ("1e3", 1_000_000), ("1.5k", 1_500_000)];
        for (text, thousandths) in cases {
            assert_eq!(millis(&of(text)), Ok(thousandths), "{text}");
        }
        for (text, units) in
            [("1.5Gi", 3 << 29), ("100m", 1), ("1E", 1_000_000_000_000_000_000), ("1e-3", 1), ("0", 0)]
        {
            assert_eq!(whole(&of(text)), Ok(units), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-1", "1..2", "1x", "Gi", "1e99", "1e", "0x10", " 1", "1 ", &"9".repeat(40)] {
            assert!(millis(&of(text)).is_err(), "{text}");
        }
        assert_eq!(whole(&of("99Ei")), Err(QuantityError::TooLarge("99Ei".to_owned())));
    }
}
