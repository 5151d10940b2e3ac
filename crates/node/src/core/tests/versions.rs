//! Members of several versions.

use super::*;
use crate::versions::{later, older};

/// A member of the version before.
const OLDER: u64 = 3;

/// A member of a version to come.
const LATER: u64 = 1;

impl Table {
    /// Delivers everything, as its sender says it and as far as its receiver understands it.
    fn settle_versions(&mut self) {
        while !self.frames.is_empty() {
            for (from, to, mut frame) in std::mem::take(&mut self.frames) {
                if from == LATER {
                    frame = later(frame);
                }
                if [from, to].contains(&OLDER) {
                    frame = older(frame);
                }
                self.does(to, Input::Frame(NodeId(from), frame));
            }
        }
    }

    fn elect_among_versions(&mut self, node: u64) {
        for _ in 0..3 {
            self.now += Duration::from_secs(3);
            self.does(node, Input::Tick);
            self.settle_versions();
            if self.cores[&node].standing().serving {
                return;
            }
        }
        panic!("{node} is not elected");
    }
}

/// Whoever leads, everybody is served, and reads are confirmed.
#[test]
pub(super) fn members_of_three_versions_agree() {
    let mut table = Table::new();
    for (leader, token) in NODES.into_iter().zip([10, 20, 30]) {
        table.elect_among_versions(leader);
        for (token, node) in (token..).zip(NODES) {
            table.put(node, token, "k");
            table.settle_versions();
            assert!(is_put(table.replies.get(&token)), "led by {leader}, at {node}");
            table.does(node, Input::ReadPoint(Token(token)));
            table.settle_versions();
            assert_eq!(table.points.get(&token), Some(&Ok(())), "led by {leader}, at {node}");
        }
    }
    let states = NODES.map(|node| table.cores[&node].machine().view().hash().unwrap());
    assert!(states.iter().all(|state| *state == states[0]));
}
