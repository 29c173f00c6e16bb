//! Pure. Results as JSON (for machines) and as text (for people), from one value.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// A JSON value. Objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn number(value: f64) -> Json {
        if value.is_finite() {
            Json::Number(value)
        } else {
            Json::Null
        }
    }

    pub fn text(value: impl Into<String>) -> Json {
        Json::Text(value.into())
    }

    pub fn object<const N: usize>(fields: [(&str, Json); N]) -> Json {
        Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
        )
    }

    pub fn push(&mut self, name: &str, value: Json) {
        if let Json::Object(fields) = self {
            fields.push((name.to_string(), value));
        }
    }

    /// The value at a path of names, `None` where there is none.
    pub fn at(&self, path: &str) -> Option<&Json> {
        path.split('.').try_fold(self, |value, name| match value {
            Json::Object(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        })
    }

    pub fn number_at(&self, path: &str) -> Option<f64> {
        match self.at(path) {
            Some(Json::Number(value)) => Some(*value),
            _ => None,
        }
    }

    /// Lines of `name  value`, nested names joined by dots.
    pub fn as_text(&self) -> String {
        let mut lines = Vec::new();
        self.lines("", &mut lines);
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in lines {
            let _ = writeln!(text, "{name:width$}  {value}");
        }
        text
    }

    fn lines(&self, name: &str, out: &mut Vec<(String, String)>) {
        match self {
            Json::Object(fields) => {
                for (field, value) in fields {
                    let dot = if name.is_empty() { "" } else { "." };
                    value.lines(&format!("{name}{dot}{field}"), out);
                }
            }
            Json::List(list) => {
                for (i, value) in list.iter().enumerate() {
                    value.lines(&format!("{name}[{i}]"), out);
                }
            }
            Json::Text(text) => out.push((name.to_string(), text.clone())),
            other => out.push((name.to_string(), other.to_string())),
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Number(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                write!(f, "{}", *value as i64)
            }
            Json::Number(value) => write!(f, "{value:.3}"),
            Json::Text(text) => quote(f, text),
            Json::List(list) => {
                f.write_str("[")?;
                for (i, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    quote(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quote(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

/// Latencies in nanoseconds, from 1 µs to a minute with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

/// The percentiles of a histogram in microseconds.
pub fn latency(histogram: &Histogram<u64>) -> Json {
    let at = |q| Json::number(histogram.value_at_quantile(q) as f64 / 1e3);
    Json::object([
        ("p50_us", at(0.5)),
        ("p90_us", at(0.9)),
        ("p99_us", at(0.99)),
        ("p99_9_us", at(0.999)),
        ("max_us", Json::number(histogram.max() as f64 / 1e3)),
        ("mean_us", Json::number(histogram.mean() / 1e3)),
    ])
}

/// The middle value, the smallest and the largest; `None` of nothing.
pub fn median_and_range(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    };
    Some((median, first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: text that no JSON reader takes, or a number in a form of Rust's own.
    #[test]
    fn json_is_written_as_readers_expect() {
        let value = Json::object([
            ("a\"b", Json::text("x\n\\")),
            (
                "n",
                Json::List(vec![
                    Json::number(1.0),
                    Json::number(0.5),
                    Json::number(f64::NAN),
                ]),
            ),
            ("o", Json::object([("p", Json::number(2.0))])),
        ]);
        assert_eq!(
            value.to_string(),
            r#"{"a\"b":"x\u000a\\","n":[1,0.500,null],"o":{"p":2}}"#
        );
        assert_eq!(value.number_at("o.p"), Some(2.0));
        assert_eq!(value.number_at("o.q"), None);
    }

    // Catches: a median of an even count that is one of the two.
    #[test]
    fn medians() {
        assert_eq!(median_and_range(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(
            median_and_range(&[4.0, 1.0, 2.0, 3.0]),
            Some((2.5, 1.0, 4.0))
        );
        assert_eq!(median_and_range(&[]), None);
    }
}
