//! Pure. Pieces of etcdctl's text output: quoted bytes, sizes, durations, tables.

use std::fmt::Write as _;
use std::time::Duration;

/// Bytes in double quotes with Go's escapes (`%q`).
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                c if c < ' ' || c == '\u{7f}' => {
                    let _ = write!(out, "\\x{:02x}", c as u32);
                }
                c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' => {
                    let _ = match c as u32 {
                        code @ 0..=0xffff => write!(out, "\\u{code:04x}"),
                        code => write!(out, "\\U{code:08x}"),
                    };
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Every byte as `\x61` (`--hex`).
pub(super) fn hex_escaped(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .fold(String::new(), |out, byte| out + &format!("\\x{byte:02x}"))
        .into_bytes()
}

/// A size with one digit below ten: `29 kB`, `2.1 GB`.
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale = 1i64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let value = (bytes as f64 / scale as f64 * 10.0 + 0.5).floor() / 10.0;
    let name = UNITS[unit];
    if value < 10.0 {
        format!("{value:.1} {name}")
    } else {
        format!("{value:.0} {name}")
    }
}

/// A duration as Go prints it: `1.487256ms`, `501.1µs`, `1m2.5s`.
pub(super) fn duration(time: Duration) -> String {
    let ns = time.as_nanos();
    let fraction = |unit: u128| {
        let rest = format!("{:0width$}", ns % unit, width = unit.ilog10() as usize);
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{}{dot}{rest}", ns / unit)
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(1_000) + "\u{b5}s",
        1_000_000..1_000_000_000 => fraction(1_000_000) + "ms",
        _ => {
            let seconds = time.as_secs();
            let minute = Duration::from_secs(seconds / 60 * 60);
            let within = time.saturating_sub(minute);
            let rest = match within.subsec_nanos() {
                0 => format!("{}s", within.as_secs()),
                nanos => {
                    let nanos = format!("{nanos:09}");
                    format!("{}.{}s", within.as_secs(), nanos.trim_end_matches('0'))
                }
            };
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

/// A table with centred titles and values at the right.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = titles.iter().map(|title| title.to_uppercase()).collect();
    let wide = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().map(|row| wide(&row[column]));
            cells.chain([wide(&titles[column])]).max().unwrap_or(0)
        })
        .collect();
    let rule = |left: char, middle: char, right: char| {
        let cells: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", cells.join(&middle.to_string()))
    };
    let line = |cells: Vec<String>| format!("│{}│\n", cells.join("│"));
    let mut out = rule('┌', '┬', '┐');
    let centred = |(title, width): (&String, &usize)| {
        let spare = width - wide(title);
        format!(
            " {}{title}{} ",
            " ".repeat(spare / 2),
            " ".repeat(spare - spare / 2)
        )
    };
    out += &line(titles.iter().zip(&widths).map(centred).collect());
    out += &rule('├', '┼', '┤');
    for row in rows {
        let right = |(cell, width): (&String, &usize)| {
            format!(" {}{cell} ", " ".repeat(width - wide(cell)))
        };
        out += &line(row.iter().zip(&widths).map(right).collect());
    }
    out + &rule('└', '┴', '┘')
}
