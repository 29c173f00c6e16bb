//! Pure. The Prometheus text format 0.0.4, written by hand: a scrape is about two thousand lines
//! and must fit in one slice of a core, so no line allocates.

use super::cell::{Buckets, HistogramTotal};
use std::fmt::Write;

/// Writes families in the order in which they are asked for.
pub(super) struct TextWriter {
    out: String,
    name: &'static str,
}

impl TextWriter {
    pub(super) fn new(size: usize) -> TextWriter {
        TextWriter {
            out: String::with_capacity(size),
            name: "",
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// Starts a family; the samples that follow belong to it.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.out.extend([
            "# HELP ",
            name,
            " ",
            help,
            "\n# TYPE ",
            name,
            " ",
            kind,
            "\n",
        ]);
    }

    /// A sample. `labels` is empty or `{name="value",…}`.
    pub(super) fn sample(&mut self, labels: &str, value: f64) {
        self.out.push_str(self.name);
        self.out.push_str(labels);
        self.value(value);
    }

    /// A whole count as a sample.
    pub(super) fn count(&mut self, labels: &str, value: u64) {
        self.sample(labels, value as f64);
    }

    /// A histogram's samples. `labels` has no braces: `op="put",success="true"`, or nothing.
    pub(super) fn histogram(&mut self, labels: &str, buckets: &Buckets, total: &HistogramTotal) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for index in 0..=buckets.count {
            count += total.cells[index];
            self.out
                .extend([self.name, "_bucket{", labels, comma, "le=\""]);
            if index == buckets.count {
                self.out.push_str("+Inf");
            } else {
                put_float(&mut self.out, buckets.bound(index));
            }
            self.out.push_str("\"}");
            self.value(count as f64);
        }
        let (open, close) = if labels.is_empty() {
            ("", "")
        } else {
            ("{", "}")
        };
        self.out.extend([self.name, "_sum", open, labels, close]);
        self.value(total.sum_raw as f64 / buckets.raw_per_unit);
        self.out.extend([self.name, "_count", open, labels, close]);
        self.value(count as f64);
    }

    fn value(&mut self, value: f64) {
        self.out.push(' ');
        put_float(&mut self.out, value);
        self.out.push('\n');
    }
}

/// Appends `value` as Go prints it: shortest digits, an exponent from 1e+06 on and below 1e-04.
/// Scripts that compare etcd's lines as text find the same text here.
pub(super) fn put_float(out: &mut String, value: f64) {
    if value == 0.0 {
        return out.push('0');
    }
    if !value.is_finite() {
        let text = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        return out.push_str(text);
    }
    let size = value.abs();
    if !(1e-4..1e6).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').expect("the format has an exponent");
        let exponent: i32 = exponent.parse().expect("the exponent is a number");
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
        return;
    }
    let _ = write!(out, "{value}");
}

/// Appends `name="value"` with the escapes of the format.
pub(super) fn put_label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}
