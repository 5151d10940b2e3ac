//! How answers look: etcdctl's four formats, to the byte.
//!
//! Every answer knows its `simple`, `fields` and `json` form ([`Show`]); the few that etcdctl can
//! put into a table also have rows. Nothing here writes: a command gets text and prints it once.

pub(crate) mod cluster;
pub(crate) mod json;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod text;

use crate::exit::{Exit, Result};
use json::Json;

/// A format for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// For people and shell scripts: keys and values, one a line.
    #[default]
    Simple,
    /// Every field on a line of its own, quoted.
    Fields,
    /// One JSON object a line.
    Json,
    /// A table, for what is tabular.
    Table,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "simple" => Ok(Self::Simple),
            "fields" => Ok(Self::Fields),
            "json" => Ok(Self::Json),
            "table" => Ok(Self::Table),
            _ => Err("one of simple, fields, json, table".to_owned()),
        }
    }
}

/// What the user said about the looks of answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) format: Format,
    /// Keys and values as `\x..` in the simple format, ids as hexadecimal in JSON lists of
    /// members.
    pub(crate) hex: bool,
    /// Only values, in the simple format.
    pub(crate) value_only: bool,
}

/// An answer that can be shown in any format.
pub(crate) trait Show {
    fn simple(&self, style: Style, out: &mut String);
    fn fields(&self, out: &mut String);
    fn json(&self, style: Style) -> Json;
    /// Headings and rows, if this answer has a table.
    fn table(&self) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
        None
    }
}

/// The text of an answer, its newline included.
///
/// # Errors
/// If the answer has no table and one is asked for.
pub(crate) fn shown(answer: &impl Show, style: Style) -> Result<String> {
    let mut out = String::new();
    match style.format {
        Format::Simple => answer.simple(style, &mut out),
        Format::Fields => answer.fields(&mut out),
        Format::Json => {
            out = answer.json(style).to_string();
            out.push('\n');
        }
        Format::Table => match answer.table() {
            Some((headings, rows)) => out = text::table(headings, &rows),
            None => return Err(Exit::bad_feature("table not supported as output format")),
        },
    }
    Ok(out)
}

/// Shows an answer on stdout.
///
/// # Errors
/// As [`shown`], or if stdout is closed.
pub(crate) fn print(answer: &impl Show, style: Style) -> Result<()> {
    put(&shown(answer, style)?)
}

/// Writes text to stdout at once.
///
/// # Errors
/// If stdout is closed.
pub(crate) fn put(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Exit::io)
}
