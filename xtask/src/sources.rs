//! Two habits that a machine can hold us to.
//!
//! - A file stays readable: at most [`LINES_MAX`] lines (the house asks for about 500; this is the wall).
//! - The crates below `node` are deterministic: no clock, thread, unseeded randomness, or iteration over a
//!   hash map in their code. Their tests may use what they like. Exceptions are named here, with a reason.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{program, root};
use crate::scan;

const LINES_MAX: usize = 800;

/// Crates that must be reproducible from their inputs.
const DETERMINISTIC: &[&str] = &[
    "quorum", "history", "env", "bolt", "proto", "http2", "raft", "mvcc", "store", "etcd",
    "storage", "lab",
];

/// Named exceptions: the file, what it may use, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "crates/mvcc/src/engine/conformance.rs",
    "thread::",
    "a test suite for every engine: readers beside a writer",
)];

pub(crate) fn check() -> Result<()> {
    let listing =
        program("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
            .output()?;
    let files: Vec<&str> = listing.lines().filter(|file| root().join(file).exists()).collect();
    let mut faults = Vec::new();
    let test_files = scan::test_files(&files, &root())?;
    let mut scanned = 0_usize;
    for file in &files {
        let text =
            std::fs::read_to_string(root().join(file)).with_context(|| (*file).to_owned())?;
        let lines = text.lines().count();
        if lines > LINES_MAX && !is_generated(file) {
            faults.push(format!("{file}: {lines} lines, more than {LINES_MAX}"));
        }
        if is_deterministic(file) && !is_generated(file) && !test_files.contains(*file) {
            scanned += 1;
            let code = scan::production_code(&text);
            for (line, token) in scan::forbidden(&code) {
                if !EXCEPTIONS
                    .iter()
                    .any(|(excepted, allowed, _)| excepted == file && token == *allowed)
                {
                    faults.push(format!("{file}:{line}: {token} below `node`"));
                }
            }
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{} files, {scanned} of them held to be deterministic", files.len());
    Ok(())
}

fn is_generated(file: &str) -> bool {
    file.contains("/src/gen/")
}

/// Code (not tests, benches or examples) of a deterministic crate.
fn is_deterministic(file: &str) -> bool {
    let mut parts = Path::new(file).components().map(|part| part.as_os_str());
    parts.next().is_some_and(|part| part == "crates")
        && parts.next().is_some_and(|part| DETERMINISTIC.iter().any(|name| part == *name))
        && parts.next().is_some_and(|part| part == "src")
}

#[cfg(test)]
mod tests {
    use super::is_deterministic;

    #[test]
    fn which_files_are_held() {
        assert!(is_deterministic("crates/raft/src/lib.rs"));
        assert!(!is_deterministic("crates/raft/tests/paper.rs"));
        assert!(!is_deterministic("crates/node/src/lib.rs"));
        assert!(!is_deterministic("xtask/src/main.rs"));
    }
}
