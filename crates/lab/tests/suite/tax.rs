//! What distance costs: what was predicted is what is measured.

use lab::process::NodeId;
use lab::script::Map;
use lab::tax;

#[test]
fn a_write_takes_the_round_trip_to_the_nearest_quorum_from_every_place() {
    let taxes = tax::all().unwrap();
    assert_eq!(taxes.len(), 3 * (3 + 5 + 7));
    for tax in &taxes {
        let off = tax.simulated_us.abs_diff(tax.predicted_us);
        assert!(off * 10 <= tax.predicted_us, "{tax:?}");
    }
}

/// By hand: Virginia has Oregon at 65 ms and Ireland at 67, Tokyo is farther.
#[test]
fn the_prediction_is_what_a_person_would_compute() {
    let at = |n, place| tax::predicted_us(&Map::Globe, n, NodeId(place));
    assert_eq!([at(3, 0), at(3, 1), at(3, 2)], [67_000, 67_000, 145_000]);
    assert_eq!(at(5, 0), 67_000, "Oregon and Ireland");
    assert_eq!(at(7, 5), 175_000, "Sao Paulo: Virginia, then Ireland and Oregon");
}
