//! Small pieces of text as Go's libraries print them: quoted strings, sizes, durations, tables.

use std::fmt::Write as _;
use std::time::Duration;

/// Go's `%q`: quoted, with what is not printable escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, &mut out);
        }
        for byte in chunk.invalid() {
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn quote_char(c: char, out: &mut String) {
    let code = u32::from(c);
    let _infallible = match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\u{7}' => out.write_str("\\a"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\u{b}' => out.write_str("\\v"),
        ' ' => out.write_char(' '),
        c if code < 0x80 && c.is_control() => write!(out, "\\x{code:02x}"),
        c if c.is_control() || c.is_whitespace() => write!(out, "\\u{code:04x}"),
        c => out.write_char(c),
    };
}

/// Bytes as etcdctl's `--hex` shows them: `\x6b\x65\x79`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 4), |mut out, byte| {
        let _infallible = write!(out, "\\x{byte:02x}");
        out
    })
}

/// A size in SI units: `20 kB`, `1.5 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A duration as Go prints it: `1.5ms`, `2.000001s`, `1m5s`.
pub(crate) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", nanos % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", nanos / unit)
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => scaled(1_000_000_000, "s"),
        _ => {
            let (minutes, rest) = (duration.as_secs() / 60, duration.as_secs() % 60);
            match minutes / 60 {
                0 => format!("{minutes}m{rest}s"),
                hours => format!("{hours}h{}m{rest}s", minutes % 60),
            }
        }
    }
}

/// Reads a duration as Go writes one: `5s`, `1m30s`, `250ms`, `1.5h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("bad duration {text:?}: expected something like 5s, 250ms or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..number_end].parse().map_err(|_| bad())?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        seconds += number * unit;
        rest = &rest[unit_end..];
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Duration::try_from_secs_f64(seconds).map_err(|_| bad())
    }
}

/// A table with rules, headings in the middle and cells to the right.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let rule = widths.iter().fold(String::new(), |mut out, width| {
        out.push('+');
        out.push_str(&"-".repeat(width + 2));
        out
    }) + "+\n";
    let mut out = rule.clone();
    for (heading, width) in headings.iter().zip(&widths) {
        let left = (width - heading.len()) / 2;
        let right = width - heading.len() - left;
        let _infallible = write!(out, "| {:left$}{heading}{:right$} ", "", "");
    }
    out.push_str("|\n");
    out.push_str(&rule);
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _infallible = write!(out, "| {cell:>width$} ");
        }
        out.push_str("|\n");
    }
    if !rows.is_empty() {
        out.push_str(&rule);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        assert_eq!(quoted(b"a\"b\\c\n\t\x01\x7f"), r#""a\"b\\c\n\t\x01\x7f""#);
        assert_eq!(quoted("é\u{a0}".as_bytes()), "\"é\\u00a0\"");
        assert_eq!(quoted(b"\xff\xfeok"), r#""\xff\xfeok""#);
    }

    #[test]
    fn sizes_are_si_and_rounded_to_even() {
        let cases = [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (1_500_000, "1.5 MB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_go_both_ways() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_micros(4_890), "4.89ms"),
            (Duration::from_millis(2_000), "2s"),
            (Duration::from_secs(65), "1m5s"),
            (Duration::from_secs(3600), "1h0m0s"),
        ];
        for (value, text) in cases {
            assert_eq!(duration(value), text);
            assert_eq!(parse_duration(text), Ok(value));
        }
        for bad in ["", "5", "s", "5x", "1.2.3s", "-5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_has_headings_in_the_middle_and_cells_to_the_right() {
        let table = table(&["ID", "NAME"], &[vec!["abcdef".into(), "x".into()]]);
        let expected = "+--------+------+\n|   ID   | NAME |\n+--------+------+\n\
                        | abcdef |    x |\n+--------+------+\n";
        assert_eq!(table, expected);
    }
}
