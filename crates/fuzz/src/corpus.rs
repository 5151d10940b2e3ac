//! The corpus: one file a target, one input a line, in hexadecimal.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Where the corpus is. Cargo says where this crate is when it runs a program of it; where it was
/// when the program was built may be another clone, with which builds are shared.
#[must_use]
pub fn directory() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own.filter(|own| own.ends_with("crates/fuzz"));
    own.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR"))).join("corpus")
}

/// The file of a target.
#[must_use]
pub fn file(target: &str) -> PathBuf {
    directory().join(format!("{target}.txt"))
}

/// The inputs that are kept for a target; none if there is no file.
///
/// # Errors
/// If the file cannot be read, or a line is none.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let path = file(target);
    if !path.exists() {
        return Ok(Vec::new());
    }
    parse(&std::fs::read_to_string(&path)?)
        .map_err(|line| io::Error::other(format!("{}:{line}: not hexadecimal", path.display())))
}

fn parse(text: &str) -> Result<Vec<Vec<u8>>, usize> {
    let lines = (1..).zip(text.lines());
    let inputs = lines.filter(|(_, line)| !line.starts_with('#'));
    inputs.map(|(number, line)| from_hex(line).ok_or(number)).collect()
}

/// Writes the inputs, shortest first; what has a reason before it in the file stays in front.
///
/// # Errors
/// If the file cannot be read or written.
pub fn write(target: &str, inputs: &[Vec<u8>]) -> io::Result<()> {
    let path = file(target);
    let mut text = kept_with_reason(&path)?;
    let known = parse(&text).unwrap_or_default();
    let mut inputs: Vec<&Vec<u8>> = inputs.iter().filter(|input| !known.contains(input)).collect();
    inputs.sort_by_key(|input| (input.len(), input.as_slice()));
    inputs.dedup();
    for input in inputs {
        text += &to_hex(input);
        text.push('\n');
    }
    std::fs::create_dir_all(directory())?;
    std::fs::write(path, text)
}

/// The lines with `#`, and the line behind each run of them.
fn kept_with_reason(path: &Path) -> io::Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    let text = std::fs::read_to_string(path)?;
    let mut kept = String::new();
    let mut has_reason = false;
    for line in text.lines() {
        let is_reason = line.starts_with('#');
        if is_reason || has_reason {
            kept += line;
            kept.push('\n');
        }
        has_reason = is_reason;
    }
    Ok(kept)
}

/// Two digits a byte.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// The reverse of [`to_hex`]; `None` for anything else.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for bad in ["0", "0g", "0x", "é"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_are_inputs_and_reasons() {
        assert_eq!(parse("# why\n00ff\n\n7f\n"), Ok(vec![vec![0, 255], vec![], vec![127]]));
        assert_eq!(parse("00\nxx\n"), Err(2));
    }
}
