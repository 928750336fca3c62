//! Quantities of Kubernetes: `500m`, `1.5`, `64Mi`, `2e3`, in thousandths.

use std::fmt;

/// An amount of a resource, in thousandths of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity {
    /// Thousandths of a processor, of a byte, of a piece.
    pub milli: i128,
}

/// The text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity: digits, at most one point, and a suffix such as m, k, M, Gi or e3")]
pub struct QuantityError(String);

impl Quantity {
    /// So many whole units.
    pub fn units(units: u64) -> Self {
        Self { milli: i128::from(units) * 1000 }
    }

    /// Reads a quantity; parts of a thousandth are rounded up, as Kubernetes does.
    ///
    /// # Errors
    /// It is none, negative, or beyond all reason.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError(text.chars().take(50).collect());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, suffix) = text.split_at(end);
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if digits.is_empty() || digits == "." || part.len() > 9 || part.contains('.') || whole.len() > 20 {
            return Err(wrong());
        }
        let (top, bottom) = factor(suffix).ok_or_else(wrong)?;
        let scale = 10_i128.pow(u32::try_from(part.len()).map_err(|_| wrong())?);
        let number: i128 = format!("{whole}{part}").parse().map_err(|_| wrong())?;
        let product =
            number.checked_mul(top).and_then(|number| number.checked_mul(1000)).ok_or_else(wrong)?;
        let divisor = scale * bottom;
        Ok(Self { milli: product / divisor + i128::from(product % divisor != 0) })
    }

    /// Whole units, rounded up; `u64::MAX` at most.
    pub fn whole(self) -> u64 {
        let up = self.milli / 1000 + i128::from(self.milli % 1000 > 0);
        u64::try_from(up).unwrap_or(u64::MAX)
    }

    /// Thousandths, as far as they fit.
    pub fn thousandths(self) -> u64 {
        u64::try_from(self.milli).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli % 1000 == 0 { write!(f, "{}", self.milli / 1000) } else { write!(f, "{}m", self.milli) }
    }
}

/// By what a suffix multiplies and divides.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
    match suffix {
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "" => Some((1, 1)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let power: i32 =
                suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|power| (-9..=18).contains(power))?;
            let size = 10_i128.pow(power.unsigned_abs());
            Some(if power < 0 { (1, size) } else { (size, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let milli = |text: &str| Quantity::parse(text).unwrap().milli;
        assert_eq!(milli("500m"), 500);
        assert_eq!(milli("1.5"), 1500);
        assert_eq!(milli("64Mi"), 64 * 1024 * 1024 * 1000);
        assert_eq!(milli("2e3"), 2_000_000);
        assert_eq!(milli("1n"), 1);
        assert_eq!(milli("0.5Gi"), 512 * 1024 * 1024 * 1000);
        assert_eq!(Quantity::parse("1500m").unwrap().whole(), 2);
        assert_eq!(Quantity::units(3).to_string(), "3");
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "-1", "+1", "1.2.3", "1 Gi", "Gi", "1e99", "ten", ".", "1ki", "999999999999999999999"]
        {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
    }
}
