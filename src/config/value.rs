//! Pure. One value of a flag: text in, typed value out, with the grammar of Go's flag package.

use super::gates::FeatureGates;
use super::url::{Url, UrlError, UrlList};
use std::fmt;
use std::time::Duration;

/// Why a text is not a value of its flag. The texts are those that etcd's operators know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueError {
    /// Not of the type's grammar.
    Syntax,
    /// A number that the type cannot hold.
    Range,
    /// Not one of the words that the flag knows.
    Word,
    Url(UrlError),
    Gate(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Syntax => f.write_str("parse error"),
            ValueError::Range => f.write_str("value out of range"),
            ValueError::Word => f.write_str("invalid value"),
            ValueError::Url(error) => error.fmt(f),
            ValueError::Gate(text) => f.write_str(text),
        }
    }
}

impl From<UrlError> for ValueError {
    fn from(error: UrlError) -> ValueError {
        ValueError::Url(error)
    }
}

/// A type of flag.
pub(super) trait Value: Sized {
    /// A bare `--flag` means true, and the next argument is not its value.
    const BARE: bool = false;
    /// A whole number in a config file is nanoseconds.
    const NANOSECONDS: bool = false;

    fn parse(text: &str) -> Result<Self, ValueError>;
}

impl Value for String {
    fn parse(text: &str) -> Result<String, ValueError> {
        Ok(text.to_owned())
    }
}

impl Value for bool {
    const BARE: bool = true;

    fn parse(text: &str) -> Result<bool, ValueError> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(ValueError::Syntax),
        }
    }
}

impl Value for u64 {
    fn parse(text: &str) -> Result<u64, ValueError> {
        let (digits, radix) = match text.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&text[2..], 16),
            [b'0', b'b' | b'B', ..] => (&text[2..], 2),
            [b'0', b'o' | b'O', ..] => (&text[2..], 8),
            [b'0', _, ..] => (&text[1..], 8),
            _ => (text, 10),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(ValueError::Syntax);
        }
        u64::from_str_radix(digits, radix).map_err(|_| ValueError::Range)
    }
}

impl Value for u32 {
    fn parse(text: &str) -> Result<u32, ValueError> {
        u32::try_from(u64::parse(text)?).map_err(|_| ValueError::Range)
    }
}

impl Value for i64 {
    fn parse(text: &str) -> Result<i64, ValueError> {
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let size = i128::from(u64::parse(digits)?);
        i64::try_from(if negative { -size } else { size }).map_err(|_| ValueError::Range)
    }
}

impl Value for Duration {
    const NANOSECONDS: bool = true;

    /// Go's durations that are not negative: `1h2m3.5s`, `100ms`, `0`.
    fn parse(text: &str) -> Result<Duration, ValueError> {
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Duration::ZERO);
        }
        if rest.is_empty() {
            return Err(ValueError::Syntax);
        }
        let mut total_ns: u128 = 0;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => digits(after),
                None => ("", after),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(ValueError::Syntax);
            }
            let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit());
            let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
            let unit_ns: u128 = match unit {
                "ns" => 1,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(ValueError::Syntax),
            };
            // Go's limit: an i64 of nanoseconds. 19 digits are beyond it in any unit.
            if whole.len() > 19 {
                return Err(ValueError::Syntax);
            }
            let fraction = &fraction[..fraction.len().min(18)];
            let number = |text: &str| text.parse::<u128>().unwrap_or(0);
            total_ns += number(whole) * unit_ns;
            total_ns += number(fraction) * unit_ns / 10u128.pow(fraction.len() as u32);
            rest = after;
        }
        match i64::try_from(total_ns) {
            Ok(ns) => Ok(Duration::from_nanos(ns as u64)),
            Err(_) => Err(ValueError::Syntax),
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// A duration given as a whole number of milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis(pub Duration);

impl Value for Millis {
    fn parse(text: &str) -> Result<Millis, ValueError> {
        Ok(Millis(Duration::from_millis(u64::parse(text)?)))
    }
}

impl Value for UrlList {
    fn parse(text: &str) -> Result<UrlList, ValueError> {
        if text.is_empty() {
            return Ok(UrlList::default());
        }
        Ok(UrlList::new(
            text.split(',').map(Url::parse).collect::<Result<_, _>>()?,
        ))
    }
}

impl Value for Vec<String> {
    /// Words between commas.
    fn parse(text: &str) -> Result<Vec<String>, ValueError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Ok(text.split(',').map(|word| word.trim().to_owned()).collect())
    }
}

impl Value for FeatureGates {
    fn parse(text: &str) -> Result<FeatureGates, ValueError> {
        FeatureGates::parse(text).map_err(|error| ValueError::Gate(error.to_string()))
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($variant,)*
        }

        impl Value for $name {
            fn parse(text: &str) -> Result<$name, ValueError> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(ValueError::Word),
                }
            }
        }
    };
}

words! {
    /// Whether a member begins a cluster or joins one.
    ClusterState { New = "new", Existing = "existing" }
}
words! {
    /// How much is measured.
    MetricsDetail { Basic = "basic", Extensive = "extensive" }
}
words! {
    /// Which world a core runs in.
    RuntimeChoice { Auto = "auto", Ring = "ring", Glommio = "glommio" }
}
words! {
    /// The least serious level that is logged.
    LogLevel {
        Debug = "debug",
        Info = "info",
        Warn = "warn",
        Error = "error",
        Panic = "panic",
        Fatal = "fatal",
    }
}
words! {
    /// A TLS protocol version, or the library's choice.
    TlsVersion { Default = "", Tls12 = "TLS1.2", Tls13 = "TLS1.3" }
}
