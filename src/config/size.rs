//! Sizes in bytes as people write them: `32KiB`, `1MiB`, `32k`, or a plain number of bytes.

use super::fault::Complaint;
use super::raw::quote;

/// Units are powers of two whatever their spelling; `KB` is left out because half of its readers
/// would mean 1000.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("k", 1 << 10),
    ("MiB", 1 << 20),
    ("m", 1 << 20),
    ("GiB", 1 << 30),
    ("g", 1 << 30),
];

/// Reads a size in bytes.
pub(super) fn parse(text: &str) -> Result<u64, Complaint> {
    let letters = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let bytes = text.split_at_checked(letters).and_then(|(number, unit)| {
        let number: u64 = number.parse().ok()?;
        let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
        number.checked_mul(*factor)
    });
    bytes.ok_or_else(|| {
        Complaint::new(format!("{} is not a size in bytes", quote(text)))
            .with_remedy("try `\"32KiB\"`, `\"1MiB\"` or a number of bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("32KiB", 32_768),
            ("32 KiB", 32_768),
            ("32k", 32_768),
            ("32K", 32_768),
            ("1MiB", 1_048_576),
            ("1m", 1_048_576),
            ("4GiB", 4_294_967_296),
            ("1g", 1_073_741_824),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "1KB",
            "1.5k",
            "1TiB",
            "1kk",
            "99999999999999999999",
            "18014398509481984k",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
