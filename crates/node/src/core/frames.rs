//! Frames for peers, under construction.

use std::collections::BTreeMap;

use prost::Message as _;
use raft::Body;
use store::{Envelope, NodeId};

use super::effects::{FrameOut, Frames, Lane};
use crate::wire::{self, pb};

/// A frame that has so much takes in no more, so that thousands of ranges that have something for one
/// peer at once neither build a frame that the peer would not take nor keep what else is for it waiting.
const FRAME_BYTES: usize = 4 << 20;

/// One or more frames for each peer and lane, in the order in which they are to be sent.
#[derive(Default)]
pub(super) struct FramesOut(BTreeMap<(NodeId, Lane), Vec<Building>>);

#[derive(Default)]
struct Building {
    frame: pb::Frame,
    bytes: usize,
}

impl FramesOut {
    /// The frame for `node`, on the way of what comes first, that takes in something of so many bytes next.
    pub(super) fn first(&mut self, node: NodeId, bytes: usize) -> &mut pb::Frame {
        self.with_room(node, Lane::First, bytes)
    }

    /// The same of what takes long.
    pub(super) fn bulk(&mut self, node: NodeId, bytes: usize) -> &mut pb::Frame {
        self.with_room(node, Lane::Bulk, bytes)
    }

    fn with_room(&mut self, node: NodeId, lane: Lane, bytes: usize) -> &mut pb::Frame {
        let frames = self.0.entry((node, lane)).or_default();
        if frames.last().is_none_or(|last| last.bytes > 0 && last.bytes + bytes > FRAME_BYTES) {
            frames.push(Building::default());
        }
        let last = frames.last_mut().expect("there is one");
        last.bytes += bytes;
        &mut last.frame
    }

    pub(super) fn message(&mut self, node: NodeId, envelope: Envelope) {
        let lane = match envelope.message.body {
            // One without entries follows those before it.
            Body::Append { .. } => Lane::Bulk,
            _ => Lane::First,
        };
        let message = wire::message::encode(envelope);
        self.with_room(node, lane, message.encoded_len()).messages.push(message);
    }

    /// All of them, encoded.
    pub(super) fn encode(self) -> Frames {
        let frames = self.0.into_iter();
        let each = frames.flat_map(|(way, frames)| frames.into_iter().map(move |one| (way, one)));
        let out = |((to, lane), one): (_, Building)| FrameOut {
            to,
            lane,
            bytes: one.frame.encode_to_vec().into(),
        };
        each.map(out).collect()
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
            frames.bulk(NodeId(1), forward.encoded_len()).forwards.push(forward);
        }
        frames.first(NodeId(2), 0).read_points.push(pb::ReadPoint { id: 9 });
        let sent: Vec<_> = frames
            .encode()
            .into_iter()
            .map(|out| {
                let frame = pb::Frame::decode(out.bytes).unwrap();
                (out.to.0, frame.forwards.into_iter().map(|forward| forward.id).collect::<Vec<_>>())
            })
            .collect();
        let expected = [(1, vec![0, 1]), (1, vec![2]), (1, vec![3]), (1, vec![4, 5]), (2, vec![])];
        assert_eq!(sent, expected);
    }
}
