//! What a script of etcdctl printed, in a form in which two runs on two servers can be compared.
//!
//! Made alike: addresses of members (by their names), ids (by the order in which they first come up), paths of the
//! cluster's directory, times, and whatever a script declares to be volatile, by field. Everything else, revisions
//! above all, stays as it was printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Fields of JSON output whose numbers belong to one server and one moment.
const VOLATILE: &[&str] = &[
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "raft_index",
    "raft_applied_index",
    "dbSize",
    "dbSizeInUse",
    "db_size",
    "hash",
    "totalSize",
    "remaining-ttl",
    "ttl",
];

/// Hexadecimal ids have so many digits, or a few less.
const HEX_DIGITS: std::ops::RangeInclusive<usize> = 13..=16;
/// Decimal ids of 64 bits.
const DECIMAL_DIGITS: std::ops::RangeInclusive<usize> = 16..=20;

/// The names that stand for what differs.
#[derive(Debug, Default, Clone)]
pub struct Names {
    replacements: Vec<(String, String)>,
    ids: BTreeMap<u64, String>,
}

impl Names {
    /// Wherever `text` is printed, `name` stands in the transcript; the last name given counts.
    pub fn replace(&mut self, text: &str, name: &str) {
        self.replacements.retain(|(known, _)| known != text);
        self.replacements.push((text.to_owned(), name.to_owned()));
        // The longest first: an address may be the beginning of another.
        self.replacements.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// The id, printed in hex or decimal, has this name.
    pub fn id(&mut self, id: u64, name: &str) {
        self.ids.insert(id, format!("<{name}>"));
    }

    /// The text with everything named.
    pub fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        let mut out = String::with_capacity(text.len());
        let mut word = String::new();
        let mut field = String::new();
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | 'µ') {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                let named = self.word(&word, &field);
                // Some tools pad a short id with spaces.
                let padding =
                    if named == word { 0 } else { HEX_DIGITS.end().saturating_sub(word.len()) };
                for _ in 0..padding {
                    if out.ends_with("  ") {
                        out.pop();
                    }
                }
                out.push_str(&named);
                if c == '"' || c == ':' {
                    field.clone_from(&word);
                } else {
                    field.clear();
                }
                word.clear();
            } else if !matches!(c, '"' | ':') {
                field.clear();
            }
            out.push(c);
        }
        out.pop();
        out
    }

    fn word(&mut self, word: &str, field: &str) -> String {
        let digits = word.chars().all(|c| c.is_ascii_digit());
        if digits && VOLATILE.contains(&field) {
            return "<volatile>".to_owned();
        }
        if let Some(time) = duration(word) {
            return time.to_owned();
        }
        if digits
            && DECIMAL_DIGITS.contains(&word.len())
            && let Ok(id) = word.parse::<u64>()
        {
            return self.name_of(id);
        }
        let hex = word.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        if hex
            && HEX_DIGITS.contains(&word.len())
            && let Ok(id) = u64::from_str_radix(word, 16)
        {
            return self.name_of(id);
        }
        word.to_owned()
    }

    fn name_of(&mut self, id: u64) -> String {
        let next = self.ids.len() + 1;
        self.ids.entry(id).or_insert_with(|| format!("<id {next}>")).clone()
    }
}

/// `12.34ms` and the like; only with a fraction, because whole seconds are often part of the contract.
fn duration(word: &str) -> Option<&'static str> {
    let number = word.trim_end_matches(char::is_alphabetic);
    let unit = &word[number.len()..];
    let is_number = number.contains('.') && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    (is_number && matches!(unit, "s" | "ms" | "us" | "µs" | "ns" | "m" | "h")).then_some("<time>")
}

/// One thing that a script did, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The command, with names.
    pub command: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed, with names.
    pub output: String,
}

/// All that a script did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// In order.
    pub entries: Vec<Entry>,
}

impl Transcript {
    /// The first entry that differs, told with what came before; `None` when all are alike.
    #[must_use]
    pub fn difference(&self, subject: &Self) -> Option<String> {
        let longer = self.entries.len().max(subject.entries.len());
        let at = (0..longer).find(|i| self.entries.get(*i) != subject.entries.get(*i))?;
        let mut text = String::new();
        for entry in &self.entries[at.saturating_sub(4)..at.min(self.entries.len())] {
            let _infallible = writeln!(text, "  {}", show(Some(entry)).replace('\n', "\n  "));
        }
        let _infallible = writeln!(text, "- {}", show(self.entries.get(at)).replace('\n', "\n- "));
        let _infallible =
            writeln!(text, "+ {}", show(subject.entries.get(at)).replace('\n', "\n+ "));
        Some(text)
    }
}

fn show(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "(nothing)".to_owned() };
    let code = entry.code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
    let text = format!("$ {}\n{}[{code}]", entry.command, entry.output);
    text.chars().take(3_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_named_by_their_first_appearance_in_hex_and_decimal() {
        let mut names = Names::default();
        let text = "lease 694d8f5c0e3b7a10 granted with TTL(100s)\n{\"ID\":7587886000000000016}";
        assert_eq!(names.apply(text), "lease <id 1> granted with TTL(100s)\n{\"ID\":<id 2>}");
        assert_eq!(names.apply("694d8f5c0e3b7a10"), "<id 1>");
        let decimal = 0x694d_8f5c_0e3b_7a10_u64.to_string();
        assert_eq!(names.apply(&decimal), "<id 1>");
    }

    #[test]
    fn padding_of_a_short_id_goes() {
        assert_eq!(Names::default().apply("cluster  94d8f5c0e3b7a10"), "cluster <id 1>");
        assert_eq!(Names::default().apply("cluster 694d8f5c0e3b7a10"), "cluster <id 1>");
    }

    #[test]
    fn volatile_fields_go_and_revisions_stay() {
        let mut names = Names::default();
        let text = r#"{"header":{"cluster_id":14841639068965178418,"revision":7,"raft_term":2},"ttl":99,"count":1}"#;
        let expected = r#"{"header":{"cluster_id":<id 1>,"revision":7,"raft_term":<volatile>},"ttl":<volatile>,"count":1}"#;
        assert_eq!(names.apply(text), expected);
    }

    #[test]
    fn addresses_and_times() {
        let mut names = Names::default();
        names.replace("127.0.0.1:1248", "<a>");
        names.replace("127.0.0.1:12481", "<b>");
        assert_eq!(
            names.apply("127.0.0.1:12481 is healthy: took = 2.5ms"),
            "<b> is healthy: took = <time>"
        );
        assert_eq!(names.apply("took = 980.418µs"), "took = <time>");
        assert_eq!(names.apply("remaining(9s)"), "remaining(9s)");
    }

    #[test]
    fn the_first_difference_is_told() {
        let entry =
            |output: &str| Entry { command: "get a".into(), code: Some(0), output: output.into() };
        let a = Transcript { entries: vec![entry("1\n"), entry("2\n")] };
        let b = Transcript { entries: vec![entry("1\n"), entry("3\n")] };
        assert_eq!(a.difference(&a), None);
        assert!(a.difference(&b).unwrap().contains("- 2\n"));
        let shorter = Transcript { entries: vec![entry("1\n")] };
        assert!(shorter.difference(&a).is_some());
        assert!(a.difference(&shorter).is_some());
    }
}
