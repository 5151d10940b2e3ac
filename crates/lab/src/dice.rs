//! Seeded chance.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): the same seed gives the same numbers on every platform and in
//! every version of this crate. Everything that draws has a stream of its own (each link, each node, the
//! faults), so that leaving a fault out of a script disturbs the rest of a run as little as possible: that
//! is what makes shrinking and forking work.

/// A stream of chance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of a seed that is independent of those with other labels.
    #[must_use]
    pub fn stream(seed: u64, labels: &[u64]) -> Self {
        let mut state = Self(seed ^ 0x6c61_625f_6469_6365);
        for &label in labels {
            state = Self(state.draw() ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        }
        Self(state.draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `0..bound`; 0 if the bound is 0. The bias is below `bound / 2^32` for bounds below `2^32`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(u64::MAX)
    }

    /// In `low..=high`; `low` if there is nothing between.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.draw() >> 63 == 1
    }

    /// A place in something of this length; 0 if it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        let bound = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// One of these, if there are any.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_seed_determines_the_numbers_and_labels_part_the_streams() {
        let draw = |mut dice: Dice| [(); 6].map(|()| dice.below(1000));
        assert_eq!(draw(Dice::new(7)), draw(Dice::new(7)));
        assert_ne!(draw(Dice::new(7)), draw(Dice::new(8)));
        assert_eq!(draw(Dice::stream(7, &[1, 2])), draw(Dice::stream(7, &[1, 2])));
        assert_ne!(draw(Dice::stream(7, &[1, 2])), draw(Dice::stream(7, &[2, 1])));
    }

    #[test]
    fn every_value_comes_up_about_equally_often() {
        let mut dice = Dice::new(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[dice.index(10)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(0, dice.below(0));
    }
}
