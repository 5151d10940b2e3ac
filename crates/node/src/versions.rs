//! How members of other versions speak, for a network that is simulated.
//!
//! While a cluster is upgraded, members of two versions are in it. The wire is made for that: field numbers are for
//! ever, a new field is optional, and what a member does not understand it leaves out, message by message. These two
//! functions make that a thing that can be tried: what a member of the version before would have sent, or would have
//! taken from a frame, and what one of a version to come might send.
//!
//! Caveats: entries, memberships and effects are the same in all versions here (one that is not understood is refused,
//! as the tests of this module and of `etcd` show), and so is the stream of a snapshot; a request that is passed on is
//! of a kind that all know.

use bytes::Bytes;
use prost::Message as _;

use crate::wire::pb;

/// The frame as a member of the version before sends it, or understands it: nothing between stores, no leader that is
/// stood by, and no word of what is known to be committed in the answer to a heartbeat.
///
/// # Panics
/// If it is no frame.
#[must_use]
pub fn older(frame: Bytes) -> Bytes {
    let mut frame = pb::Frame::decode(frame).expect("what a member of ours sends is a frame");
    frame.liveness.clear();
    frame.messages.retain_mut(|message| match &mut message.body {
        Some(
            pb::Body::Fortify(_)
            | pb::Body::Fortified(_)
            | pb::Body::Counted(_)
            | pb::Body::Release(_)
            | pb::Body::Released(_),
        )
        | None => false,
        Some(pb::Body::HeartbeatResponse(response)) => {
            response.commit = 0;
            true
        }
        Some(_) => true,
    });
    frame.encode_to_vec().into()
}

/// The frame as a member of a version to come might send it: with a field more in each message, with a message
/// between replicas and one between stores of which ours knows nothing, and with a field more of its own.
///
/// # Panics
/// If it is no frame.
#[must_use]
pub fn later(frame: Bytes) -> Bytes {
    let mut frame = Parts::decode(frame).expect("what a member of ours sends is a frame");
    let Parts {
        messages,
        forwards,
        forward_replies,
        read_points,
        read_point_replies,
        liveness,
        ..
    } = &mut frame;
    for part in [messages, forwards, forward_replies, read_points, read_point_replies, liveness] {
        part.iter_mut().for_each(add_unknown);
    }
    let unknown = Unknown { says: "of a later version".to_owned() };
    // Of a range that there is, from nobody to nobody: whoever reads it has not understood.
    frame.messages.insert(0, unknown.encode_to_vec().into());
    frame.liveness.insert(0, unknown.encode_to_vec().into());
    frame.more = unknown.says;
    frame.encode_to_vec().into()
}

/// A frame in parts that are not looked into.
#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    messages: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    forwards: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    forward_replies: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    read_points: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    read_point_replies: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    liveness: Vec<Bytes>,
    #[prost(string, tag = "1000")]
    more: String,
}

/// A field that no shape of ours has.
#[derive(Clone, PartialEq, prost::Message)]
struct Unknown {
    #[prost(string, tag = "900")]
    says: String,
}

/// One message after the other is both in one.
fn add_unknown(part: &mut Bytes) {
    let mut bytes = Vec::from(std::mem::take(part));
    bytes.extend(Unknown { says: "more".to_owned() }.encode_to_vec());
    *part = bytes.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn frame() -> pb::Frame {
        pb::Frame {
            messages: wire::samples::envelopes().into_iter().map(wire::message::encode).collect(),
            liveness: wire::samples::between_stores().map(wire::liveness::encode).into(),
            read_points: vec![pb::ReadPoint { id: 7 }],
            ..Default::default()
        }
    }

    #[test]
    fn what_a_later_version_adds_is_left_out() {
        let ours = frame();
        let mut read = pb::Frame::decode(later(ours.encode_to_vec().into())).unwrap();
        assert!(wire::message::decode(read.messages.remove(0)).is_err());
        assert!(wire::liveness::decode(read.liveness.remove(0)).is_err());
        assert_eq!(read, ours);
    }

    /// An entry whose payload is of a kind that is not known is no empty one.
    #[test]
    fn an_entry_that_is_not_understood_is_refused() {
        for mut message in frame().messages {
            let Some(pb::Body::Append(append)) = &mut message.body else { continue };
            let before = append.entries.len();
            append.entries.push(pb::Entry { term: 3, ..Default::default() });
            assert!(before > 0 && wire::message::decode(message).is_err());
            return;
        }
        panic!("no entries among the samples");
    }

    #[test]
    fn an_older_version_knows_less() {
        let ours = frame();
        let read = pb::Frame::decode(older(ours.encode_to_vec().into())).unwrap();
        assert!(read.liveness.is_empty());
        assert!(!read.messages.is_empty() && read.messages.len() < ours.messages.len());
        assert_eq!(read.read_points, ours.read_points);
        assert_eq!(older(read.encode_to_vec().into()), read.encode_to_vec(), "once is enough");
    }
}
