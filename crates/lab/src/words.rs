//! Numbers and names in sentences.
//!
//! A process has one name wherever it is spoken of: that of its [`NodeId`], `n0` first, as on the page, in scripts and
//! in JSON. What a protocol calls it by itself (a replica's id, a place) does not get into a sentence.

use crate::process::NodeId;

/// So many of something: `1 vote`, `2 votes`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Names one after the other, as a sentence has them: `n0`, `n0 and n2`, `n0, n2 and n3`; `nobody`.
pub(crate) fn names(nodes: impl IntoIterator<Item = NodeId>) -> String {
    listed(nodes.into_iter().map(|node| node.to_string()).collect())
        .unwrap_or_else(|| "nobody".to_owned())
}

/// Things one after the other, as a sentence has them.
pub(crate) fn listed(mut all: Vec<String>) -> Option<String> {
    let last = all.pop()?;
    Some(if all.is_empty() { last } else { format!("{} and {last}", all.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_and_named_reads_as_prose() {
        assert_eq!(
            ("1 vote", "2 votes"),
            (&*count(1, "vote", "votes"), &*count(2, "vote", "votes"))
        );
        let first = |n| names(NodeId::all(n));
        assert_eq!("nobody n0 n0 and n1 n0, n1 and n2", [0, 1, 2, 3].map(first).join(" "));
    }
}
