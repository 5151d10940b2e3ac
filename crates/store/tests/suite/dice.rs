//! Seeded chance for the tests.

/// PCG-XSH-RR 64/32.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        dice.next();
        dice
    }

    fn next(&mut self) -> u32 {
        let state = self.0;
        self.0 =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = u32::try_from((((state >> 18) ^ state) >> 27) & 0xffff_ffff).expect("masked");
        mixed.rotate_right(u32::try_from(state >> 59).expect("five bits"))
    }

    /// In `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0 && bound <= u64::from(u32::MAX));
        (u64::from(self.next()) * bound) >> 32
    }

    /// In `low..=high`.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// In `low..=high`, for sizes and counts.
    pub(crate) fn size(&mut self, low: usize, high: usize) -> usize {
        let span = u64::try_from(high - low + 1).expect("a small span");
        low + usize::try_from(self.below(span)).expect("below a small span")
    }

    /// One of these.
    pub(crate) fn of<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        items[self.size(0, N - 1)]
    }
}
