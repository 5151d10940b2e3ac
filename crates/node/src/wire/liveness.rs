//! What stores say to each other about being there.

use std::time::Duration;

use store::liveness::{Epoch, Message};

use super::{Malformed, pb};

/// A message between stores, as it travels. Times are in nanoseconds.
pub(crate) fn encode(message: Message) -> pb::Liveness {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let body = match message {
        Message::Heartbeat { epoch, stamp, duration } => pb::LivenessBody::Heartbeat(pb::Asked {
            epoch: epoch.0,
            stamp_ns: nanos(stamp),
            duration_ns: nanos(duration),
        }),
        Message::Support { epoch, stamp } => pb::LivenessBody::Support(pb::Asked {
            epoch: epoch.0,
            stamp_ns: nanos(stamp),
            duration_ns: 0,
        }),
        Message::Refusal { epoch } => pb::LivenessBody::Refusal(epoch.0),
    };
    pb::Liveness { body: Some(body) }
}

/// The message again.
///
/// # Errors
/// [`Malformed`] if it is of a kind that this version does not know.
pub(crate) fn decode(message: pb::Liveness) -> Result<Message, Malformed> {
    let nanos = Duration::from_nanos;
    Ok(match message.body.ok_or(Malformed("a message between stores of an unknown kind"))? {
        pb::LivenessBody::Heartbeat(asked) => Message::Heartbeat {
            epoch: Epoch(asked.epoch),
            stamp: nanos(asked.stamp_ns),
            duration: nanos(asked.duration_ns),
        },
        pb::LivenessBody::Support(asked) => {
            Message::Support { epoch: Epoch(asked.epoch), stamp: nanos(asked.stamp_ns) }
        }
        pb::LivenessBody::Refusal(epoch) => Message::Refusal { epoch: Epoch(epoch) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_between_stores_come_back() {
        for message in crate::wire::samples::between_stores() {
            assert_eq!(decode(encode(message)).unwrap(), message);
        }
        assert!(decode(pb::Liveness { body: None }).is_err());
    }
}
