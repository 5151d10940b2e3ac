//! A scan of Rust sources by token: enough to blank comments, literals and test items, and to find names.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// Tokens that mean a clock, a thread, or randomness that no seed controls.
const FORBIDDEN: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "thread::",
    "thread_rng",
    "rand::rng(",
    "rand::random",
    "from_os_rng",
    "from_entropy",
    "getrandom",
    "RandomState",
];

const HASHED: &[&str] = &["HashMap", "HashSet"];

/// Calls that walk a collection in its own order.
const WALKS: &[&str] = &[
    "iter()",
    "iter_mut()",
    "keys()",
    "values()",
    "values_mut()",
    "into_iter()",
    "into_keys()",
    "into_values()",
    "drain()",
    "retain(",
];

/// Forbidden uses in [`production_code`]: the line, counted from 1, and what was found there.
pub(crate) fn forbidden(code: &str) -> Vec<(usize, String)> {
    let hashed = hashed_names(code);
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for token in FORBIDDEN {
            if line.contains(token) {
                found.push((index + 1, (*token).to_owned()));
            }
        }
        for name in &hashed {
            if walks(line, name) {
                found.push((index + 1, format!("iteration over the hash collection `{name}`")));
            }
        }
    }
    found
}

/// Names declared in this file with a hash collection as their type or first value.
fn hashed_names(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in code.lines() {
        for kind in HASHED {
            for (at, _) in line.match_indices(kind) {
                let before = line[..at]
                    .trim_end_matches(|c: char| c.is_alphanumeric() || c == ':' || c == '_');
                let before = before
                    .trim_end()
                    .trim_end_matches("mut")
                    .trim_end()
                    .trim_end_matches('&')
                    .trim_end();
                let before = before.strip_suffix([':', '=']).unwrap_or(before).trim_end();
                let name: String =
                    before.chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let name: String = name.chars().rev().collect();
                if !name.is_empty()
                    && name != "use"
                    && name.starts_with(|c: char| c.is_lowercase() || c == '_')
                {
                    names.insert(name);
                }
            }
        }
    }
    names
}

fn walks(line: &str, name: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        if is_word(before.chars().next_back()) || is_word(after.chars().next()) {
            return false;
        }
        let called = after
            .strip_prefix('.')
            .is_some_and(|rest| WALKS.iter().any(|walk| rest.starts_with(walk)));
        let before =
            before.trim_end_matches("self.").trim_end_matches("mut ").trim_end_matches('&');
        let looped = before.ends_with(" in ") && after.trim_start().starts_with('{');
        called || looped
    })
}

/// The text with comments, literals and `#[cfg(test)]` items blanked; lines stay where they are.
pub(crate) fn production_code(text: &str) -> String {
    let mut code = blank_literals(text);
    while let Some(at) = code.find("#[cfg(test)]") {
        let end = item_end(&code, at + "#[cfg(test)]".len());
        let blanked: String =
            code[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(at..end, &blanked);
    }
    code
}

/// Where the item that starts after `from` ends: its `;`, or the brace that closes its first one.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in code[from..].char_indices() {
        match c {
            ';' if depth == 0 => return from + offset + 1,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return from + offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Blanks comments, string, byte-string, raw-string and character literals.
fn blank_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let starts = |what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        return (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len());
    }
    if starts("/*") {
        return comment_end(chars, at);
    }
    if chars[at] == 'r' && (!word_before || chars[at - 1] == 'b') {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if chars.get(at + 1 + hashes) == Some(&'"') {
            return raw_end(chars, at + 2 + hashes, hashes);
        }
    }
    if chars[at] == '"' {
        return quoted_end(chars, at + 1, '"');
    }
    if chars[at] == '\'' {
        // A lifetime has no closing quote two characters on; a character literal has, or it is escaped.
        let escaped = chars.get(at + 1) == Some(&'\\');
        if escaped || chars.get(at + 2) == Some(&'\'') {
            return quoted_end(chars, at + 1, '\'');
        }
    }
    at
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_end(chars: &[char], from: usize, hashes: usize) -> usize {
    (from..chars.len())
        .find(|i| chars[*i] == '"' && (1..=hashes).all(|h| chars.get(i + h) == Some(&'#')))
        .map_or(chars.len(), |i| i + 1 + hashes)
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

/// Files that hold nothing but tests: those that a `#[cfg(test)] mod name;` brings in, and what is below them.
pub(crate) fn test_files<'a>(files: &[&'a str], root: &Path) -> Result<BTreeSet<&'a str>> {
    let mut modules = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).with_context(|| (*file).to_owned())?;
        let code = blank_literals(&text);
        let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
        let base = match stem {
            "lib" | "main" | "mod" => parent.to_owned(),
            _ => format!("{parent}/{stem}"),
        };
        for part in code.split("#[cfg(test)]").skip(1) {
            let item = part.split([';', '{']).next().unwrap_or_default();
            if let Some(name) = item.split_whitespace().skip_while(|word| *word != "mod").nth(1) {
                modules.push(format!("{base}/{name}"));
            }
        }
    }
    let below = |file: &str| {
        modules.iter().any(|module| {
            file.strip_prefix(module.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    Ok(files.iter().copied().filter(|file| below(file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        forbidden(&production_code(text))
    }

    #[test]
    fn clocks_and_threads_are_found_on_their_line() {
        let found = found("fn a() {}\nfn b() { let t = std::time::Instant::now(); }\n");
        assert_eq!(found, [(2, "Instant::now".to_owned())]);
    }

    #[test]
    fn comments_literals_and_tests_are_not_code() {
        let text = "// Instant::now\n/* SystemTime /* x */ */ const A: &str = \"thread::\"; const R: &str = \
                    r#\"thread::\"#;\nconst C: char = '\"';\n#[cfg(test)]\nmod tests {\n fn f() { \
                    std::thread::spawn(|| {}); }\n}\n";
        assert_eq!(found(text), []);
    }

    #[test]
    fn code_after_a_test_module_is_code() {
        let text = "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { SystemTime::now(); }\n";
        assert_eq!(found(text).len(), 1);
    }

    #[test]
    fn lifetimes_do_not_open_a_literal() {
        assert_eq!(found("fn f<'a>(x: &'a str) { Instant::now(); }").len(), 1);
    }

    #[test]
    fn walking_a_hash_map_is_found_and_looking_up_is_not() {
        let text = "struct S { by_id: HashMap<u64, u64>, tree: BTreeMap<u64, u64> }\n\
                    fn f(s: &S) { s.by_id.get(&1); for x in s.tree.keys() {} }\n\
                    fn g(&self) { for (k, v) in &self.by_id {} }\n\
                    fn h(&self) { self.by_id.values().sum() }\n\
                    fn i() { let mut seen = HashSet::new(); seen.insert(1); seen.retain(|x| true); }\n";
        let lines: Vec<usize> = found(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }
}
