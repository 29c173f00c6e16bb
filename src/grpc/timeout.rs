//! Pure. `grpc-timeout`: at most eight digits and a unit.

use std::fmt;
use std::time::Duration;

/// What is wrong with a timeout, in grpc-go's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimeoutError {
    TooShort,
    TooLong,
    Unit { got: u8 },
    Digits,
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeoutError::TooShort => f.write_str("transport: timeout string is too short"),
            TimeoutError::TooLong => f.write_str("transport: timeout string is too long"),
            TimeoutError::Unit { got } => {
                write!(
                    f,
                    "transport: timeout unit is not recognized: {:?}",
                    char::from(*got)
                )
            }
            TimeoutError::Digits => f.write_str("transport: timeout is not a number"),
        }
    }
}

impl std::error::Error for TimeoutError {}

const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The time that `grpc-timeout` says. Strict: digits and one unit, nothing else.
pub fn parse_timeout(text: &[u8]) -> Result<Duration, TimeoutError> {
    let (&unit, digits) = text.split_last().ok_or(TimeoutError::TooShort)?;
    if digits.is_empty() {
        return Err(TimeoutError::TooShort);
    }
    if digits.len() > 8 {
        return Err(TimeoutError::TooLong);
    }
    let (_, nanos) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(TimeoutError::Unit { got: unit })?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(TimeoutError::Digits);
    }
    let count = digits
        .iter()
        .fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(Duration::from_nanos(count.saturating_mul(*nanos)))
}

/// The finest form of a timeout that has at most eight digits, rounded up.
pub fn format_timeout(time: Duration) -> String {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    for (name, unit) in UNITS {
        let count = nanos.div_ceil(unit);
        if count < 100_000_000 {
            return format!("{count}{}", char::from(name));
        }
    }
    // 2^64 nanoseconds are five million hours.
    unreachable!("hours always fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a timeout read a thousand times too long, or nonsense read as one.
    #[test]
    fn timeouts_are_strict() {
        for (text, nanos) in [
            ("1n", 1),
            ("20u", 20_000),
            ("5000m", 5_000_000_000),
            ("7S", 7_000_000_000),
            ("1M", 60_000_000_000),
            ("99999999H", u64::MAX),
            ("0S", 0),
        ] {
            assert_eq!(
                parse_timeout(text.as_bytes()),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        for (text, error) in [
            ("", TimeoutError::TooShort),
            ("S", TimeoutError::TooShort),
            ("123456789S", TimeoutError::TooLong),
            ("5s", TimeoutError::Unit { got: b's' }),
            ("5", TimeoutError::TooShort),
            ("55", TimeoutError::Unit { got: b'5' }),
            ("+5S", TimeoutError::Digits),
            ("-5S", TimeoutError::Digits),
            ("1.5S", TimeoutError::Digits),
            (" 5S", TimeoutError::Digits),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Err(error), "{text}");
        }
    }

    // Catches: a formatted timeout that the parser refuses or that is shorter than asked.
    #[test]
    fn formatted_timeouts_parse_back() {
        for shift in 0..64 {
            let time = Duration::from_nanos(u64::MAX >> shift);
            let back = parse_timeout(format_timeout(time).as_bytes());
            assert!(back.is_ok_and(|back| back >= time), "{time:?}");
        }
    }
}
