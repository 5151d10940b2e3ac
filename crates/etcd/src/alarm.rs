//! Alarms: NOSPACE stops writes that add to the state, CORRUPT stops all.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::AlarmType;

use crate::draft::Draft;
use crate::error::Error;
use crate::machine::Alarms;
use crate::meta;

fn message(kind: i32, member_id: u64) -> pb::AlarmMember {
    pb::AlarmMember { member_id, alarm: kind }
}

/// The alarms raised of a kind, or of every kind for NONE; by kind and member.
pub(crate) fn list(draft: &Draft<'_>, kind: i32) -> Result<Vec<pb::AlarmMember>, Error> {
    let rows = draft.meta_scan(meta::ALARMS)?;
    let alarms = rows.keys().filter_map(|key| meta::alarm_of(key));
    let wanted = alarms.filter(|(other, _)| kind == AlarmType::None as i32 || *other == kind);
    Ok(wanted.map(|(kind, member)| message(kind, member)).collect())
}

/// Which kinds are raised.
pub(crate) fn raised(draft: &Draft<'_>) -> Result<Alarms, Error> {
    let alarms = list(draft, AlarmType::None as i32)?;
    let any = |kind: AlarmType| alarms.iter().any(|alarm| alarm.alarm == kind as i32);
    Ok(Alarms { no_space: any(AlarmType::Nospace), corrupt: any(AlarmType::Corrupt) })
}

/// Raises an alarm; returns it, also if it was raised already. NONE raises nothing.
pub(crate) fn activate(
    draft: &mut Draft<'_>,
    member_id: u64,
    kind: i32,
) -> Result<Option<pb::AlarmMember>, Error> {
    if kind == AlarmType::None as i32 {
        return Ok(None);
    }
    let key = meta::alarm(kind, member_id);
    if draft.meta_get(&key)?.is_none() {
        draft.set(key, Some(Bytes::new()));
    }
    Ok(Some(message(kind, member_id)))
}

/// Clears an alarm; returns it if it was raised.
pub(crate) fn deactivate(
    draft: &mut Draft<'_>,
    member_id: u64,
    kind: i32,
) -> Result<Option<pb::AlarmMember>, Error> {
    let key = meta::alarm(kind, member_id);
    if draft.meta_get(&key)?.is_none() {
        return Ok(None);
    }
    draft.set(key, None);
    Ok(Some(message(kind, member_id)))
}
