//! What an entry carries, as bytes.
//!
//! Data is stored as it is. A membership change is `transition: u8`, `steps: u32`, for each step
//! `what: u8` and `replica: u64`, and the context is the rest.

use std::sync::Arc;

use bytes::Bytes;
use raft::{MembershipChange, MembershipStep, Payload, ReplicaId, Transition};

const EMPTY: u8 = 0;
const DATA: u8 = 1;
const MEMBERSHIP: u8 = 2;

const STEPS_AT: usize = 5;
const STEP_BYTES: usize = 9;

/// The kind under which the payload is stored.
pub(super) fn kind(payload: &Payload) -> u8 {
    match payload {
        Payload::Empty => EMPTY,
        Payload::Data(_) => DATA,
        Payload::Membership(_) => MEMBERSHIP,
    }
}

/// Bytes that [`encode`] will write.
pub(super) fn encoded_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Empty => 0,
        Payload::Data(data) => data.len(),
        Payload::Membership(change) => {
            STEPS_AT + STEP_BYTES * change.steps.len() + change.context.len()
        }
    }
}

pub(super) fn encode(payload: &Payload, into: &mut Vec<u8>) {
    match payload {
        Payload::Empty => {}
        Payload::Data(data) => into.extend_from_slice(data),
        Payload::Membership(change) => {
            into.push(match change.transition {
                Transition::Auto => 0,
                Transition::JointImplicit => 1,
                Transition::JointExplicit => 2,
                Transition::LeaveJoint => 3,
            });
            let steps = u32::try_from(change.steps.len()).expect("far fewer steps than 2^32");
            into.extend_from_slice(&steps.to_le_bytes());
            for step in &change.steps {
                let (what, replica) = match step {
                    MembershipStep::AddVoter(replica) => (0, replica),
                    MembershipStep::AddLearner(replica) => (1, replica),
                    MembershipStep::Remove(replica) => (2, replica),
                };
                into.push(what);
                into.extend_from_slice(&replica.get().to_le_bytes());
            }
            into.extend_from_slice(&change.context);
        }
    }
}

/// The reverse of [`encode`]; `None` if the bytes are not what it writes. Shares `data`.
pub(super) fn decode(kind: u8, data: Bytes) -> Option<Payload> {
    match kind {
        EMPTY => data.is_empty().then_some(Payload::Empty),
        DATA => Some(Payload::Data(data)),
        MEMBERSHIP => decode_membership(&data).map(|change| Payload::Membership(Arc::new(change))),
        _ => None,
    }
}

fn decode_membership(data: &Bytes) -> Option<MembershipChange> {
    let transition = match data.first()? {
        0 => Transition::Auto,
        1 => Transition::JointImplicit,
        2 => Transition::JointExplicit,
        3 => Transition::LeaveJoint,
        _ => return None,
    };
    let count = u32::from_le_bytes(data.get(1..STEPS_AT)?.try_into().ok()?);
    let steps_end = STEPS_AT.checked_add(STEP_BYTES.checked_mul(usize::try_from(count).ok()?)?)?;
    let mut steps = Vec::new();
    for step in data.get(STEPS_AT..steps_end)?.chunks_exact(STEP_BYTES) {
        let replica = ReplicaId::new(u64::from_le_bytes(step[1..].try_into().ok()?))?;
        steps.push(match step[0] {
            0 => MembershipStep::AddVoter(replica),
            1 => MembershipStep::AddLearner(replica),
            2 => MembershipStep::Remove(replica),
            _ => return None,
        });
    }
    Some(MembershipChange { transition, steps, context: data.slice(steps_end..) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(payload: &Payload) {
        let mut bytes = Vec::new();
        encode(payload, &mut bytes);
        assert_eq!(bytes.len(), encoded_bytes(payload));
        let bytes = Bytes::from(bytes);
        assert_eq!(decode(kind(payload), bytes.clone()).as_ref(), Some(payload));
        if let Payload::Membership(_) = payload {
            for end in 0..STEPS_AT + STEP_BYTES * 3 {
                assert_eq!(decode(MEMBERSHIP, bytes.slice(..end)), None, "cut at {end}");
            }
        }
    }

    #[test]
    fn payloads_survive_a_round_trip() {
        let replica = |id| ReplicaId::new(id).unwrap();
        round_trip(&Payload::Empty);
        round_trip(&Payload::Data(Bytes::from_static(b"")));
        round_trip(&Payload::Data(Bytes::from_static(b"some data")));
        round_trip(&Payload::membership(MembershipChange {
            transition: Transition::JointExplicit,
            steps: vec![
                MembershipStep::AddVoter(replica(1)),
                MembershipStep::AddLearner(replica(u64::MAX)),
                MembershipStep::Remove(replica(7)),
            ],
            context: Bytes::from_static(b"context"),
        }));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode(EMPTY, Bytes::from_static(b"x")), None);
        assert_eq!(decode(9, Bytes::new()), None);
        assert_eq!(decode(MEMBERSHIP, Bytes::from_static(&[4, 0, 0, 0, 0])), None);
        let zero_replica = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode(MEMBERSHIP, Bytes::copy_from_slice(&zero_replica)), None);
    }
}
