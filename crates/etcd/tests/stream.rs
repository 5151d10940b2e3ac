//! A range in parts is the range in one.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use etcd::{Error, Limits, RangeStream};
use proto::etcdserverpb as pb;
use support::random::{self, Random};
use support::{Solo, get, put, span, twin};

fn limits(stream_chunk_bytes: usize) -> Limits {
    Limits { stream_chunk_bytes, ..Limits::default() }
}

fn parts(
    solo: &Solo,
    request: &pb::RangeRequest,
    chunk_bytes: usize,
) -> Result<Vec<pb::RangeResponse>, Error> {
    let view = solo.machine.view();
    let mut stream = RangeStream::begin(&view, request.clone(), &limits(chunk_bytes))?;
    let mut parts = Vec::new();
    while let Some(part) = stream.next(&view)? {
        parts.push(twin::<_, pb::RangeStreamResponse>(&part).range_response.unwrap());
    }
    assert_eq!(stream.next(&view), Ok(None));
    Ok(parts)
}

#[test]
fn the_parts_are_the_whole() {
    let mut split = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut solo = Solo::new();
        for _ in 0..40 {
            let _ = solo.put(random::put(&mut random));
        }
        for _ in 0..60 {
            let mut request = random::range(&mut random, solo.revision());
            let mut filters = [
                &mut request.min_mod_revision,
                &mut request.max_mod_revision,
                &mut request.min_create_revision,
                &mut request.max_create_revision,
            ];
            filters.iter_mut().for_each(|filter| **filter = 0);
            request.sort_target = request.sort_target.min(0);
            let whole = solo.range(request.clone());
            let in_parts = parts(&solo, &request, random.pick(&[1, 20, 60, 10_000]));
            if request.sort_order == 2
                && !matches!(whole, Err(Error::EmptyKey | Error::InvalidSortOption))
            {
                assert_eq!(in_parts, Err(Error::StreamSort));
                continue;
            }
            let in_parts = match (whole.clone(), in_parts) {
                (Err(whole), Err(in_parts)) => {
                    assert_eq!(whole, in_parts);
                    continue;
                }
                (_, in_parts) => in_parts.unwrap(),
            };
            let (last, before) = in_parts.split_last().unwrap();
            for part in before {
                assert!(part.header.is_none() && !part.more && part.count == 0);
                assert!(!part.kvs.is_empty());
            }
            split += usize::from(!before.is_empty());
            let kvs = in_parts.iter().flat_map(|part| part.kvs.clone()).collect();
            assert_eq!(pb::RangeResponse { kvs, ..last.clone() }, whole.unwrap(), "{request:?}");
        }
    }
    assert!(split > 100, "{split}");
}

#[test]
fn a_stream_stays_at_its_revision() {
    let mut solo = Solo::new();
    for key in ["a", "b", "c"] {
        solo.put(put(key, "old")).unwrap();
    }
    let view = solo.machine.view();
    let mut stream = RangeStream::begin(&view, span("a", "\0"), &limits(1)).unwrap();
    let mut kvs = Vec::new();
    let mut revision = None;
    for key in ["b", "c", "d", "e"] {
        solo.put(put(key, "new")).unwrap();
        if let Some(part) = stream.next(&solo.machine.view()).unwrap() {
            let part: pb::RangeStreamResponse = twin(&part);
            let part = part.range_response.unwrap();
            revision = revision.or(part.header.map(|header| header.revision));
            kvs.extend(part.kvs);
        }
    }
    assert_eq!((kvs.len(), revision), (3, Some(4)));
    assert!(kvs.iter().all(|kv| kv.value == "old"));
}

#[test]
fn a_compaction_above_it_ends_a_stream() {
    let mut solo = Solo::new();
    for key in ["a", "b", "c"] {
        solo.put(put(key, "")).unwrap();
    }
    let view = solo.machine.view();
    let mut stream = RangeStream::begin(&view, span("a", "\0"), &limits(1)).unwrap();
    stream.next(&view).unwrap();
    solo.put(put("d", "")).unwrap();
    solo.compact(5).unwrap();
    assert_eq!(stream.next(&solo.machine.view()), Err(Error::Compacted));
}

#[test]
fn a_stream_has_no_order_and_no_filters() {
    let solo = Solo::new();
    let begin = |request| parts(&solo, &request, 100).map(|_| ());
    assert_eq!(begin(pb::RangeRequest { sort_order: 1, ..get("a") }), Ok(()));
    assert_eq!(begin(pb::RangeRequest { sort_order: 2, ..get("a") }), Err(Error::StreamSort));
    assert_eq!(begin(pb::RangeRequest { sort_target: 1, ..get("a") }), Err(Error::StreamSort));
    assert_eq!(
        begin(pb::RangeRequest { max_mod_revision: 1, ..get("a") }),
        Err(Error::StreamFilter)
    );
    assert_eq!(begin(get("")), Err(Error::EmptyKey));
}
