//! The arithmetic against oracles that try every subset, and tables worked out by hand.

use std::collections::{BTreeMap, BTreeSet};

use quorum::{INLINE_VOTERS, Joint, Majority, Reached, Verdict, majority_of};

type Set = BTreeSet<u8>;

/// Whether `members` (a bit mask over `voters` in order) holds more than half of them.
fn is_majority(voters: &[u8], members: u32) -> bool {
    2 * members.count_ones() as usize > voters.len()
}

/// The greatest value such that some majority, found by trying all subsets, has reached it.
fn oracle_reached(voters: &Set, of: &BTreeMap<u8, u64>) -> Reached<u64> {
    let voters: Vec<u8> = voters.iter().copied().collect();
    if voters.is_empty() {
        return Reached::Everything;
    }
    let mut best = Reached::Nothing;
    for members in 0..1u32 << voters.len() {
        if !is_majority(&voters, members) {
            continue;
        }
        let lowest = (0..voters.len())
            .filter(|n| members & (1 << n) != 0)
            .map(|n| of.get(&voters[n]).copied())
            .min()
            .flatten();
        if let Some(value) = lowest {
            best = best.max(Reached::UpTo(value));
        }
    }
    best
}

/// Tries every way in which the missing answers could turn out, and every majority.
fn oracle_verdict(halves: [&Set; 2], of: &BTreeMap<u8, bool>) -> Verdict {
    let all: Vec<u8> = halves[0].union(halves[1]).copied().collect();
    let out: Vec<u8> = all.iter().copied().filter(|v| !of.contains_key(v)).collect();
    let won_if = |answers: &BTreeMap<u8, bool>| {
        halves.iter().all(|half| {
            let voters: Vec<u8> = half.iter().copied().collect();
            voters.is_empty()
                || (0..1u32 << voters.len()).any(|members| {
                    is_majority(&voters, members)
                        && (0..voters.len())
                            .filter(|n| members & (1 << n) != 0)
                            .all(|n| answers.get(&voters[n]) == Some(&true))
                })
        })
    };
    let futures = (0..1u32 << out.len()).map(|bits| {
        let mut answers = of.clone();
        for (n, voter) in out.iter().enumerate() {
            answers.insert(*voter, bits & (1 << n) != 0);
        }
        won_if(&answers)
    });
    let (mut can_win, mut can_lose) = (false, false);
    for won in futures {
        can_win |= won;
        can_lose |= !won;
    }
    match (can_win, can_lose) {
        (true, false) => Verdict::Won,
        (false, _) => Verdict::Lost,
        (true, true) => Verdict::Open,
    }
}

/// A small generator (PCG-XSH-RR's multiplier, high bits), for larger sets than can be exhausted.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn majority_sizes() {
    assert_eq!([1, 2, 2, 3, 3, 4, 4], [1, 2, 3, 4, 5, 6, 7].map(majority_of));
}

#[test]
fn reached_equals_the_oracle_for_every_small_input() {
    // Every assignment of {nothing, 0, 1, 2, 3} to up to five voters.
    for count in 0..=5u32 {
        let voters: Set = (1..=u8::try_from(count).unwrap()).collect();
        for code in 0..5u32.pow(count) {
            let mut of = BTreeMap::new();
            for voter in &voters {
                let digit = code / 5u32.pow(u32::from(*voter) - 1) % 5;
                if digit > 0 {
                    of.insert(*voter, u64::from(digit) - 1);
                }
            }
            let got = Majority(&voters).reached(|v| of.get(&v).copied());
            assert_eq!(oracle_reached(&voters, &of), got, "{of:?} of {voters:?}");
        }
    }
}

#[test]
fn joint_reached_equals_the_oracle() {
    let mut dice = Dice(7);
    for _ in 0..4_000 {
        let mut sets = [Set::new(), Set::new()];
        let mut of = BTreeMap::new();
        for voter in 1..=7 {
            for set in &mut sets {
                if dice.below(2) == 0 {
                    set.insert(voter);
                }
            }
            if dice.below(4) > 0 {
                of.insert(voter, dice.below(6));
            }
        }
        let [incoming, outgoing] = &sets;
        let got = Joint { incoming, outgoing }.reached(|v| of.get(&v).copied());
        let expected = oracle_reached(incoming, &of).min(oracle_reached(outgoing, &of));
        assert_eq!(expected, got, "{of:?} of {sets:?}");
    }
}

#[test]
fn sets_too_large_for_the_stack_equal_the_oracle() {
    let voters: Set = (1..=u8::try_from(INLINE_VOTERS).unwrap() + 1).collect();
    let mut dice = Dice(11);
    for _ in 0..4 {
        let of: BTreeMap<u8, u64> = voters.iter().map(|v| (*v, dice.below(9))).collect();
        assert_eq!(
            oracle_reached(&voters, &of),
            Majority(&voters).reached(|v| of.get(&v).copied())
        );
    }
}

#[test]
fn verdicts_equal_the_oracle_for_every_small_input() {
    // Every pair of subsets of four voters, every answer of {out, no, yes} by each.
    for sets in 0..256u32 {
        let half =
            |shift: u32| -> Set { (0..4).filter(|n| sets >> shift & (1 << n) != 0).collect() };
        let (incoming, outgoing) = (half(0), half(4));
        for code in 0..81u32 {
            let mut of = BTreeMap::new();
            for voter in 0..4u8 {
                match code / 3u32.pow(u32::from(voter)) % 3 {
                    0 => {}
                    digit => drop(of.insert(voter, digit == 2)),
                }
            }
            let joint = Joint { incoming: &incoming, outgoing: &outgoing };
            let got = joint.verdict(|v| of.get(&v).copied());
            assert_eq!(oracle_verdict([&incoming, &outgoing], &of), got, "{of:?} {joint:?}");
            if outgoing.is_empty() {
                assert_eq!(got, Majority(&incoming).verdict(|v| of.get(&v).copied()));
            }
        }
    }
}

/// A known way to get it wrong: sorting only the answers that are there, or picking the middle
/// of an even set from the wrong end, commits without a quorum.
#[test]
fn regression_4_no_commit_without_a_quorum_from_a_sorting_shortcut() {
    let four: Set = [1, 2, 3, 4].into();
    // Two of four is no majority, whichever way the values are sorted.
    let half = |v: u8| Some(if v <= 2 { 9u64 } else { 3 });
    assert_eq!(Reached::UpTo(3), Majority(&four).reached(half));
    // Three have not answered: the one answer is not the median of the answers.
    let one = |v: u8| (v == 1).then_some(9u64);
    assert_eq!(Reached::Nothing, Majority(&four).reached(one));
    // Non-voters never count.
    let two: Set = [1, 2].into();
    assert_eq!(Reached::UpTo(1), Majority(&two).reached(|v| Some(u64::from(v))));
}

#[test]
fn the_empty_set_forbids_nothing() {
    let none = Set::new();
    assert_eq!(Reached::Everything, Majority(&none).reached(|_| Some(1u64)));
    assert_eq!(None, Reached::<u64>::Everything.definite());
    assert_eq!(Verdict::Won, Majority(&none).verdict(|_| None));
}
