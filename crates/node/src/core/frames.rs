//! Frames for peers, under construction.

use std::collections::BTreeMap;

use prost::Message as _;
use store::NodeId;

use super::effects::Frames;
use crate::wire::pb;

/// A frame that has so much takes in no more, so that thousands of ranges that have something for one
/// peer at once neither build a frame that the peer would not take nor keep what else is for it waiting.
const FRAME_BYTES: usize = 4 << 20;

/// One or more frames for each peer, in the order in which they are to be sent.
#[derive(Default)]
pub(super) struct FramesOut(BTreeMap<NodeId, Vec<Building>>);

#[derive(Default)]
struct Building {
    frame: pb::Frame,
    bytes: usize,
}

impl FramesOut {
    /// The frame for `node` that takes in something of so many bytes next.
    pub(super) fn with_room(&mut self, node: NodeId, bytes: usize) -> &mut pb::Frame {
        let frames = self.0.entry(node).or_default();
        if frames.last().is_none_or(|last| last.bytes > 0 && last.bytes + bytes > FRAME_BYTES) {
            frames.push(Building::default());
        }
        let last = frames.last_mut().expect("there is one");
        last.bytes += bytes;
        &mut last.frame
    }

    pub(super) fn message(&mut self, node: NodeId, message: pb::GroupMessage) {
        self.with_room(node, message.encoded_len()).messages.push(message);
    }

    /// All of them, encoded.
    pub(super) fn encode(self) -> Frames {
        let frames = self.0.into_iter();
        let each = frames.flat_map(|(node, frames)| frames.into_iter().map(move |one| (node, one)));
        each.map(|(node, one)| (node, one.frame.encode_to_vec().into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_and_keep_their_order() {
        let mut frames = FramesOut::default();
        let sizes = [10, FRAME_BYTES / 2, FRAME_BYTES / 2, 3 * FRAME_BYTES, 20, 30];
        for (id, bytes) in (0..).zip(sizes) {
            let forward = pb::Forward { id, request: vec![0; bytes].into(), ..Default::default() };
            frames.with_room(NodeId(1), forward.encoded_len()).forwards.push(forward);
        }
        frames.with_room(NodeId(2), 0).read_points.push(pb::ReadPoint { id: 9 });
        let sent: Vec<_> = frames
            .encode()
            .into_iter()
            .map(|(node, bytes)| {
                let frame = pb::Frame::decode(bytes).unwrap();
                (node.0, frame.forwards.into_iter().map(|forward| forward.id).collect::<Vec<_>>())
            })
            .collect();
        let expected = [(1, vec![0, 1]), (1, vec![2]), (1, vec![3]), (1, vec![4, 5]), (2, vec![])];
        assert_eq!(sent, expected);
    }
}
